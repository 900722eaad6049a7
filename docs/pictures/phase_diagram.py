"""Draw a phase diagram from the records of a finished experiment: python docs/pictures/phase_diagram.py STORE EXPERIMENT PICTURE.png

Rows are the shares of corrupted labels, columns the values of a parameter of the strategy, weight decay unless said; a cell has the colour
of the commonest phase of its seeds, and the share of these in per cent where they do not agree.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import figures
from harness.contracts import Status
from harness.errors import UserError
from harness.metrics.grokking import PHASES
from harness.record import Record, Store


def main() -> None:
    """Read the command line and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("experiment")
    parser.add_argument("picture")
    parser.add_argument("--strategy", default="adamw", help="whose records, by name")
    parser.add_argument("--parameter", default="weight_decay", help="its parameter on the columns")
    said = parser.parse_args()
    diagram(Store(said.store).records(said.experiment), said.strategy, said.parameter).savefig(said.picture, dpi=90)


def diagram(records: Sequence[Record], strategy: str, parameter: str) -> Any:
    """Return the figure; raise `UserError` where no finished record of the strategy has the parameter and a phase."""
    own = [record for record in records if record.status is Status.DONE and record.strategy.partition("[")[0] == strategy]
    own = [record for record in own if parameter in record.params and f"phase_{PHASES[0]}" in record.metrics]
    if not own:
        raise UserError(f"no finished grokking record of {strategy} has a parameter {parameter}")
    places = [(float(record.params["scenario.corruption"]), float(record.params[parameter])) for record in own]
    rows, columns = (sorted({place[axis] for place in places}) for axis in (0, 1))
    title = f"{strategy}, {len(own)} runs; a number is the share of seeds in per cent where they differ"
    return figures.phase_diagram(
        shares_of(own, places, rows, columns), rows=rows, columns=columns, title=title,
        row_name="share of labels corrupted", column_name=parameter.replace("_", " "),
    )  # fmt: skip


def shares_of(
    records: Sequence[Record], places: Sequence[tuple[float, float]], rows: Sequence[float], columns: Sequence[float]
) -> Mapping[str, NDArray[np.float64]]:
    """Return phase -> share of the records at every place that end in it, (rows, columns), NaN where there is none."""
    counts = np.zeros((len(rows), len(columns)))
    hits = {name: np.zeros_like(counts) for name in PHASES}
    for record, (row, column) in zip(records, places, strict=True):
        at = rows.index(row), columns.index(column)
        counts[at] += 1
        for name in PHASES:
            hits[name][at] += record.metrics[f"phase_{name}"]
    return {name: np.divide(hit, counts, out=np.full_like(counts, np.nan), where=counts > 0) for name, hit in hits.items()}


if __name__ == "__main__":
    main()
