"""Which process drives a run, by a name that tells whether it still lives and gives no host away."""

from __future__ import annotations

from pathlib import Path

import psutil

from harness.cell.sessions import this_machine

_PROCESSES = Path("/proc/self/ns/pid")


def this_driver() -> str:
    """Return the name of this process: where it can be seen, number and when it was born, since numbers are used
    again.
    """
    me = psutil.Process()
    return f"{_here()}:{me.pid}:{me.create_time():.0f}"


def is_alive(driver: str) -> bool:
    """Say whether a driver still runs; one that cannot be seen from here, on another host or in another container,
    is taken to be alive.
    """
    here, _, rest = driver.partition(":")
    pid, _, born = rest.partition(":")
    if here != _here():
        return bool(here)
    try:
        process = psutil.Process(int(pid))
        return process.status() != psutil.STATUS_ZOMBIE and f"{process.create_time():.0f}" == born
    except (psutil.NoSuchProcess, ValueError):
        return False


def _here() -> str:
    """Return a name for this machine and, where there is such a thing, for the namespace of its processes."""
    try:
        return f"{this_machine()}-{_PROCESSES.stat().st_ino}"
    except OSError:
        return this_machine()
