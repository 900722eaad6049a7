"""A Slurm of two nodes on this machine, of Debian's package `slurm-wlm`, in a folder and with a key of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from getpass import getuser
from pathlib import Path
from types import TracebackType
from typing import Self

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "sinfo")
_PATIENCE_S = 60.0
_CONF = """
ClusterName=owb
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.sock
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdSpoolDir={folder}/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=5
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2
PartitionName=main Nodes=one,two Default=YES State=UP
"""


def lacking() -> str:
    """Name a program of Slurm's that is not installed; empty where all are."""
    return next((name for name in PROGRAMS if shutil.which(name) is None), "")


class Slurm:
    """A controller and two nodes, which are ended together."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(64))
        key.chmod(0o600)
        folder.chmod(0o755)
        (folder / "state").mkdir()
        conf = folder / "slurm.conf"
        host, ports = socket.gethostname(), _free_ports(3)
        conf.write_text(_CONF.format(host=host, user=getuser(), folder=folder, ports=ports))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))}
        self.environment = {**kept, "SLURM_CONF": str(conf), "OMP_NUM_THREADS": "1"}
        files = {"key-file": key, "socket": folder / "munge.sock", "pid-file": folder / "munge.pid"}
        files |= {"log-file": folder / "munge.log", "seed-file": folder / "munge.seed"}
        self._servers = [
            self._started(
                "munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in files.items())
            )
        ]
        _wait_for(lambda: (folder / "munge.sock").exists())
        self._servers += [
            self._started("slurmctld", "-D", "-i"),
            self._started("slurmd", "-D", "-N", "one"),
            self._started("slurmd", "-D", "-N", "two"),
        ]
        _wait_for(lambda: self._said("sinfo", "--noheader", "--format=%D %t") == "2 idle")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers[::-1]:
            server.send_signal(signal.SIGTERM)
            server.wait()

    def run(self, file: Path) -> tuple[int, str]:
        """Do a batch file as a job in its folder; return the exit code and what was printed."""
        out = file.with_suffix(".out")
        done = subprocess.run(
            ["sbatch", "--wait", f"--output={out}", file.name],
            cwd=file.parent,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            timeout=500,
        )
        return done.returncode, out.read_text()

    def _said(self, *words: str) -> str:
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True)
        return done.stdout.strip()

    def _started(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / "servers.out").open("ab") as out:
            return subprocess.Popen(words, env=self.environment, stdout=out, stderr=out, cwd=self.folder)


def _free_ports(number: int) -> list[int]:
    """Return ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)
