"""What `owb new` writes works as it stands, and takes its names from the public face."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import Owb

from harness.selection import configured


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_new_scenario_holds_every_claim_and_can_be_learned(call_owb: Owb) -> None:
    assert "owb check mine/my_own.py:MyOwn" in call_owb("new", "scenario", "my-own", "--folder", "mine").out
    claims = call_owb("check", "mine/my_own.py:MyOwn", "--json").json
    assert all(claim["holds"] for claim in claims)
    figures = call_owb("run", "joint", "-s", "mine/my_own.py:MyOwn", "--debug", "--json").json
    assert figures["final_accuracy"] > 0.8


def test_a_new_dataset_is_sound_and_can_be_dealt(call_owb: Owb) -> None:
    assert call_owb("new", "dataset", "mine").code == 0
    assert "360 items of 6 classes" in call_owb("data", "check", "mine.py:Mine").out
    scenario = "class-incremental[dataset=mine.py:Mine,stages=3,epochs=2]"
    assert call_owb("run", "joint", "-s", scenario, "--debug", "--json").json["average_accuracy"] > 0.5


def test_a_new_component_is_one_that_a_learner_takes(call_owb: Owb) -> None:
    assert "owb check mine.py:Mine" in call_owb("new", "component", "mine").out
    text = "cross-entropy[components=mine.py:Mine[weight=0.1]+rate]"
    assert vars(configured("strategy", text))["components"] == "mine.py:Mine[weight=0.1]+rate"


@pytest.mark.slow
def test_a_new_component_holds_every_claim(call_owb: Owb) -> None:
    call_owb("new", "component", "mine")
    assert all(claim["holds"] for claim in call_owb("check", "mine.py:Mine", "--json").json)


@pytest.mark.parametrize("kind", ["strategy", "scenario", "dataset", "component", "notebook"])
def test_a_new_file_imports_the_public_face_and_replaces_none(call_owb: Owb, kind: str) -> None:
    assert call_owb("new", kind, "mine").code == 0
    (file,) = Path().iterdir()
    text = file.read_text(encoding="utf-8")
    assert "from openworld import" in text
    assert "harness" not in text
    said = call_owb("new", kind, "mine")
    assert (said.code, said.err) == (2, f"error: {file} is there already; choose another name\n")
    assert file.read_text(encoding="utf-8") == text
