"""A node works for a run only where it would answer as the driver does."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT
from runs import BLOBS, world

from harness.errors import UserError
from harness.execution.environment import marked
from harness.execution.facts import Question, difference, facts, lacks_code, other_libraries, question
from harness.execution.machine import Machine
from harness.execution.nodes import room, seats
from harness.protocol.cells import cells, contenders, protocols

ASKED = """
import json
from harness.execution.facts import Question, facts
print(json.dumps(facts(Question())))
"""


def _said_with(path: Path) -> dict[str, Any]:
    """Return what a process says of itself that finds modules in `path` first."""
    done = subprocess.run(
        [sys.executable, "-c", ASKED], env={"PYTHONPATH": str(path)}, cwd=path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_a_process_that_finds_other_code_is_told_from_one_that_does_not(tmp_path: Path) -> None:
    for package in ("harness", "openworld", "scenarios", "strategies"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    here = facts(Question())
    assert lacks_code(here, _said_with(tmp_path)) == difference(here, _said_with(tmp_path)) == ""
    with (tmp_path / "strategies" / "class_incremental" / "replay.py").open("a") as file:
        file.write("\nLATE = True\n")
    assert lacks_code(here, _said_with(tmp_path)).startswith("it has other code of this program (both call")


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "nothing": (lambda there: None, ""),
    "a processor": (lambda there: there["environment"].update(processor="another"), ""),
    "a patch of Python": (lambda there: there["environment"].update(python="3.11.99"), ""),
    "Python": (
        lambda there: there["environment"].update(python="3.14.1"),
        "it has Python 3.14.1, not 3.11.7: install that one there",
    ),
    "versions": (
        lambda there: there["environment"].update(libraries={"torch": "2.6", "timm": "1.0"}),
        "it has other libraries (numpy missing instead of 2.1, timm 1.0 instead of none, torch 2.6 instead of 2.7): "
        "install the same versions there, or say --mixed",
    ),
    "code": (
        lambda there: there.update(code="b", version="0.10"),
        "it has other code of this program (0.10 there, 0.11 here)",
    ),
    "a plugin": (
        lambda there: there["plugins"].update({"my.py:Mine": "c"}),
        "what my.py:Mine says or imports is not the same there",
    ),
    "weights": (
        lambda there: there["weights"].update({"vit_b16[weights=b16.pt]": ""}),
        "it lacks the weights of vit_b16[weights=b16.pt] (SHA-256 0123456789abcdef), or has others: put the same file "
        "there, in the same place, or, with a relative path, under its own OWB_DATA",
    ),
    "a device": (lambda there: there.update(device="no such device"), "no such device"),
    "a disk": (
        lambda there: there.update(sees_store=False, free_mib=12.4),
        "only 12 MiB are free in its folder for temporary files, in which cells work, and 200 are needed: make room, "
        "or "
        "start it with another TMPDIR",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_differs_is_said_in_one_sentence(name: str) -> None:
    here = {
        "environment": {
            "python": "3.11.7",
            "processor": "one",
            "libraries": {"torch": "2.7", "numpy": "2.1"},
        },
        "version": "0.11",
        "code": "a",
        "plugins": {"my.py:Mine": "b"},
        "weights": {"vit_b16[weights=b16.pt]": "0123456789abcdef0123", "mlp": "none"},
        "device": "",
        "sees_store": True,
        "free_mib": 12.4,
    }
    there = copy.deepcopy(here)
    change, said = CHANGES[name]
    change(there)
    assert (lacks_code(here, there) or difference(here, there)) == said
    assert bool(lacks_code(here, there)) == (name in ("code", "a plugin")), "only code can be sent"
    if name == "versions":
        assert difference(here, there, mixed=True) == ""
        assert said.startswith(f"it has other libraries ({other_libraries(here, there)}): ")


def test_the_code_behind_a_strategy_by_path_and_a_network_by_path_is_asked_for(tmp_path: Path) -> None:
    """A neighbour that changed, or is missing, is seen; a file that is whole in itself need not be there."""
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from harness.contracts import Strategy\nfrom helper import ANSWER\n"
        "class Mine(Strategy):\n    def learn(self, stage): pass\n    def predict(self, query): return ANSWER\n"
    )
    (tmp_path / "helper.py").write_text("ANSWER = 1\n")
    asked = question(cells(protocols([BLOBS]), contenders([f"{mine}:Mine"]), 1), Machine())
    here = facts(asked)
    assert list(here["plugins"]) == [f"{mine}:Mine"]
    assert lacks_code(here, facts(asked)) == ""
    (tmp_path / "helper.py").write_text("ANSWER = 2\n")
    assert "what " in lacks_code(here, facts(asked))
    mine.unlink()
    assert "what " in lacks_code(here, facts(asked))

    alone = question(cells(protocols([BLOBS]), contenders([world("Means")]), 1), Machine())
    (address, source), *_ = alone.files.items()
    gone = Question(path=alone.path, files={str(tmp_path / "gone.py"): source})
    assert facts(gone)["plugins"][str(tmp_path / "gone.py")] == facts(alone)["plugins"][address]


def test_a_component_by_path_is_asked_for(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from strategies.components.contract import Component\n"
        'class Mine(Component):\n    """A component."""\n'
    )
    asked = question(cells(protocols([BLOBS]), contenders([f"replay[components={mine}:Mine]"]), 1), Machine())
    here = facts(asked)
    assert list(here["plugins"]) == [f"{mine}:Mine"]
    mine.write_text(mine.read_text() + "    late = True\n")
    assert lacks_code(here, facts(asked)) == f"what {mine}:Mine says or imports is not the same there"


def test_weights_are_found_under_a_nodes_own_folder_of_data_by_what_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("driver", "same", "other", "without"):
        (tmp_path / name).mkdir()
    for name in ("driver", "same", "other"):
        (tmp_path / name / "b16.pt").write_bytes(b"others" if name == "other" else b"weights")
    asked = Question(networks=("vit_b16[weights=b16.pt]", "mlp"))
    said: dict[str, dict[str, Any]] = {}
    for name in ("driver", "same", "other", "without"):
        monkeypatch.setenv("OWB_DATA", str(tmp_path / name))
        said[name] = facts(asked)
    assert said["driver"]["weights"]["vit_b16[weights=b16.pt]"] == hashlib.sha256(b"weights").hexdigest()
    assert difference(said["driver"], said["same"]) == ""
    for name in ("other", "without"):
        assert difference(said["driver"], said[name]).startswith(
            "it lacks the weights of vit_b16[weights=b16.pt]"
        )


def test_a_device_that_a_node_lacks_is_said() -> None:
    assert facts(Question(device="cuda:97"))["device"].startswith("device 'cuda:97' cannot be used")
    assert facts(Question())["device"] == ""


@pytest.mark.parametrize(
    ("has", "machine", "workers"),
    [
        ({"CPU": 4.0}, Machine(), 4),
        ({"CPU": 5.0}, Machine(threads=2), 2),
        ({"CPU": 8.0, "GPU": 1.0}, Machine(gpus=0.25), 4),
        ({"CPU": 2.0, "GPU": 1.0}, Machine(gpus=0.1), 2),
        ({"CPU": 64.0}, Machine(gpus=1), 0),
        ({}, Machine(), 0),
        ({"CPU": 8.0, "memory": 20e9}, Machine(resources="memory=8e9"), 2),
        ({"CPU": 8.0, "memory": 20e9, "licence": 1.0}, Machine(resources="memory=4e9, licence=0.25"), 4),
        ({"CPU": 8.0}, Machine(resources="licence=1"), 0),
        ({"CPU": 8.0}, Machine(labels="region=eu"), 8),
        ({"CPU": 8.0}, Machine(labels="region=eu,kind=large"), 0),
        ({"CPU": 8.0}, Machine(labels="region=us"), 0),
    ],
)
def test_how_many_workers_a_node_has_room_for(has: dict[str, float], machine: Machine, workers: int) -> None:
    assert room({"Resources": has, "Labels": {"region": "eu", "other": "1"}}, machine) == workers


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (
            Machine(resources="licence", address="auto"),
            "--resources takes NAME=VALUE, several separated by commas, got",
        ),
        (Machine(labels="=eu", address="auto"), "--labels takes NAME=VALUE"),
        (Machine(resources="licence=many", address="auto"), "licence=many: an amount is a number above 0"),
        (Machine(resources="licence=0", address="auto"), "an amount is a number above 0"),
        (Machine(resources="licence=inf", address="auto"), "an amount is a number above 0"),
        (Machine(resources="GPU=1", address="auto"), "--resources GPU=1: say --gpus"),
        (
            Machine(resources="licence=1"),
            "--resources and --labels choose among the nodes of a cluster: say --address",
        ),
        (Machine(labels="region=eu"), "say --address"),
    ],
)
def test_resources_that_are_none_are_one_sentence(machine: Machine, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        machine.check()


def test_a_cell_that_continues_elsewhere_stays_marked(tmp_path: Path) -> None:
    usual = {"processor": "one"}
    assert marked(usual, tmp_path) == usual
    assert [*tmp_path.iterdir()] == []
    assert marked({**usual, "mixed": "torch 2"}, tmp_path)["mixed"] == "torch 2"
    assert marked(usual, tmp_path) == {**usual, "mixed": "torch 2"}
    assert marked({**usual, "mixed": "timm 1"}, tmp_path)["mixed"] == "torch 2; timm 1"


def test_workers_sit_where_there_is_room_and_evenly() -> None:
    assert sorted(seats({"a": 3, "b": 1}, [], None)) == ["a", "a", "a", "b"]
    assert sorted(seats({"a": 3, "b": 3}, [], 4)) == ["a", "a", "b", "b"]
    assert seats({"a": 3, "b": 3}, ["a", "a"], 4) == ["b", "b"]
    assert seats({"a": 1, "late": 2}, ["a"], None) == ["late", "late"]
    assert seats({"a": 2}, ["a", "gone"], 2) == []
    assert seats({}, [], None) == []
