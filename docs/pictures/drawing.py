"""What the scripts beside it share: the scores of a cell of a committed board, and a drawing as a file for a light
page and a dark one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.cell.sealing import build
from harness.contracts import Scenario, Scores
from harness.selection import configured
from harness.store.canvas import svg
from harness.store.predictions import read_answers
from leaderboards.publishing.board import predictions_file, read_board

HERE = Path(__file__).parent
BOARDS = HERE.parents[1] / "leaderboards" / "boards"
INKS = "<style>svg{color:#16191d}@media (prefers-color-scheme:dark){svg{color:#e9ecf0}}</style>"
"""A picture that is shown by itself follows the page around it, or the system."""


def scores_of(board: str, label: str, seed: int = 0, *, scenario: str = "") -> Scores:
    """Return what one cell of a board comes to, from its predictions; by default on the board's first scenario."""
    folder = BOARDS / board
    content = read_board(folder)
    entry = next(entry for entry in content.entries if entry.label == label)
    wanted = scenario or content.header.protocols[0].label
    cell = next(cell for cell in entry.cells if (cell.scenario, cell.seed) == (wanted, seed))
    made: Scenario = configured("scenario", wanted)
    return made.score(build(made, seed).truth, read_answers(folder / predictions_file(entry, cell)))


def save(figure: Any, name: str) -> None:
    """Write a figure of matplotlib beside this file."""
    save_drawing(svg(figure), name)


def save_drawing(drawing: str, name: str) -> None:
    """Write an `svg` element beside this file."""
    opened = drawing.index(">") + 1
    (HERE / f"{name}.svg").write_text(f"{drawing[:opened]}{INKS}{drawing[opened:]}\n", encoding="utf-8")
