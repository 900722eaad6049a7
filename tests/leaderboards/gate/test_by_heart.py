"""A table of what identifies images, short enough for the source, is worth nothing where images are a little different."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import forgeries
import numpy as np
import pytest
from asking import asked
from forgeries import World
from knowing_worlds import table_source

from harness.cell.sealing import build
from harness.protocol.cells import cells, contenders, protocols
from harness.sandbox.scan import scan
from harness.selection import configured
from leaderboards.gate.warping import Warp, warped
from leaderboards.publishing.submission import submit


def test_a_table_in_three_thousand_characters_is_refused_and_nothing_else_gives_it_away(
    made: World, tmp_path: Path
) -> None:
    """It is run through the real engine: its figures are what its code gives, under fresh seeds too."""
    deal = configured("scenario", forgeries.SCENARIO).deal(0)
    path = tmp_path / "table.py"
    path.write_text(table_source(np.asarray(deal.inputs), deal.labels))
    assert scan(path.read_text(), "table.py") == []
    label = f"{path}:Table"
    for cell in cells(protocols([forgeries.SCENARIO]), contenders([label]), forgeries.SEEDS):
        forgeries.record(cell, made.store, tmp_path / "scratch")
    folder = submit(label, made.board, forgeries.METADATA, made.store, tmp_path / "submission")
    said = asked(folder, made.boards, "--salt", "a salt")
    assert said.code == 3
    (problem,) = forgeries.problems_of(said.report)
    assert re.fullmatch(
        re.escape(forgeries.SCENARIO)
        + r" \| seed \d: average_accuracy falls from 1\.00 to 0\.\d\d at best when all "
        "images are a little different: it knows them from elsewhere than what it was handed",
        problem,
    )


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
    """Bilinear weights are exact on a plane: away from the edge, the image of y is the first row of the matrix."""
    rows, columns = np.meshgrid(*map(np.arange, size), indexing="ij")
    plane = rows.astype(np.float64)[None, None]
    warp = Warp(np.random.default_rng(1))
    middle = (np.array(size) - 1) / 2
    at = warp.matrix @ np.stack([(rows - middle[0]).ravel(), (columns - middle[1]).ravel()])
    expected = np.clip(at[0].reshape(size) + middle[0], 0, size[0] - 1)
    inner = np.s_[2:-2, 2:-2]
    assert np.abs(np.asarray(warp.inputs(plane))[0, 0] - expected)[inner].max() < 6 * 0.01 * (size[0] - 1)
