"""The first process of the sandbox, as seen from outside: started once, it forks one process per task (`child`) and cleans up after it."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

_START_S = 120.0
_SETTLE_S = 30.0
_UNSHARE = ("unshare", "--user", "--map-root-user", "--net", "--ipc", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


class Nursery:
    """The process that forks one process per task. It lives as long as this one.

    apart: whether it has namespaces of its own.  home: a folder that holds the scratch folder.
    """

    def __init__(self, *, apart: bool) -> None:
        self.apart = apart
        self.is_ready = False
        self.asking, theirs = socket.socketpair()
        command = [*(_UNSHARE if apart else ()), sys.executable, "-I", "-m", "harness.sandbox.child", str(theirs.fileno())]
        self.home = Path(tempfile.mkdtemp(prefix="owb-sandbox-"))
        nothing = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, cwd=self.home, env=self._environment(),
                                        start_new_session=True, pass_fds=[theirs.fileno()])  # fmt: skip
        theirs.close()
        atexit.register(self.close)

    @property
    def is_well(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def ask(self, inward: int, outward: int) -> None:
        """Have a process started that reads from `inward` and writes to `outward`; wait until the libraries are loaded the first time.

        Raises:
            OSError: it does not start.
        """
        if not self.is_ready and not (select.select([self.asking], [], [], _START_S)[0] and self.asking.recv(1)):
            self.close()
            raise OSError("the sandbox does not start")
        self.is_ready = True
        socket.send_fds(self.asking, [b"."], [inward, outward])

    def tasks(self) -> list[psutil.Process]:
        """Return the process of the task and all that it started; at rest there is none."""
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(self.process.pid)
            if self.apart:  # `unshare` itself, which waits for the first process of the namespace
                inside = first.children()
                return inside[0].children(recursive=True) if inside else []
            return first.children(recursive=True)
        return []

    def settle(self) -> None:
        """Kill what is left of the task and wait until the nursery is ready for another; where it is not, end it."""
        for process in self.tasks():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if not (select.select([self.asking], [], [], _SETTLE_S)[0] and self.asking.recv(1)):
            self.close()

    def close(self) -> None:
        """End it and everything in it."""
        left = self.tasks()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        self.asking.close()
        shutil.rmtree(self.home, ignore_errors=True)
        atexit.unregister(self.close)

    def _environment(self) -> dict[str, str]:
        """Return all that its processes are told of their surroundings."""
        place = str(self.home / "scratch")
        return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": place, "TMPDIR": place, "OWB_CACHE": place, "OMP_NUM_THREADS": "1"}


__all__ = ["Nursery"]
