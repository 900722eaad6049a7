"""Where a worker gets its processes: forked from a warm parent, or begun anew where there is no fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from harness.processes.descendants import descendants
from harness.processes.fork_server import ForkServer, Line, Place, kill
from harness.processes.link import Link

FORKS = sys.platform.startswith("linux")
"""Whether processes are forked. macOS has fork, but its libraries do not survive it; Windows has none."""
_MOST_LINES = 8


@dataclass(frozen=True, slots=True)
class Process:
    """A process that waits for its order. tree: it and all below it.  ended: kills what is left of it, waits
    until it is gone, and says in words how it died.
    """

    link: Link
    root: psutil.Process
    tree: Callable[[], Sequence[psutil.Process]]
    ended: Callable[[], str]


class Forked:
    """Processes forked from a warm parent; `ahead` names modules that a task imports and that take long to
    load.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.fork_server = ForkServer("harness.processes.cell:task", Place(Path.cwd(), environment))
        self.lines: OrderedDict[tuple[str, ...], Line] = OrderedDict()

    def wait_ready(self) -> None:
        """Wait until the libraries are loaded."""
        self.fork_server.line.wait_ready()

    def begin(self, ahead: tuple[str, ...]) -> Process:
        """Return a new process, forked where the modules `ahead` are loaded; they are left to the task where
        loading them left a thread.
        """
        line = self._line(ahead)
        line.wait_ready()
        if line.threads > 1 and ahead:
            line = self._line(())
        inward, theirs_out = os.pipe()
        theirs_in, outward = os.pipe()
        try:
            pid = line.ask(theirs_in, theirs_out)
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        root = psutil.Process(pid)

        def tree() -> list[psutil.Process]:
            return _tree(root)

        def ended() -> str:
            kill([root])
            return _words(line.ended())

        return Process(Link(inward, outward), root, tree, ended)

    def close(self) -> None:
        """End the parents and whatever they run."""
        for line in self.lines.values():
            line.close()
        self.fork_server.close()

    def _line(self, ahead: tuple[str, ...]) -> Line:
        if ahead not in self.lines:
            self.lines[ahead] = self.fork_server.line.fork(ahead)
            if len(self.lines) > _MOST_LINES:
                self.lines.popitem(last=False)[1].close()
        self.lines.move_to_end(ahead)
        return self.lines[ahead]


class Fresh:
    """Processes begun anew for every task, which load the libraries themselves."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def wait_ready(self) -> None:
        """Return at once: there is nothing to wait for."""

    def begin(self, ahead: tuple[str, ...]) -> Process:
        """Return a new process."""
        command = [sys.executable, "-m", "harness.processes.cell"]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self.environment,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        link = Link(os.dup(process.stdout.fileno()), os.dup(process.stdin.fileno()))
        process.stdin.close()
        process.stdout.close()
        root = psutil.Process(process.pid)
        seen: list[psutil.Process] = []

        def tree() -> list[psutil.Process]:
            if process.poll() is None:
                seen[:] = _tree(root)
            else:
                kill(seen[1:])  # they would keep the pipes open
            return list(seen)

        def ended() -> str:
            tree()
            process.kill()
            kill(seen[1:])
            return _words(process.wait() if process.returncode is None else process.returncode, waited=False)

        return Process(link, root, tree, ended)

    def close(self) -> None:
        """Nothing lives on between tasks."""


def _tree(root: psutil.Process) -> list[psutil.Process]:
    """Return a process and all below it; nothing where it is gone."""
    try:
        return [root, *descendants(root)]
    except psutil.NoSuchProcess:
        return []


def _words(status: int, *, waited: bool = True) -> str:
    """Say how a process ended, from its wait status, or from what `subprocess` makes of it."""
    code = os.waitstatus_to_exitcode(status) if waited else status
    return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"


Workshop = Forked | Fresh


def surroundings(threads: int) -> dict[str, str]:
    """Return the environment of processes that run the user's own code: that of this one, where modules are
    found alike.
    """
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONHASHSEED": "0",  # else the order of a set would be another in every process
        "OMP_NUM_THREADS": str(threads),
        "TORCHINDUCTOR_COMPILE_THREADS": os.environ.get(
            "TORCHINDUCTOR_COMPILE_THREADS", str(threads)
        ),  # else each takes all cores
        # asking whether there is a GPU opens no context, which children could not use
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    }


def open_workshop(threads: int, *, forks: bool = FORKS) -> Workshop:
    """Return a workshop for processes with `threads` threads each."""
    return Forked(surroundings(threads)) if forks else Fresh(surroundings(threads))


__all__ = ["FORKS", "Forked", "Fresh", "Process", "Workshop", "open_workshop", "surroundings"]
