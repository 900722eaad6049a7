"""Stage 9 says of a submission what its board would say: the place, and the corrected p with its figure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from checkout import ROOT

from harness.contracts import Status
from harness.results.ranking import Ranking
from leaderboards.gate.standing import sentence
from leaderboards.publishing.board import Board, read_board

DIGITS = 0
"""The first protocol of the board: digits under 40 % symmetric noise."""


@pytest.fixture(scope="module")
def board() -> Board:
    return read_board(ROOT / "leaderboards" / "boards" / "noisy-labels")


@pytest.fixture(scope="module")
def ranking(board: Board) -> Ranking:
    return board.rankings()[DIGITS]


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (
            "elr-plus",
            "place 1-4 of 16 contenders, the best by mean; not told apart from it: dividemix, elr, gce",
        ),
        (
            "elr",
            "place 1-6 of 16 contenders; not told apart from elr-plus (-2.1 ± 1.1; p 0.14, corrected for all pairs)",
        ),
        (
            "mixup",
            "place 5-10 of 16 contenders; worse than elr-plus by 12.1 ± 2.3 (p 0.0085, corrected for all pairs)",
        ),
        ("cross-entropy", "it is the lower bound, which is not placed"),
    ],
)
def test_the_sentence_is_what_the_board_says(ranking: Ranking, label: str, said: str) -> None:
    assert sentence(ranking, label).endswith(f"over 5 of 5 seeds; {said}")


def test_a_submission_that_lacks_seeds_has_no_place_among_those_that_have_all(board: Board) -> None:
    (elr,) = (entry for entry in board.entries if entry.label == "elr")
    first = elr.cells[0].model_copy(update={"status": Status.TIMEOUT, "metrics": {}, "digest": ""})
    others = [entry for entry in board.entries if entry is not elr]
    found = replace(
        board, entries=(*others, elr.model_copy(update={"cells": (first, *elr.cells[1:])}))
    ).rankings()[DIGITS]
    assert sentence(found, "elr").endswith(
        "over 4 of 5 seeds; it lacks seeds, so it stands after the contenders that have all and is not tested"
    )
