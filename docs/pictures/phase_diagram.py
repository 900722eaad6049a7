"""Draw a phase diagram from a board: python docs/pictures/phase_diagram.py [--board grokking-phases]
[--strategy grok-adamw]

Rows are the shares of corrupted labels, columns the values of a parameter of the strategy, weight decay
unless said; a cell has the colour of the commonest phase of its seeds, and the share of these in per cent
where they do not agree. A sweep of one's own becomes a board by `owb board publish`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from drawing import BOARDS, save
from numpy.typing import NDArray

from harness.errors import UserError
from harness.metrics.grokking import PHASES
from harness.selection import configured
from harness.store import matrix_plots
from leaderboards.publishing.board import Entry, read_board


class Ending(NamedTuple):
    """Where one run stands in the diagram, and 1 for the phase it ended in."""

    row: float
    column: float
    phases: Mapping[str, float]


def main() -> None:
    """Read the command line and write the picture beside this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--board", default="grokking-phases", help="name of the board")
    parser.add_argument("--strategy", default="grok-adamw", help="whose entries, by name")
    parser.add_argument("--parameter", default="weight_decay", help="its parameter on the columns")
    parser.add_argument("--picture", default="phase_diagram", help="its name, without .svg")
    said = parser.parse_args()
    runs = endings(read_board(BOARDS / said.board).entries, said.strategy, said.parameter)
    save(diagram(runs, said.parameter), said.picture)


def endings(entries: Sequence[Entry], strategy: str, parameter: str) -> list[Ending]:
    """Return where the runs of a strategy ended; raise `UserError` where there are none that have the
    parameter and a phase.
    """
    found = []
    for entry in entries:
        for cell in entry.cells if entry.strategy == strategy and parameter in entry.params else ():
            if f"phase_{PHASES[0]}" in cell.metrics:
                corruption = configured("scenario", cell.scenario).corruption
                found.append(
                    Ending(
                        corruption,
                        float(entry.params[parameter]),
                        {name: cell.metrics[f"phase_{name}"] for name in PHASES},
                    )
                )
    if not found:
        raise UserError(f"there is no finished run of {strategy} with a parameter {parameter} and a phase")
    return found


def diagram(runs: Sequence[Ending], parameter: str) -> Any:
    """Return the figure."""
    rows, columns = sorted({run.row for run in runs}), sorted({run.column for run in runs})
    title = f"{len(runs)} runs; a number is the share of seeds in per cent where they differ"
    return matrix_plots.phase_diagram(
        shares_of(runs, rows, columns),
        rows=rows,
        columns=columns,
        title=title,
        row_name="share of labels corrupted",
        column_name=parameter.replace("_", " "),
    )


def shares_of(
    runs: Sequence[Ending], rows: Sequence[float], columns: Sequence[float]
) -> Mapping[str, NDArray[np.float64]]:
    """Return phase -> share of the runs at every place that end in it, (rows, columns), NaN where there is
    none.
    """
    counts = np.zeros((len(rows), len(columns)))
    hits = {name: np.zeros_like(counts) for name in PHASES}
    for run in runs:
        at = rows.index(run.row), columns.index(run.column)
        counts[at] += 1
        for name in PHASES:
            hits[name][at] += run.phases[name]
    return {
        name: np.divide(hit, counts, out=np.full_like(counts, np.nan), where=counts > 0)
        for name, hit in hits.items()
    }


if __name__ == "__main__":
    main()
