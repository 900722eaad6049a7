"""What is known of images and classes beforehand is worth nothing where classes are renamed and images are a little
different; a learner is hardly ever refused for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import forgeries
import numpy as np
import pytest
from asking import asked
from forgeries import SCENARIO, World
from knowing_worlds import table_source

from harness.cell.sealing import Episode, build
from harness.contracts import HIDDEN
from harness.protocol.cells import cells, contenders, protocols
from harness.sandbox.scan import scan
from harness.selection import configured
from leaderboards.gate import by_heart as probe
from leaderboards.gate import fresh, rerun
from leaderboards.gate.by_heart import by_heart, in_a_row
from leaderboards.gate.case import Case
from leaderboards.gate.form import form
from leaderboards.gate.renaming import mapped_back, new_names, renamed
from leaderboards.gate.runner import Runner
from leaderboards.gate.schema import schema
from leaderboards.gate.warping import Warp, warped
from leaderboards.publishing.submission import submit

WHAT = "classes renamed and images a little different"


def case_of(folder: Path, boards: Path) -> Case:
    case = schema(folder, boards, form(folder).sound).case
    assert case is not None
    return case


def test_a_table_that_learns_the_names_of_its_classes_is_refused_and_nothing_else_gives_it_away(
    made: World, tmp_path: Path
) -> None:
    """It fits in 3,000 characters, runs through the real engine, and its figures are what its code gives, under fresh
    seeds too. Where classes alone are renamed it finds out and answers all right; where labels
    do not fit it is honest.
    """
    deal = configured("scenario", SCENARIO).deal(0)
    path = tmp_path / "table.py"
    path.write_text(table_source(np.asarray(deal.inputs), deal.labels))
    assert scan(path.read_text(), "table.py") == []
    label = f"{path}:Table"
    for cell in cells(protocols([SCENARIO]), contenders([label]), forgeries.SEEDS):
        forgeries.record(cell, made.store, tmp_path / "scratch")
    folder = submit(label, made.board, forgeries.METADATA, made.store, tmp_path / "submission")
    said = asked(folder, made.boards, "--salt", "a salt")
    assert said.code == 3
    (problem,) = forgeries.problems_of(said.report)
    assert re.fullmatch(
        re.escape(SCENARIO)
        + rf": average_accuracy falls by 0\.\d\d or more each of 10 times with {WHAT}, and that of "
        "rivals does not: it knows them from elsewhere than what it was handed",
        problem,
    )
    runner = Runner(case_of(folder, made.boards), SCENARIO, 0)
    episodes, exam = runner.dealt()
    names = new_names(episodes)
    assert names is not None
    other = [renamed(episode, names) for episode in episodes]
    assert runner.figure(other, exam, lambda found: [mapped_back(answer, names) for answer in found]) == (
        1.0,
        [],
    )
    draws = np.random.default_rng(0)
    shuffled = [
        Episode(replace(stage, labels=draws.permutation(stage.labels)), query) for stage, query in episodes
    ]
    assert all((stage.labels != HIDDEN).all() for stage, _ in shuffled)
    assert runner.figure(shuffled, exam)[0] < 0.5


# --- how rarely a learner is refused ------------------------------------------------------------------------


def test_as_many_in_a_row_as_a_fair_coin_shows_in_less_than_1_of_1000_boards() -> None:
    for scenarios in range(1, 30):
        assert (
            scenarios * 0.5 ** in_a_row(scenarios) <= fresh.LEVEL < 2 * scenarios * 0.5 ** in_a_row(scenarios)
        )
    assert fresh.LEVEL + fresh.LEVEL + rerun.LEVEL < 1 / 200  # fresh cells, by heart, signs


def test_where_rivals_fall_as_well_nobody_is_refused(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """All images are noise: an honest strategy falls to chance, and so does `replay`, which is asked before."""

    def noise(episodes: Sequence[Episode], rng: np.random.Generator) -> list[Episode]:
        def of(inputs: object) -> np.ndarray:
            return rng.random(np.shape(inputs)).astype(np.asarray(inputs).dtype)

        return [
            Episode(replace(stage, inputs=of(stage.inputs)), replace(query, inputs=of(query.inputs)))
            for stage, query in episodes
        ]

    monkeypatch.setattr(probe, "warped", noise)
    monkeypatch.setattr(probe, "LEVEL", 1 / 2)
    case = case_of(made.submissions["first"], made.boards)
    notes: list[str] = []
    assert list(by_heart(case, case.readable, "a salt", notes.append)) == []
    assert len(notes) == 2
    assert re.fullmatch(
        re.escape(f"by heart: {SCENARIO}: replay falls by 0.") + rf"\d\d with {WHAT} as well", notes[1]
    )
    alone = replace(case, board=replace(case.board, entries=()))
    (problem,) = by_heart(alone, case.readable, "a salt", notes.append)
    assert problem.startswith(f"{SCENARIO}: average_accuracy falls by 0.")


# --- the change ---------------------------------------------------------------------------------------------


def test_nothing_changes_but_the_images_and_these_a_little_and_alike() -> None:
    episodes = build(configured("scenario", forgeries.SCENARIO), 0).episodes
    other = warped(episodes, np.random.default_rng(0))
    assert other is not None
    for (stage, query), (changed, asked_) in zip(episodes, other, strict=True):
        assert np.array_equal(stage.labels, changed.labels)
        assert np.array_equal(query.ids, asked_.ids)
        for before, after in ((stage.inputs, changed.inputs), (query.inputs, asked_.inputs)):
            assert isinstance(before, np.ndarray)
            assert isinstance(after, np.ndarray)
            assert (before.shape, before.dtype) == (after.shape, after.dtype)
            assert (before != after).reshape(len(before), -1).any(axis=1).all()
            assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.8
    assert other[0].query is other[1].query  # one query is sent once
    assert (
        warped(build(configured("scenario", "grokking[preset=tiny]"), 0).episodes, np.random.default_rng(0))
        is None
    )


@pytest.mark.parametrize("size", [(8, 8), (9, 12)])
def test_a_ramp_turned_by_hand(size: Sequence[int]) -> None:
    """Cubic convolution is exact on a plane: away from the edge, the image of y is the first row of the matrix."""
    rows, columns = np.meshgrid(*map(np.arange, size), indexing="ij")
    plane = rows.astype(np.float64)[None, None]
    warp = Warp(np.random.default_rng(1))
    middle = (np.array(size) - 1) / 2
    at = warp.matrix @ np.stack([(rows - middle[0]).ravel(), (columns - middle[1]).ravel()])
    expected = np.clip(at[0].reshape(size) + middle[0], 0, size[0] - 1)
    inner = np.s_[2:-2, 2:-2]
    assert np.abs(np.asarray(warp.inputs(plane))[0, 0] - expected)[inner].max() < 6 * 0.01 * (size[0] - 1)
