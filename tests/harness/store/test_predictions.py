"""Predictions are accepted and stored as they were answered, whatever was asked when; older files are read,
anything else is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cell.prediction_check import validate_prediction
from harness.contracts import Prediction, Query, StoredPrediction, rules_of
from harness.errors import Diverged, UserError
from harness.store.predictions import digest, read_answers, write_answers


def _assert_same(found: list[StoredPrediction], expected: list[StoredPrediction]) -> None:
    assert [(answer.stage, answer.step) for answer in found] == [
        (answer.stage, answer.step) for answer in expected
    ]
    for one, other in zip(found, expected, strict=True):
        assert one.ids.dtype == np.int64
        np.testing.assert_array_equal(one.ids, other.ids)
        assert one.arrays.keys() == other.arrays.keys()
        for name, values in other.arrays.items():
            assert one.arrays[name].dtype == values.dtype, name
            np.testing.assert_array_equal(one.arrays[name], values)


def _stored(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


# --- acceptance ---------------------------------------------------------------------------------------------

ASKED = np.array([70, 5, 30, 8])
SORTED = np.array([1, 3, 2, 0])
"""The places of the asked ids in ascending order."""


def _accepted(**fields: Any) -> StoredPrediction:
    query = Query(ids=ASKED, inputs=np.zeros((4, 1), dtype=np.float32))
    rules = rules_of(Prediction)
    return validate_prediction(Prediction(**fields), query, rules=rules, needed=(), stage=2, step=None)


STEPS = np.linspace(0, 1, 4 * 15, dtype=np.float64).reshape(4, 3, 5)


@pytest.mark.parametrize(
    "values",
    [
        STEPS,
        STEPS.astype(np.float32),
        STEPS.astype(np.float16),
        np.arange(60).reshape(4, 3, 5),
        STEPS > 0.5,
        20_000 + STEPS,
        1e-7 * STEPS,
        1e5 * STEPS,
        1e30 * STEPS,
        np.exp(300 * STEPS),
        1e4 + 1e-7 * STEPS,
        -1e4 + 1e-7 * STEPS,
    ],
)
def test_floats_are_held_as_they_were_answered_whatever_their_scale(values: np.ndarray[Any, Any]) -> None:
    for name in ("anomaly_maps", "anomaly_scores", "scores", "suspicion", "label_losses", "relation_shift"):
        given = values[:, 0, 0] if name == "anomaly_scores" else values
        held = _accepted(**{name: given}).arrays[name]
        np.testing.assert_array_equal(held.astype(np.float64), given[SORTED].astype(np.float64))


@pytest.mark.parametrize(
    ("values", "short", "long"),
    [
        (np.array([0.5, 1, 2, 65504]), "float16", "float32"),
        (np.array([0.5, 1, 2, 65505]), "float32", "float32"),
        (np.array([0.5, 1, 2, 1 + 2**-20]), "float32", "float32"),
        (np.array([0.5, 1, 2, 1e39]), "float64", "float64"),
        (np.array([0.1, 1, 2, 3]), "float64", "float64"),
        (np.array([0, 1, 2, 2**24 + 1]), "float64", "float64"),
    ],
)
def test_the_format_is_the_smallest_that_changes_nothing(
    values: np.ndarray[Any, Any], short: str, long: str
) -> None:
    arrays = _accepted(suspicion=values, anomaly_scores=values).arrays
    assert (arrays["suspicion"].dtype, arrays["anomaly_scores"].dtype) == (short, long)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named_with_its_item_and_its_place(value: float) -> None:
    """The second row is item 5, the third item 30."""
    maps, scores = np.zeros((4, 3, 5), dtype=np.float32), np.zeros(4)
    maps[1, 2, 4] = maps[2, 0, 0] = scores[2] = value
    with pytest.raises(
        Diverged,
        match=r"^anomaly_maps holds 2 values that are not finite, the first of item 5 at \(2, 4\) \(stage 2\)$",
    ):
        _accepted(anomaly_maps=maps)
    with pytest.raises(
        Diverged,
        match=r"^anomaly_scores holds 1 values that are not finite, the first of item 30 \(stage 2\)$",
    ):
        _accepted(anomaly_scores=scores)


def test_weights_beyond_their_format_are_not_finite() -> None:
    with pytest.raises(Diverged, match=r"^weights holds 1 values that are not finite, the first at \(1, 0\)"):
        _accepted(weights=np.array([[0, 0], [1e39, 0]]))
    health = _accepted(health=np.array([np.nan, 1.0])).arrays["health"]
    assert health.dtype == np.float32 and np.isnan(health[0])


# --- storage ------------------------------------------------------------------------------------------------

IDS = np.array([3, 4, 90, 1_000_000])
OTHERS = np.array([0, 3, 7])


def _probe(step: int) -> StoredPrediction:
    return StoredPrediction(stage=0, step=step, ids=IDS, arrays={"classes": np.array([0, 1, 1, step])})


def _end(stage: int, ids: np.ndarray[Any, Any], heads: int) -> StoredPrediction:
    rng = np.random.default_rng(stage)
    arrays: dict[str, Any] = {
        "classes": rng.integers(0, heads, len(ids)),
        "scores": rng.normal(size=(len(ids), heads)).astype(np.float32),
        "kept": rng.random(len(ids)) < 0.5,
        "suspicion": rng.random(len(ids)).astype(np.float16),
    }
    return StoredPrediction(stage=stage, step=None, ids=ids, arrays=arrays)


CELL = [_probe(2), _probe(10), _end(0, IDS, 2), _end(1, OTHERS, 4), _end(2, IDS, 6)]
"""Probes with fewer fields, a head that grows, another query in between."""


def test_what_is_written_is_read_and_has_the_same_digest(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    write_answers(path, CELL)
    found = read_answers(path)
    _assert_same(found, CELL)
    assert digest(found) == digest(CELL)
    assert list(tmp_path.iterdir()) == [path], "nothing temporary is left"


def test_answers_come_in_order_of_stage_and_step_the_end_last(tmp_path: Path) -> None:
    write_answers(tmp_path / "p.npz", CELL[::-1])
    _assert_same(read_answers(tmp_path / "p.npz"), CELL)


def test_moments_that_asked_for_the_same_items_are_stored_together_in_small_numbers(tmp_path: Path) -> None:
    write_answers(tmp_path / "p.npz", CELL)
    stored = _stored(tmp_path / "p.npz")
    assert [name for name in stored if name.endswith(".gaps")] == ["0.gaps", "1.gaps"]
    assert stored["0.classes"].shape == (4, 4), "four items at four moments"
    assert stored["0.classes"].dtype == np.uint8
    assert stored["0.kept"].dtype == bool
    assert stored["0.classes.at"].tolist() == [[0, 2], [0, 10], [0, -1], [2, -1]]
    np.testing.assert_array_equal(np.cumsum(stored["0.gaps"].astype(np.int64)), IDS)


def test_a_hundred_probes_that_hardly_change_take_little_more_room_than_one(tmp_path: Path) -> None:
    """Apart, each would take about what one takes, since ids and classes of a single moment do not compress."""
    rng = np.random.default_rng(0)
    ids, classes = np.sort(rng.permutation(10_000)[:2000]), rng.integers(0, 10, 2000)
    sizes = {}
    for moments in (1, 101):
        answers = [
            StoredPrediction(stage=0, step=step, ids=ids, arrays={"classes": classes})
            for step in range(moments)
        ]
        write_answers(tmp_path / "p.npz", answers)
        sizes[moments] = (tmp_path / "p.npz").stat().st_size
    assert sizes[101] < 3 * sizes[1]


def test_moments_of_other_formats_keep_theirs(tmp_path: Path) -> None:
    """A probe before anything is learned answers zeros, which need no more than half precision."""
    kinds = {None: np.float64, 0: np.float16, 5: np.float32, 9: np.float32}
    answers = [
        StoredPrediction(
            stage=0, step=step, ids=IDS, arrays={"anomaly_maps": np.full((4, 2, 3), step or 0, kind)}
        )
        for step, kind in kinds.items()
    ]
    write_answers(tmp_path / "p.npz", answers)
    found = read_answers(tmp_path / "p.npz")
    _assert_same(found, [*answers[1:], answers[0]])
    assert digest(found) == digest(answers)
    assert sorted(name for name in _stored(tmp_path / "p.npz") if not name.endswith(".at")) == [
        "0.anomaly_maps~2~3~float16",
        "0.anomaly_maps~2~3~float32",
        "0.anomaly_maps~2~3~float64",
        "0.gaps",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"step": 11},
        {"stage": 1},
        {"ids": np.array([3, 4, 90, 91])},
        {"arrays": {"classes": np.array([0, 1, 1, 2])}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_digest_tells_what_was_answered_when_and_for_which_item(change: Mapping[str, Any]) -> None:
    answer = StoredPrediction(stage=0, step=10, ids=IDS, arrays={"classes": np.array([0, 1, 1, 3])})
    assert digest([answer]) != digest([replace(answer, **change)])


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.one_of(st.none(), st.integers(0, 300)), st.integers(0, 2), st.booleans()
        ),
        max_size=8,
        unique_by=lambda moment: moment[:2],
    ),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_moments_survive_storage(
    tmp_path: Path, moments: list[tuple[int, int | None, int, bool]], luck: Any
) -> None:
    rng = np.random.default_rng(luck.getrandbits(32))
    queries = [np.array([], dtype=np.int64), np.arange(5), np.sort(rng.choice(2**40, 7, replace=False))]
    answers = []
    for stage, step, query, more in sorted(
        moments, key=lambda moment: (moment[0], moment[1] is None, moment[1] or 0)
    ):
        size = len(queries[query])
        arrays: dict[str, Any] = {
            "classes": rng.integers(-(2 ** rng.integers(1, 62)), 2 ** rng.integers(1, 62), size)
        }
        if more:
            arrays |= {
                "kept": rng.random(size) < 0.5,
                "old_probability": rng.random(size).astype(rng.choice(["f2", "f4", "f8"])),
            }
            arrays |= {"scores": rng.random((size, 2 + stage)).astype(rng.choice(["f4", "f8"]))}
        answers.append(StoredPrediction(stage=stage, step=step, ids=queries[query], arrays=arrays))
    write_answers(tmp_path / "p.npz", answers)
    found = read_answers(tmp_path / "p.npz")
    _assert_same(found, answers)
    assert digest(found) == digest(answers)


def test_files_of_version_0_2_are_read(tmp_path: Path) -> None:
    """Then every moment had its own arrays: `000.ids`, `000@10.classes`."""
    flat: dict[str, Any] = {}
    for answer in CELL:
        moment = f"{answer.stage:03d}" + ("" if answer.step is None else f"@{answer.step}")
        flat[f"{moment}.ids"] = answer.ids.astype(np.uint32)
        flat |= {
            f"{moment}.{name}": values.astype(np.int8) if name == "classes" else values
            for name, values in answer.arrays.items()
        }
    np.savez_compressed(tmp_path / "old.npz", **flat)
    found = read_answers(tmp_path / "old.npz")
    _assert_same(found, CELL)
    assert digest(found) == digest(CELL)


class _Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(
    "names", [("0.gaps", "0.classes", "0.classes.at"), ("000.ids", "000.classes", "000.kept")]
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_pickles_are_refused_in_every_place(tmp_path: Path, names: tuple[str, ...], place: int) -> None:
    arrays: dict[str, Any] = dict.fromkeys(names, np.zeros((1, 2), dtype=np.int64))
    arrays[names[place]] = np.array([_Trap(tmp_path / "mark")], dtype=object)
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(UserError, match=r"cannot read predictions in p\.npz"):
        read_answers(tmp_path / "p.npz")
    assert not (tmp_path / "mark").exists()


def _broken(path: Path, how: str) -> None:
    write_answers(path, CELL)
    content = path.read_bytes()
    stored = _stored(path)
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut off":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped bits":
        place = content.index(b"0.scores~2.npy") + 80
        path.write_bytes(
            content[:place] + bytes(byte ^ 0xFF for byte in content[place : place + 8]) + content[place + 8 :]
        )
    elif how == "text":
        path.write_text("stage,class\n0,1\n")
    elif how == "a single array":
        with path.open("wb") as file:
            np.save(file, IDS)
    elif how == "other arrays":
        np.savez(path, weights=np.zeros(3))
    elif how == "moments missing":
        np.savez(path, **{name: values for name, values in stored.items() if name != "1.gaps"})
    elif how == "too few moments":
        np.savez(path, **{**stored, "0.classes": stored["0.classes"][:, :2]})


@pytest.mark.parametrize(
    "how",
    [
        "missing",
        "empty",
        "cut off",
        "flipped bits",
        "text",
        "a single array",
        "other arrays",
        "moments missing",
        "too few moments",
    ],
)
def test_what_is_no_file_of_predictions_is_refused_in_one_sentence(tmp_path: Path, how: str) -> None:
    _broken(tmp_path / "p.npz", how)
    with pytest.raises(UserError, match=r"cannot read predictions in p\.npz") as problem:
        read_answers(tmp_path / "p.npz")
    assert "\n" not in str(problem.value)
