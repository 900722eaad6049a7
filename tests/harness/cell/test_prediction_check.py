"""What a scenario asks for, and what becomes of answers: also of fields that somebody's own file declares."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import depth_worlds
import numpy as np
import pytest
from depth_worlds import DepthPrediction, Depths
from worlds import Blobs

from harness.cell.prediction_check import InvalidPrediction, validate_prediction
from harness.cell.run import settings_of
from harness.checks.scenarios import check_scenario
from harness.contracts import Prediction, Query, Status, StoredPrediction, of_learner, rules_of
from harness.sandbox.wire import Task, answers_frame, answers_of, unpacked
from harness.store.mlflow_store import Store
from harness.store.predictions import digest, read_answers, write_answers
from harness.store.record import Record

HERE = str(depth_worlds.__file__)
QUERY = Query(ids=np.array([30, 10, 20]), inputs=np.zeros((3, 1), dtype=np.float32))


def _accepted(prediction: Prediction, asked: type[Prediction], stage: int = 0) -> StoredPrediction:
    return validate_prediction(prediction, QUERY, rules=rules_of(asked), needed=(), stage=stage, step=None)


def _deep(stages: int = 1) -> DepthPrediction:
    return DepthPrediction(
        levels=np.array([3, 1, 2]), certainty=np.array([0.3, 0.1, 0.2]), heard=np.arange(stages)
    )


# --- a real run ---------------------------------------------------------------------------------------------


def test_fields_of_somebody_s_own_file_are_answered_kept_and_scored(
    tiny_run: Callable[..., list[Record]], tmp_path: Path
) -> None:
    """A third of the classes lies at depth 1, of which the learner is half certain; 3 stages of 2 classes
    with 20 items each.
    """
    (record,) = tiny_run([f"{HERE}:Dives"], scenario=f"{HERE}:Depths")
    assert (record.status, record.reason) == (Status.DONE, "")
    assert record.metrics == {"depth": pytest.approx(1 / 6), "heard": 120.0}
    answers = Store(str(tmp_path / "store")).answers(record)
    assert [answer.arrays["heard"].tolist() for answer in answers] == [[40], [40, 40], [40, 40, 40]]
    assert {*answers[0].arrays} == {"levels", "certainty", "heard"}
    assert answers[0].arrays["levels"].dtype == np.int64
    assert digest(answers) == record.digest


@pytest.mark.parametrize(
    ("strategy", "status", "reason"),
    [
        ("Dives[levels=0.5]", Status.FAILED, "levels must be whole numbers"),
        ("Dives[columns=2]", Status.FAILED, r"levels must have 1 axis, the first for the items; got shape"),
        (
            "Dives[certainty=1.5]",
            Status.FAILED,
            "certainty must be probabilities, from 0 to 1; got 1.5 to 1.5",
        ),
        ("Dives[certainty=nan]", Status.DIVERGED, "certainty holds 120 values that are not finite"),
        ("Unsaid", Status.SKIPPED, "answers classes, and the scenario needs levels, certainty"),
    ],
)
def test_wrong_values_of_such_a_field_are_refused_by_name(
    strategy: str, status: Status, reason: str, tiny_run: Callable[..., list[Record]]
) -> None:
    (record,) = tiny_run([f"{HERE}:{strategy}"], scenario=f"{HERE}:Depths")
    assert record.status is status
    assert reason in record.reason


def test_a_scenario_with_fields_of_its_own_conforms() -> None:
    assert [finding for finding in check_scenario(Depths()) if not finding.holds] == []


# --- rules --------------------------------------------------------------------------------------------------


def test_a_subclass_adds_to_what_is_asked_and_all_of_it_is_kept() -> None:
    assert {*rules_of(DepthPrediction)} - {*rules_of(Prediction)} == {"levels", "certainty", "heard"}
    assert Depths.kept == Depths.probed == tuple(rules_of(DepthPrediction))
    assert Blobs.kept == Blobs.probed == tuple(rules_of(Prediction))
    assert (of_learner(Prediction), of_learner(DepthPrediction)) == (
        ("weights", "health"),
        ("weights", "health", "heard"),
    )


def test_a_scenario_that_does_not_ask_for_a_field_never_sees_it() -> None:
    assert {*_accepted(_deep(), Prediction).arrays} == set()
    assert {*_accepted(_deep(), DepthPrediction).arrays} == {"levels", "certainty", "heard"}


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_a_probability_lies_between_0_and_1(value: float) -> None:
    given: Any = np.array([0.0, 1.0, value])
    with pytest.raises(InvalidPrediction, match=r"^old_probability must be probabilities, from 0 to 1"):
        _accepted(Prediction(old_probability=given), Prediction)
    rounded = np.clip(given, -1e-6, 1 + 1e-6)
    found = _accepted(Prediction(old_probability=rounded), Prediction)
    np.testing.assert_array_equal(found.arrays["old_probability"], rounded[[1, 2, 0]])


def test_what_speaks_of_the_learner_is_no_item_s() -> None:
    answer = _accepted(_deep(stages=5), DepthPrediction)
    assert answer.arrays["levels"].tolist() == [1, 2, 3], "sorted by id"
    assert answer.arrays["heard"].tolist() == [0, 1, 2, 3, 4]
    part = answer.subset(np.array([True, False, True]), DepthPrediction)
    assert part.arrays["levels"].tolist() == [1, 3]
    assert part.arrays["heard"].tolist() == [0, 1, 2, 3, 4]


# --- where answers go ---------------------------------------------------------------------------------------


def _same(found: list[StoredPrediction], expected: list[StoredPrediction]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.stage, one.step, {*one.arrays}) == (other.stage, other.step, {*other.arrays})
        for name, values in other.arrays.items():
            np.testing.assert_array_equal(one.arrays[name], values)


def test_fields_survive_storage_and_the_way_out_of_the_sandbox(tmp_path: Path) -> None:
    """The learner's own field has another length after every stage, once as many as there are items."""
    answers = [_accepted(_deep(stages=stage + 1), DepthPrediction, stage) for stage in range(4)]
    write_answers(tmp_path / "p.npz", answers)
    _same(read_answers(tmp_path / "p.npz"), answers)
    _same(answers_of(unpacked(io.BytesIO(answers_frame(answers)).read, largest=1 << 20)), answers)


def test_the_sandbox_is_told_the_rules_of_the_fields() -> None:
    settings = settings_of(Depths(), 0)
    assert settings.rules == rules_of(DepthPrediction)
    task = Task(kind="cell", strategy="x", source=None, params={}, settings=settings)
    assert Task.of(json.loads(json.dumps(task.header()))) == task
    assert Task.of(json.loads(json.dumps(replace(task, settings=None).header()))).settings is None
