"""An ablation is one object of the store: its cells hang below it, and its report is drawn again from there."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from runs import BLOBS, Owb

from harness.errors import UserError
from harness.protocol.cells import Suite, cells, contenders, protocols, read_suite
from harness.protocol.contrasts import Ablation, Contrast
from harness.store.mlflow_store import Store
from harness.studies.study import Study, keep, records_of, studies, study_by_key

FULL, NONE = "replay", "replay[lr=0.001]"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _ablate(call_owb: Owb, *more: str) -> str:
    found = call_owb(
        "ablate", FULL, "-s", BLOBS, "--components", "lr=0.001", "--seeds", "2", "--workers", "1", *more
    )
    assert found.code == 0, found.err
    return found.out


def test_an_ablation_is_shown_again_from_the_store(call_owb: Owb, warm_ray: None, folder: Path) -> None:
    told = _ablate(call_owb, "--json")
    again = call_owb("show", "ablate-replay", "--json")
    assert again.json == json.loads(told)
    (kept,) = studies(Store(), "ablate-replay")
    by_key = call_owb("show", kept.study.key[:10])
    assert by_key.code == 0
    assert "leave-one-out of" in by_key.out
    assert "experiment 'ablate-replay'" in by_key.err


def test_cells_hang_below_the_ablation_that_they_ran_for(call_owb: Owb, warm_ray: None, folder: Path) -> None:
    _ablate(call_owb)
    _ablate(
        call_owb, "--arm", "replay[lr=0.01]"
    )  # enlarged: another question, of which four cells are there already
    store = Store()
    first, second = studies(store, "ablate-replay")
    assert (len(first.cells), len(second.cells)) == (4, 6)
    assert [len(records_of(store, kept)) for kept in (first, second)] == [4, 6]
    parents: dict[str, int] = {}
    for run in store.search("tags.`owb.key` LIKE '%'", "ablate-replay"):
        parent = run.data.tags["mlflow.parentRunId"]
        parents[parent] = parents.get(parent, 0) + 1
    assert parents == {first.run_id: 4, second.run_id: 2}
    tags = {
        run.info.run_id: run.data.tags for run in store.search("tags.`owb.study` LIKE '%'", "ablate-replay")
    }
    assert tags[first.run_id]["owb.cells"] == "4 done"
    assert tags[second.run_id]["owb.status"] == "done"
    records = records_of(store, second)
    rows = list(csv.DictReader(store.file_of_run(second.run_id, "cells.csv").read_text().splitlines()))
    assert [row["run_id"] for row in rows] == [record.run_id for record in records], "cached ones too"
    means: dict[str, list[float]] = {}
    for record in records:
        means.setdefault(record.strategy, []).append(record.metrics["average_accuracy"])
    in_order = [sum(figures) / len(figures) for figures in means.values()]
    history = store.client.get_metric_history(second.run_id, "mean/average_accuracy")
    assert [figure.value for figure in sorted(history, key=lambda one: one.step)] == pytest.approx(in_order)
    assert store.client.get_run(second.run_id).data.metrics["best/average_accuracy"] == max(in_order)
    assert tags[second.run_id]["owb.best"] == list(means)[in_order.index(max(in_order))]
    assert len(store.records("ablate-replay")) == 6  # a study is no record
    assert "before it: leave-one-out of" in call_owb("show", "ablate-replay").err


def test_the_same_question_is_kept_once_and_another_one_beside_it(folder: Path) -> None:
    store, todo = Store(), cells(protocols([BLOBS]), contenders([FULL]), 1)
    study = Study(kind="ablation", title="one", definition={"seeds": 1})
    assert keep(store, study, todo, "own") == keep(
        store, Study(kind="ablation", title="one", definition={"seeds": 1}), todo, "own"
    )
    other = keep(store, Study(kind="ablation", title="two", definition={"seeds": 2}), todo, "own")
    assert [kept.run_id for kept in studies(store, "own")][-1] == other
    assert study_by_key(store, "no-such-key") is None
    with pytest.raises(UserError, match="1 of 1 cells of 'one' have not run"):
        records_of(store, studies(store, "own")[0])
    with pytest.raises(UserError, match="2 studies begin with"):
        study_by_key(store, "")


# --- as a suite ---------------------------------------------------------------------------------------------


def test_an_ablation_is_saved_as_a_suite_that_says_what_is_concluded(
    call_owb: Owb, warm_ray: None, folder: Path
) -> None:
    _ablate(call_owb, "--save", "own.yaml", "--plan")
    suite = read_suite(folder / "own.yaml")
    assert suite.strategies == ("fine-tune", "joint", FULL, NONE)
    assert suite.ablation is not None
    (contrast,) = suite.ablation.contrasts
    assert (contrast.plus, contrast.minus) == ((FULL,), (NONE,))
    assert not (folder / "owb-store").exists()


def test_a_suite_without_an_arm_of_its_ablation_is_refused() -> None:
    contrast = Contrast(kind="component", on="a", off="b", plus=("replay",), minus=("ewc",))
    asked = Ablation(
        strategy="replay",
        design="leave-one-out",
        reference="replay",
        arms=("replay", "ewc"),
        contrasts=(contrast,),
    )
    with pytest.raises(ValueError, match="arms that are not among the strategies: ewc"):
        Suite(scenarios=("class-incremental",), strategies=("replay",), ablation=asked)
    whole = Suite(scenarios=("class-incremental",), strategies=("replay", "ewc"), ablation=asked)
    assert Suite(**whole.model_dump(mode="json")) == whole
    assert "ablation" not in Suite(scenarios=("class-incremental",), strategies=("replay",)).model_dump(
        mode="json"
    )
