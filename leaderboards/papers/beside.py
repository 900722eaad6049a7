"""Published figures and ours beside each other, metric by metric, with the tolerance that the preset grants."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.selection import single
from harness.store.record import Record
from leaderboards.papers.preset import Certainty, Paper, Row

HEADER = ("case", "metric", "published", "ours", "difference", "tolerance", "within", "seeds", "from")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One published figure, in per cent, and the mean of ours over seeds; `ours` is None where no cell has
    the figure.

    tolerance: in percentage points.  cell: where it was published.  certainty: how it came here.
    """

    scenario: str
    strategy: str
    case: str
    metric: str
    published: float
    ours: float | None
    tolerance: float
    seeds: int
    cell: str
    certainty: Certainty

    @property
    def difference(self) -> float | None:
        """Ours minus published."""
        return None if self.ours is None else self.ours - self.published

    @property
    def within(self) -> bool | None:
        """Whether the difference is within the tolerance; None where there is nothing of ours."""
        return None if self.difference is None else abs(self.difference) <= self.tolerance


def lines(paper: Paper, records: Iterable[Record]) -> list[Line]:
    """Return a line for every published figure; records of other scenarios and strategies than the preset's
    say nothing.
    """
    known = list(records)
    return [_line(paper, row, metric, known) for row in paper.published for metric in row.figures]


def table(found: Sequence[Line]) -> list[list[str]]:
    """Return the rows of a table under `HEADER`."""
    return [
        [
            line.case,
            line.metric,
            f"{line.published:.2f}",
            _as_text(line.ours),
            _as_text(line.difference, "+"),
            f"{line.tolerance:g}",
            {None: "-", True: "yes", False: "no"}[line.within],
            str(line.seeds),
            line.certainty,
        ]
        for line in found
    ]


def json_ready(found: Sequence[Line]) -> list[dict[str, object]]:
    """Return the lines for machines."""
    names = (
        "scenario",
        "strategy",
        "case",
        "metric",
        "published",
        "ours",
        "difference",
        "tolerance",
        "within",
        "seeds",
        "cell",
        "certainty",
    )
    return [{"unit": "%", **{name: getattr(line, name) for name in names}} for line in found]


def _line(paper: Paper, row: Row, metric: str, records: Sequence[Record]) -> Line:
    scenario, strategy = (
        str(single(text))
        for text in (paper.suite.scenarios[row.scenario], paper.suite.strategies[row.strategy])
    )
    own = [
        record.metrics.get(metric, math.nan)
        for record in records
        if (record.scenario, record.strategy) == (scenario, strategy)
    ]
    figures = [100 * value for value in own if math.isfinite(value)]
    return Line(
        scenario=scenario,
        strategy=strategy,
        case=row.case,
        metric=metric,
        published=row.figures[metric],
        seeds=len(figures),
        ours=math.fsum(figures) / len(figures) if figures else None,
        cell=row.cell,
        certainty=row.certainty,
        tolerance=row.tolerance.get(metric, paper.tolerance.points),
    )


def _as_text(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.2f}"
