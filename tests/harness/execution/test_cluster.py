"""A local Ray is for this machine and this run alone."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.execution.cluster import start, wait_for_head
from harness.execution.machine import Machine

LISTENING = """
import json, os, psutil, ray, subprocess, sys
from harness.execution.cluster import start, stop
from harness.execution.machine import Machine

STRANGER = '''
import sys
from ray._raylet import GcsClient
try:
    GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None, timeout=30)
    print("joined")
except Exception as error:
    print(type(error).__name__)
'''

assert start(Machine(workers=1))
try:
    @ray.remote
    def here():
        return os.getpid()

    worker = ray.get(here.remote())
    everybody = [psutil.Process(), *psutil.Process().children(recursive=True)]
    assert worker in [process.pid for process in everybody]
    found = [
        (process.name(), at.laddr.ip)
        for process in everybody
        for at in process.net_connections(kind="inet")
        if at.status == psutil.CONN_LISTEN or (at.type == 2 and not at.raddr)
    ]
    known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    said = {}
    right = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.environ["RAY_AUTH_TOKEN"]}
    tokens = {"none": {}, "another": {**right, "RAY_AUTH_TOKEN": "0" * 64}, "its own": right}
    for name, token in tokens.items():
        command = [sys.executable, "-c", STRANGER, ray.get_runtime_context().gcs_address]
        told = {**known, "HOME": sys.argv[1], "RAY_AUTH_MODE": "disabled", **token}
        said[name] = subprocess.run(command, env=told, capture_output=True, text=True).stdout.strip()
finally:
    session = ray._private.worker._global_node.get_session_dir_path()
    made = os.path.isdir(session)
    stop()
print(json.dumps({"found": found, "said": said, "left": [made, os.path.exists(session)]}))
"""


def test_a_local_ray_listens_on_this_machine_alone_and_asks_for_its_token(tmp_path: Path) -> None:
    """Driver, servers, agents and workers; and a process without the token, or with another, does not join."""
    told = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    told["HOME"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", LISTENING, str(tmp_path)],
        env=told,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["left"] == [True, False], "its folder of sockets and logs goes with it"
    names = {name for name, _ in said["found"]}
    assert {"gcs_server", "raylet"} <= names
    for name, text in said["found"]:
        address = ipaddress.ip_address(text)
        mapped = getattr(address, "ipv4_mapped", None)
        assert (mapped or address).is_loopback, f"{name} listens on {text}"
    own = said["said"].pop("its own")
    assert own == "joined"
    assert set(said["said"].values()) == {"AuthenticationError"}


def test_an_address_where_nobody_answers_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself tries it for minutes."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(
            UserError, match=rf"^nobody answers at {address} \(.*refused\): start a cluster there"
        ):
            start(Machine(address=address))


def test_a_head_that_is_gone_is_one_sentence_and_one_that_answers_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        wait_for_head(address, 1e9)
    with pytest.raises(
        UserError, match=f"the head of the cluster at {address} is gone .*: start the cluster again"
    ):
        wait_for_head(address, 0.0)
