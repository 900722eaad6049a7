"""A Ray cluster of several nodes on this machine, started by hand as `docs/cluster.md` says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

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


def _autoscaling(address: str, cores: int, starts: Mapping[str, float]) -> dict[str, Any]:
    """Return what Ray's autoscaler is told, which starts nodes on this machine by Ray's fake of a provider."""
    lists = (
        "cluster_synced_files",
        "initialization_commands",
        *(f"{whose}setup_commands" for whose in ("", "head_", "worker_")),
        *(f"{whose}_start_ray_commands" for whose in ("head", "worker")),
    )
    return {
        "cluster_name": "own",
        "max_workers": 1,
        "idle_timeout_minutes": 5,
        "upscaling_speed": 1.0,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            "disable_node_updaters": True,
            "use_node_id_as_ip": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": cores}, "node_config": {}, "max_workers": 0},
            "started": {
                "resources": {**starts, "object_store_memory": 80 << 20},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 1,
            },
        },
        "head_node_type": "ray.head.default",
        "auth": {"ssh_user": "nobody"},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in lists},
    }


class Cluster:
    """A head and further nodes, a core each, which are ended together.

    home: where Ray looks for a token; every process of the cluster, and who joins it, has it as home folder.
    starts: a kind of node that the cluster's autoscaler starts by itself, by its resources, one at most; none
    where there is no autoscaler.
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
        starts: Mapping[str, float] | None = None,
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
        options = ["--head", "--port", port, "--temp-dir", self._sockets, "--include-dashboard", "false"]
        if host != "127.0.0.1":
            options += ["--node-ip-address", host]
        if starts:
            file = folder / "autoscaler.json"
            file.write_text(json.dumps(_autoscaling(self.address, cores, starts)), encoding="utf-8")
            options += ["--autoscaling-config", str(file)]
            further |= {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        self._start("head", cores, options, **further)

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
