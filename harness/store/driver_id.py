"""Which process drives a run, by a name that tells whether it still lives and gives no host away."""

from __future__ import annotations

import psutil

from harness.cell.sessions import this_machine


def this_driver() -> str:
    """Return the name of this process: host, number and when it was born, since numbers are used again."""
    me = psutil.Process()
    return f"{this_machine()}:{me.pid}:{me.create_time():.0f}"


def is_alive(driver: str) -> bool:
    """Say whether a driver still runs; one on another host is taken to be alive."""
    host, _, rest = driver.partition(":")
    pid, _, born = rest.partition(":")
    if host != this_machine():
        return bool(host)
    try:
        return f"{psutil.Process(int(pid)).create_time():.0f}" == born
    except (psutil.NoSuchProcess, ValueError):
        return False
