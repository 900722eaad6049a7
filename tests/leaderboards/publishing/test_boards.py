"""Every board in the repository follows from its own predictions, on this machine as on the one that made it."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkout import ROOT

from leaderboards.publishing.board import read_header
from leaderboards.publishing.check import check_board
from leaderboards.publishing.publish import LIMIT_MB

BOARDS = sorted((ROOT / "leaderboards" / "boards").iterdir())


def test_there_is_a_board() -> None:
    assert BOARDS


@pytest.mark.parametrize("folder", BOARDS, ids=lambda folder: folder.name)
def test_a_committed_board_holds(folder: Path) -> None:
    """Form, keys and rendered files of all of it, figures of one seed, another for every board."""
    seeds = read_header(folder).suite.seeds
    assert check_board(folder, seeds=[BOARDS.index(folder) % seeds]) == []
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < LIMIT_MB * 1e6


@pytest.mark.slow
@pytest.mark.parametrize("folder", BOARDS, ids=lambda folder: folder.name)
def test_every_figure_of_a_committed_board_holds(folder: Path) -> None:
    assert check_board(folder) == []
