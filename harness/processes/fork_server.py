"""The warm parent as seen from outside: started once, asked for a process per task, cleared up after.

`ForkServer` is the process that was started; `Line` is the line to it, and to every parent that it forks with
more libraries loaded.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from harness.processes.descendants import children, descendants
from harness.processes.parent import ANSWER, BEGUN, ENDED, IMPORT, LOADED, TASK

_START_S = 120.0
_SETTLE_S = 30.0
_WITHOUT_THREADS = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""What keeps libraries from starting threads while they are loaded; a task sets its own number."""


class Line:
    """A line to a parent: asks it for one process at a time."""

    def __init__(self, asking: socket.socket) -> None:
        self.asking = asking
        self.threads = 0

    @property
    def is_ready(self) -> bool:
        """Whether its libraries are known to be loaded."""
        return self.threads > 0

    def wait_ready(self) -> None:
        """Wait until its libraries are loaded.

        Raises:
            OSError: it does not start.
        """
        if not self.is_ready:
            self.threads = self._answer(LOADED, _START_S)

    def ask(self, inward: int, outward: int) -> int:
        """Have a process started that reads from `inward` and writes to `outward`; return its id, in the
        parent's name space.

        Raises:
            OSError: the parent does not start, or is no more.
        """
        self.wait_ready()
        socket.send_fds(self.asking, [TASK], [inward, outward])
        return self._answer(BEGUN, _SETTLE_S)

    def fork(self, modules: Sequence[str]) -> Line:
        """Return a line to a parent of its own that has `modules` imported as well."""
        self.wait_ready()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(self.asking, [IMPORT + " ".join(modules).encode()], [theirs.fileno()])
        theirs.close()
        return Line(ours)

    def ended(self) -> int:
        """Wait until the process is gone, with all that it started, and return its wait status.

        Raises:
            OSError: the parent is no more, or does not get rid of it.
        """
        return self._answer(ENDED, _SETTLE_S)

    def close(self) -> None:
        """Hang up: the parent ends, and whatever task it runs."""
        self.asking.close()

    def _answer(self, kind: bytes, seconds: float) -> int:
        if select.select([self.asking], [], [], seconds)[0]:
            said = self.asking.recv(ANSWER.size)
            if said:
                found, value = ANSWER.unpack(said)
                if found == kind:
                    return int(value)
        raise OSError("the parent of processes does not answer")


class Place(NamedTuple):
    """Where a parent lives: working folder, all variables of its environment, and a command to start it with
    (`unshare`).

    apart: the folder is its own, which it clears away at its end, and Python reads nothing of the user's.
    """

    folder: Path
    environment: Mapping[str, str]
    prefix: Sequence[str] = ()
    apart: bool = False


class ForkServer:
    """The first parent. It lives as long as this process, and takes all that came of it along when it is
    closed.
    """

    def __init__(self, run: str, place: Place) -> None:
        """Start it. `run` names what runs tasks, `module:function`."""
        self.place = place
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.line = Line(ours)
        isolation, clearing = (["-I"], ["clear"]) if place.apart else ([], [])
        command = [
            *place.prefix,
            sys.executable,
            *isolation,
            "-m",
            "harness.processes.parent",
            str(theirs.fileno()),
            run,
            *clearing,
        ]
        nothing = subprocess.DEVNULL
        environment = {**place.environment, **_WITHOUT_THREADS}
        self.process = subprocess.Popen(
            command,
            stdin=nothing,
            stdout=nothing,
            stderr=nothing,
            cwd=place.folder,
            env=environment,
            start_new_session=True,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        atexit.register(self.close)

    @property
    def is_well(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def tasks(self) -> list[psutil.Process]:
        """Return all processes below the first parent: the task and all that it started; at rest there is
        none.
        """
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(self.process.pid)
            if self.place.prefix:  # the command itself, which waits for the first process of the namespace
                inside = children(first)
                return descendants(inside[0]) if inside else []
            return descendants(first)
        return []

    def close(self) -> None:
        """End it and everything in it."""
        left = self.tasks()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        kill(left)
        self.process.wait()
        self.line.close()
        atexit.unregister(self.close)


def kill(processes: Sequence[psutil.Process]) -> None:
    """Kill what is still there of them."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


__all__ = ["ForkServer", "Line", "Place", "kill"]
