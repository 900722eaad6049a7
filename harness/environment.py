"""What a record says of the machine that a cell ran on, and of how it computed."""

from __future__ import annotations

import os
import platform
import socket
from typing import Any

from harness import fingerprint
from harness.contracts import Precision


def this_machine() -> str:
    """Return a name for this machine that does not give it away."""
    return fingerprint.of_value(socket.gethostname())[:12]


def session_here(session: str) -> str:
    """Return the name of a driver's `session` on this machine: costs that were measured under one name compare. Empty without one."""
    return fingerprint.of_value([session, this_machine()])[:12] if session else ""


def environment(threads: int, *, device: str = "cpu", precision: Precision = "float32", compiled: bool = False) -> dict[str, Any]:
    """Return what a reader needs to know of the machine and of how it computed, without its name, user or paths.

    Device, number format and compilation are named where they are not the usual ones.
    """
    usual = {"device": (device, "cpu"), "precision": (precision, "float32"), "compile": (compiled, False)}
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads_per_worker": threads,
        "libraries": fingerprint.libraries(),
        **{name: value for name, (value, default) in usual.items() if value != default},
    }
