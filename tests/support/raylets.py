"""A Ray cluster of several nodes on this machine, started by hand as `docs/cluster.md` says."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

_PATIENCE_S = 120.0
_UNSHARE = ["unshare", "--mount", "sh", "-c"]
CAN_HIDE = (
    bool(shutil.which("unshare")) and not subprocess.run([*_UNSHARE, "true"], capture_output=True).returncode
)
"""Whether processes may have mounts of their own here."""


def _hiding(folders: Sequence[Path]) -> list[str]:
    """Return the words before a command that sees empty folders in place of these."""
    mounts = "".join(f"mount -t tmpfs none '{folder}' && " for folder in folders)
    return [*_UNSHARE, f'{mounts}exec "$@"', "sh"] if folders else []


class Cluster:
    """A head and further nodes, a core each, which are ended together.

    home: where Ray looks for a token; every process of the cluster, and who joins it, has it as home folder.
    hidden: folders of which no node sees the driver's, but one of its own, which is empty, as on another machine
    (needs the right to mount: `CAN_HIDE`).  host: the address of the head.  further: variables in its environment.
    """

    def __init__(
        self,
        folder: Path,
        *,
        cores: int = 1,
        hidden: Sequence[Path] = (),
        host: str = "127.0.0.1",
        **further: str,
    ) -> None:
        self._hidden = hidden
        self.folder, self.home = folder, folder / "home"
        self.home.mkdir(exist_ok=True)
        with socket.socket() as free:
            free.bind((host, 0))
            self.address = f"{host}:{free.getsockname()[1]}"
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._sockets = tempfile.mkdtemp(prefix="owb-ray-")  # a socket's path may have 107 letters
        port = self.address.partition(":")[2]
        here = ["--node-ip-address", host] if host != "127.0.0.1" else []
        self._start(
            "head",
            cores,
            ["--head", "--port", port, "--temp-dir", self._sockets, "--include-dashboard", "false", *here],
            **further,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in [*self._nodes][::-1]:
            self.kill(name)
        shutil.rmtree(self._sockets, ignore_errors=True)

    def environment(self, **further: str) -> dict[str, str]:
        """Return the environment of what belongs to the cluster."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return {**kept, "HOME": str(self.home), "RAY_USAGE_STATS_ENABLED": "0", **further}

    def add(self, name: str, *, within: Sequence[str] = (), **further: str) -> None:
        """Have a node join, with further variables in its environment; `within`: words before its command, which put
        it in namespaces of its own.
        """
        self._start(name, 1, ["--address", self.address], within, **further)

    def processes(self, name: str) -> set[int]:
        """Return the ids of all processes of a node."""
        return {each.pid for each in psutil.Process(self._nodes[name].pid).children(recursive=True)}

    def kill(self, name: str) -> None:
        """Kill a node with all its processes, as when its machine loses power."""
        node = self._nodes.pop(name)
        if node.poll() is not None:
            return
        process = psutil.Process(node.pid)
        for each in (process, *process.children(recursive=True)):
            try:
                each.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        node.wait()

    def _start(
        self, name: str, cores: int, options: list[str], within: Sequence[str] = (), **further: str
    ) -> None:
        ray = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block"]
        size = ["--num-cpus", str(cores), "--object-store-memory", str(80 << 20)]
        here = ["--node-name", name]
        log = self.folder / f"{name}.log"
        with log.open("wb") as out:
            self._nodes[name] = subprocess.Popen(
                [*within, *_hiding(self._hidden), *ray, *options, *size, *here],
                cwd=self.folder,
                env=self.environment(**further),
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + _PATIENCE_S
        while b"block forever" not in log.read_bytes():
            assert self._nodes[name].poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
