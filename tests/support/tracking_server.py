"""MLflow's own tracking server on this machine, which may be killed and started again with what it had."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests
from requests.exceptions import RequestException


class TrackingServer:
    """A server that keeps runs and files in a folder. host: where it listens.  uri: its address."""

    def __init__(self, folder: Path, *, host: str = "127.0.0.1") -> None:
        with socket.create_server((host, 0)) as free:
            self.port = int(free.getsockname()[1])
        self.folder, self.host, self.uri = folder, host, f"http://{host}:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        words = ["--host", self.host, "--port", str(self.port), "--workers", "1", "--serve-artifacts"]
        kept = ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        files = ["--artifacts-destination", f"{self.folder}/server-files"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words, *kept, *files],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            start_new_session=True,
        )
        until = time.monotonic() + 120
        while not self._answers():
            assert time.monotonic() < until, "the server does not start"
            time.sleep(0.2)

    def _answers(self) -> bool:
        with contextlib.suppress(RequestException):
            return requests.get(f"{self.uri}/health", timeout=5).ok
        return False

    def kill(self) -> None:
        """Kill it with all its processes, at once."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
