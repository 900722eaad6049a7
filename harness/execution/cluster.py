"""Ray: started here or joined, and nowhere else; what it has room for, and whether its own processes are
well.

`address` joins a cluster instead of starting a local one, and a Ray that this process has running already is
used and left running. A local one is for this machine alone: its servers listen on the loopback address, and
take nothing from who has not its token.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from harness.errors import UserError
from harness.execution.autoscaler import wait_for_room
from harness.execution.machine import Machine
from harness.places import home_folder

_log = logging.getLogger(__name__)

_SERVERS = ("gcs_server", "raylet")
_PATIENCE_S = 10.0
_LOOK_S = 0.5


def start(machine: Machine, *, waits: bool = True) -> bool:
    """Start Ray or join the cluster at the address; return False, and start nothing, where this process has
    Ray running already. Where no node has what a worker needs, an autoscaler is asked for one, which `waits` is for.

    Raises:
        UserError: Ray does not start, the address does not answer, or no node has what a worker needs.
    """
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"})
    os.environ.setdefault("OMP_NUM_THREADS", str(machine.threads))
    if machine.address is None:
        _stay_on_this_machine()
    else:
        _take_token()
        _check_answer(machine.address)
    import ray

    is_ours = machine.address is not None or not ray.is_initialized()
    held = _where_token_is()
    if is_ours:
        if machine.dashboard and machine.address is None:
            _check_dashboard()
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
                "include_dashboard": machine.dashboard,
                "object_store_memory": machine.object_store_mib * 2**20,
            }
        try:
            with _kept_awake():
                ray.init(**options)
        except Exception as error:  # Ray raises whatever it has, a bare Exception too
            stop()
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(f"cannot start Ray ({machine.address or 'local'}): {said[0]}") from error
    try:
        shortage = (
            wait_for_room(machine, lambda: _shortage(machine))
            if machine.address and waits
            else _shortage(machine)
        )
    except BaseException:
        if is_ours:
            stop()
        raise
    if shortage:
        if is_ours:
            stop()
        raise UserError(shortage)
    if machine.dashboard:
        _log.warning("%s", _dashboard(held))
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
    return machine.address is None and len(nodes_there()) == 1


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


def nodes_there() -> list[dict[str, Any]]:
    """Return what Ray says of every node that has not left."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def wait_for_head(address: str, patience_s: float) -> None:
    """Wait until the head of a cluster that was joined can be reached. While it cannot, every other question to Ray
    waits without a word, and after a minute Ray ends this process.

    Raises:
        UserError: it cannot be reached for so long.
    """
    host, _, port = address.rpartition(":")
    until = time.monotonic() + patience_s
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_LOOK_S * 4).close()
            return
        except OSError as error:
            if time.monotonic() >= until:
                raise UserError(
                    f"the head of the cluster at {address} is gone ({error}): start the cluster again, and the same "
                    "command continues"
                ) from None
        time.sleep(_LOOK_S)


def has_labels(node: Mapping[str, Any], machine: Machine) -> bool:
    """Say whether a node has the labels that the machine asks for."""
    return machine.labelled.items() <= dict(node.get("Labels") or {}).items()


def _check_dashboard() -> None:
    """Refuse to start a dashboard that is not installed; Ray would end with a traceback.

    Raises:
        UserError: it is not installed.
    """
    from ray._private.utils import get_dashboard_dependency_error

    missing = get_dashboard_dependency_error()
    if missing is not None:
        raise UserError(
            f'the Ray that is installed here has no dashboard ({missing}): pip install "ray[default]"'
        )


def _dashboard(held: str) -> str:
    """Say where the dashboard is, and which token it asks for; `held`: where that was before Ray was started."""
    from ray._private.worker import get_dashboard_url

    address = get_dashboard_url()  # type: ignore[no-untyped-call]
    if not address:
        return 'this cluster has no dashboard: its head needs "ray[default]" and --include-dashboard true'
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return f"Ray's dashboard: http://{address}"
    token = f"the token that {held} holds" if held else f"this token: {os.environ.get('RAY_AUTH_TOKEN', '')}"
    return f"Ray's dashboard: http://{address}; it asks for {token}"


def _shortage(machine: Machine) -> str:
    """Say what no node has, which a worker would wait for without end; empty where there is enough."""
    needed, labels = machine.needed, machine.labelled
    there = nodes_there()
    nodes: list[dict[str, float]] = [node["Resources"] for node in there if has_labels(node, machine)]
    if not nodes:
        known = sorted(
            {f"{name}={value}" for node in there for name, value in dict(node.get("Labels") or {}).items()}
        )
        asked = ",".join(f"{name}={value}" for name, value in labels.items())
        return f"no node has the labels {asked} (labels there: {', '.join(known) or 'none'}): mend --labels"
    if any(all(node.get(kind, 0.0) >= amount for kind, amount in needed.items()) for node in nodes):
        return ""
    asked = " and ".join(_in_words(kind, amount) for kind, amount in needed.items())
    most = {kind: max(node.get(kind, 0.0) for node in nodes) for kind in {"CPU": 0.0, "GPU": 0.0, **needed}}
    had = ", ".join(f"{name} {most.pop(kind):g}" for kind, name in (("CPU", "cores"), ("GPU", "GPUs")))
    had += "".join(f", {kind} {amount:g}" for kind, amount in most.items())
    less = "say less with --threads, --gpus or --resources"
    return f"no node has what a worker needs ({asked}): at most {had} on one; {less}"


def _in_words(kind: str, amount: float) -> str:
    if kind == "CPU":
        return f"{amount:g} {'thread' if amount == 1 else 'threads'}"
    if kind == "GPU":
        return f"{amount:g} of a GPU" if amount < 1 else f"GPUs: {amount:g}"
    return f"{kind}: {amount:g}"


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
    if not _where_token_is():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _where_token_is() -> str:
    """Return where Ray finds a token; empty where there is none."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        if name in os.environ:
            return name
    home = home_folder()
    is_kept = home is not None and os.access(home / ".ray" / "auth_token", os.R_OK)
    return f"{home}/.ray/auth_token" if is_kept else ""


def _take_token() -> None:
    """Join with the token that is there: `ray start` asks for it wherever there is one, and so wherever Ray
    was started before, but does not offer it to an address that is written out. A cluster without a token
    does not mind.
    """
    if _where_token_is() and "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _check_answer(address: str) -> None:
    """Refuse an address where nobody listens, or not for this driver: Ray tries it for minutes.

    Raises:
        UserError: nobody listens there, or the cluster asks for another token.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():  # such as "auto"
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"nobody answers at {address} ({error}): start a cluster there (ray start --head), or mend --address"
        ) from None
    if os.environ.get("RAY_AUTH_MODE") == "token" and not _where_token_is():  # Ray would abort this process
        raise UserError(_other_token(address))
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import AuthenticationError

    try:
        with _without_errors():
            GcsClient(address=address).internal_kv_keys(b"", None, timeout=_PATIENCE_S)
    except AuthenticationError:
        raise UserError(_other_token(address)) from None
    except Exception:  # what else it may be, joining says better
        return


@contextlib.contextmanager
def _without_errors() -> Iterator[None]:
    """Drop what is written to standard error by whatever part of this process: Ray says there, in words of its
    own, what is said here in one sentence.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _other_token(address: str) -> str:
    token = _where_token_is()
    found = f"it is not the one that {token} holds" if token else "there is none here"
    return (
        f"the cluster at {address} asks for a token, and {found}: copy ~/.ray/auth_token of its head node to the "
        "same place on every node"
    )


def _keep_quiet() -> None:
    """Keep Ray from printing what befell its processes, on standard output and at length, whatever it is
    told: a run says it itself.
    """
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None


__all__ = ["Watch", "has_labels", "nodes_there", "on_one_machine", "start", "stop", "wait_for_head"]
