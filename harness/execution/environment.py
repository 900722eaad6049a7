"""What a record says of the machine that a cell ran on, and of how it computed."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness.execution.machine import Machine
from harness.protocol import fingerprint

_WIDEST_FIRST = ("avx512f", "avx2", "avx", "sse4_2", "sve", "asimd")
"""Sets of vector instructions: libraries choose their code, and with it the order of sums, by these."""


def environment(machine: Machine, here: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what a reader needs to know of the machine and of how it computed, without its name, user or
    paths.

    `here` is what `of_this_machine` returned on the machine of the cell, by default on this one. Device,
    number format and compilation are named where they are not the usual ones.
    """
    usual = {
        "device": (machine.device, "cpu"),
        "precision": (machine.precision, "float32"),
        "compile": (machine.compile, False),
    }
    return {
        **(of_this_machine() if here is None else here),
        "threads_per_worker": machine.threads,
        **{name: value for name, (value, default) in usual.items() if value != default},
    }


def marked(found: Mapping[str, Any], keep: Path) -> dict[str, Any]:
    """Return `found` with what its libraries differ in from the driver's (`mixed`), noted in `keep`, the folder of a
    cell: one that continues elsewhere what it began with other libraries stays marked.
    """
    note = keep / "mixed.txt"
    noted = note.read_text(encoding="utf-8").splitlines() if note.is_file() else []
    differences = dict.fromkeys([*noted, *filter(None, [found.get("mixed")])])
    if not differences:
        return dict(found)
    note.write_text("\n".join(differences), encoding="utf-8")
    return {**found, "mixed": "; ".join(differences)}


def of_this_machine() -> dict[str, Any]:
    """Return versions, and which kind of machine and processor this is."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "libraries": fingerprint.libraries(),
    }


@cache
def processor() -> str:
    """Return the processor's model and its widest vector instructions, as far as the system tells."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    fields = dict(re.findall(r"^([^\t:]+?)\s*:\s*(.*)$", text, flags=re.MULTILINE))
    model = fields.get("model name") or platform.processor() or platform.machine()
    known = {*(fields.get("flags") or fields.get("Features") or "").split()}
    widest = next((name for name in _WIDEST_FIRST if name in known), "")
    return ", ".join(filter(None, [" ".join(model.split()), widest]))[:100]


__all__ = ["environment", "marked", "of_this_machine", "processor"]
