"""The limits of a task on time and memory, held from outside, so that they hold while a strategy keeps the
interpreter lock.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from harness.contracts import Status

LOOK_S = 0.1
"""Seconds between two looks at the memory of a task."""
_PATIENCE_S = 10.0
_TREE_S = 1.0  # finding processes reads all of /proc on some machines, so it is done less often


class Stopped(Exception):
    """A task is over a limit, or its process goes on no more. lost: for a reason that is not its own."""

    def __init__(self, status: Status, reason: str, *, lost: bool = False) -> None:
        super().__init__(reason)
        self.status, self.reason, self.lost = status, reason, lost


class Limits:
    """Looks at the processes of one task. The time limit counts from when it is made.

    tree: returns the processes now.  every: seconds between two calls of it.  processes: those that are known
    at first, so that the first call can wait as long.  most: how many there were at once, at most.
    measure: returns the memory of processes in MiB.
    """

    def __init__(
        self,
        tree: Callable[[], Sequence[psutil.Process]],
        *,
        timeout_s: float,
        memory_mib: float,
        every: float = _TREE_S,
        processes: Sequence[psutil.Process] = (),
        measure: Callable[[Sequence[psutil.Process]], float] | None = None,
    ) -> None:
        self.tree, self.timeout_s, self.memory_mib, self.every = tree, timeout_s, memory_mib, every
        self.deadline = time.monotonic() + timeout_s
        self.processes = processes
        self.measure = measure or private_mib
        self.peak_mib = 0.0
        self.most = len(processes)
        self._look_due = 0.0
        self._stopped = 0
        self._tree_due = time.monotonic() + every if processes else 0.0

    def hold(self) -> None:
        """Look, where it is time to.

        Raises:
            Stopped: over a limit.
        """
        now = time.monotonic()
        if now > self.deadline:
            raise Stopped(Status.TIMEOUT, f"over its time limit of {self.timeout_s:g} s")
        if now < self._look_due:
            return
        if now >= self._tree_due:
            self.processes = self.tree()
            self.most = max(self.most, len(self.processes))
            self._tree_due = now + self.every
            self._stopped = self._stopped + 1 if _are_stopped(self.processes) else 0
            if self._stopped * self.every > _PATIENCE_S:
                raise Stopped(
                    Status.FAILED, f"its processes were stopped (SIGSTOP) for {_PATIENCE_S:g} s", lost=True
                )
        self._look_due = now + min(LOOK_S, self.every)
        used = self.measure(self.processes)
        self.peak_mib = max(self.peak_mib, used)
        if used > self.memory_mib:
            raise Stopped(
                Status.OUT_OF_MEMORY, f"used {used:.0f} MiB, the limit is {self.memory_mib:.0f} MiB"
            )


def _are_stopped(processes: Sequence[psutil.Process]) -> bool:
    """Whether the first process of a task was stopped by a signal; one that a debugger holds was not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(processes) and processes[0].status() == psutil.STATUS_STOPPED
    return False


def private_mib(processes: Sequence[psutil.Process]) -> float:
    """Return the memory of processes that is not shared with others (mapped files: libraries, stages)."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            memory = process.memory_info()
            total += memory.rss - getattr(memory, "shared", 0)
    return total / 2**20


def own_mib(processes: Sequence[psutil.Process]) -> float:
    """Return the memory of processes that no file of a disk stands behind, shared or not, swapped out or not:
    that of a task which is handed nothing in shared memory, and could hide its own there.
    """
    elsewhere = 0
    for process in processes:
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
            elsewhere += sum(map(int, re.findall(r"^(?:RssShmem|VmSwap):\s*(\d+) kB$", status, re.MULTILINE)))
    return private_mib(processes) + elsewhere / 2**10


__all__ = ["LOOK_S", "Limits", "Stopped", "own_mib", "private_mib"]
