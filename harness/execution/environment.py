"""What a record says of the machine that a cell ran on, and of how it computed."""

from __future__ import annotations

import os
import platform
from typing import Any

from harness.execution.machine import Machine
from harness.protocol import fingerprint


def environment(machine: Machine) -> dict[str, Any]:
    """Return what a reader needs to know of the machine and of how it computed, without its name, user or
    paths.

    Device, number format and compilation are named where they are not the usual ones.
    """
    usual = {
        "device": (machine.device, "cpu"),
        "precision": (machine.precision, "float32"),
        "compile": (machine.compile, False),
    }
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads_per_worker": machine.threads,
        "libraries": fingerprint.libraries(),
        **{name: value for name, (value, default) in usual.items() if value != default},
    }
