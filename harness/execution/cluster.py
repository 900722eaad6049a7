"""Ray: started here or joined, and nowhere else; what it has room for, and whether its own processes are
well.

`address` joins a cluster instead of starting a local one, and a Ray that this process has running already is
used and left running. A local one is for this machine alone: its servers listen on the loopback address, and
take nothing from who has not its token.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from harness.errors import UserError
from harness.execution.machine import Machine
from harness.places import home_folder

_SERVERS = ("gcs_server", "raylet")
_PATIENCE_S = 10.0
_LOOK_S = 0.5


def start(machine: Machine) -> bool:
    """Start Ray or join the cluster at the address; return False, and start nothing, where this process has
    Ray running already.

    Raises:
        UserError: Ray does not start, the address does not answer, or no node has what a worker needs.
    """
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"})
    os.environ.setdefault("OMP_NUM_THREADS", str(machine.threads))
    if machine.address is None:
        _stay_on_this_machine()
    import ray

    is_ours = machine.address is not None or not ray.is_initialized()
    if is_ours:
        _keep_quiet()
        options: dict[str, Any] = {
            "log_to_driver": False,
            "logging_level": "ERROR",
            "configure_logging": True,
        }
        if machine.address:
            options["address"] = machine.address
        else:
            _bring_token()
            options |= {
                "address": "local",
                "num_cpus": machine.processes * machine.threads,
                "include_dashboard": False,
                "object_store_memory": machine.object_store_mib * 2**20,
            }
        try:
            with _kept_awake():
                ray.init(**options)
        except Exception as error:  # Ray raises whatever it has, a bare Exception too
            stop()
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(f"cannot start Ray ({machine.address or 'local'}): {said[0]}") from error
    if shortage := _shortage(machine):
        if is_ours:
            stop()
        raise UserError(shortage)
    return is_ours


@contextlib.contextmanager
def _kept_awake() -> Iterator[None]:
    """While Ray starts, continue what is stopped of it: this process waits for its servers without a limit."""
    is_started = threading.Event()

    def look() -> None:
        while not is_started.wait(_PATIENCE_S / 4):
            for process in _started():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.status() == psutil.STATUS_STOPPED:
                        process.send_signal(signal.SIGCONT)

    watch = threading.Thread(target=look, daemon=True)
    watch.start()
    try:
        yield
    finally:
        is_started.set()
        watch.join()


def stop() -> None:
    """End the Ray of this process. What was stopped of it is killed first, with all below: its answer would
    be waited for.
    """
    import ray

    for process in _started():
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_STOPPED:
                for each in (*process.children(recursive=True), process):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        each.kill()
    left = _session_folder()
    ray.shutdown()
    if left is not None:
        shutil.rmtree(left, ignore_errors=True)
        latest = left.with_name("session_latest")
        if not latest.exists():  # where the link leads is gone
            latest.unlink(missing_ok=True)


def _session_folder() -> Path | None:
    """Return the folder of sockets and logs that a Ray of this process has made; None of one that was joined."""
    from ray._private.worker import _global_node

    if _global_node is None or not _global_node.head:
        return None
    return Path(_global_node.get_session_dir_path())


def on_one_machine(machine: Machine) -> bool:
    """Return whether all workers will run where this process does, so that they can map the same files. Ray
    has to run already.
    """
    return machine.address is None and len(_nodes()) == 1


class Watch:
    """Looks after the servers of a Ray that this process started: its own calls would wait for them, or end
    the process after a minute.
    """

    def __init__(self) -> None:
        self._servers = _servers()
        self._stopped_s = self._since_s = 0.0

    def trouble(self, seconds: float) -> str:
        """Say what is wrong, empty where all is well; `seconds` since the last look."""
        self._since_s += seconds
        if self._since_s < _LOOK_S:
            return ""
        seconds, self._since_s = self._since_s, 0.0
        if len(self._servers) < len(_SERVERS):
            return "Ray has ended"
        states = {}
        for name, server in zip(_SERVERS, self._servers, strict=True):
            try:
                states[name] = server.status()
            except psutil.NoSuchProcess:
                states[name] = psutil.STATUS_DEAD
        for name, state in states.items():
            if state in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return f"Ray's {name} was killed"
        is_stopped = psutil.STATUS_STOPPED in states.values()
        self._stopped_s = self._stopped_s + seconds if is_stopped else 0.0
        return f"Ray was stopped for {_PATIENCE_S:g} s" if self._stopped_s > _PATIENCE_S else ""


def _servers() -> list[psutil.Process]:
    """Return the servers that this process started, in the order of `_SERVERS`."""
    found = {}
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            found[child.name()] = child
    return [found[name] for name in _SERVERS if name in found]


def _started() -> list[psutil.Process]:
    """Return what Ray started from this process, servers and helpers, and all below them."""
    import ray

    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(part.startswith(str(Path(ray.__file__).parent)) for part in child.cmdline()):
                found += [child, *child.children(recursive=True)]
    return found


def _nodes() -> list[dict[str, Any]]:
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def _shortage(machine: Machine) -> str:
    """Say what no node has, which a worker would wait for without end; empty where there is enough."""
    needed = {"CPU": float(machine.threads), "GPU": machine.gpus}
    nodes: list[dict[str, float]] = [node["Resources"] for node in _nodes()]
    if any(all(node.get(kind, 0.0) >= amount for kind, amount in needed.items()) for node in nodes):
        return ""
    asked = f"{machine.threads} {'thread' if machine.threads == 1 else 'threads'}"
    asked += (
        f" and {machine.gpus:g} of a GPU"
        if 0 < machine.gpus < 1
        else f" and GPUs: {machine.gpus:g}"
        if machine.gpus
        else ""
    )
    cores, gpus = (max((node.get(kind, 0.0) for node in nodes), default=0.0) for kind in needed)
    there = f"at most {cores:g} cores and {gpus:g} GPUs are to be had"
    return f"no node has what a worker needs ({asked}): {there} on one; say less with --threads or --gpus"


def _stay_on_this_machine() -> None:
    """Have a local Ray listen on the loopback address and ask for a token. It reads both when it is imported, or
    does so by itself (2.59 and later ask for the token).
    """
    if "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # as on those: servers of one machine
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False


def _bring_token() -> None:
    """Give Ray the token by which its processes know one another, where there is none: it would write one to
    the home folder.
    """
    home = home_folder()
    is_kept = home is not None and os.access(home / ".ray" / "auth_token", os.R_OK)
    if not is_kept and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _keep_quiet() -> None:
    """Keep Ray from printing what befell its processes, on standard output and at length, whatever it is
    told: a run says it itself.
    """
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None


__all__ = ["Watch", "on_one_machine", "start", "stop"]
