"""Rankings as rows that a page can sort: the texts are those of `harness.results.tables`, the numbers beside
them those of the ranking.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.errors import UserError
from harness.results.aggregate import Aggregate
from harness.results.ranking import Ranking, Row
from harness.results.tables import aggregate_table, ranking_table, words
from harness.selection import split_outside

SHOWN = 3
"""Figures that are in view before a reader asks for all."""
_MOST_NAMED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """extra: hidden until asked for.  hint: what the figures mean."""

    title: str
    hint: str = ""
    extra: bool = False


class Cell(NamedTuple):
    """A figure as text, the width of its interval apart; `number` is what sorting goes by, None where there
    is none.
    """

    text: str
    spread: str
    number: float | None
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One strategy. leads: the best contender, or statistically indistinguishable from it."""

    strategy: str
    role: str
    place: str
    letters: str
    order: int
    leads: bool
    cells: Sequence[Cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Columns after place, letters and strategy, and lines."""

    columns: Sequence[Column]
    lines: Sequence[Line]


def ranking_grid(ranking: Ranking) -> Grid:
    """Return one line per strategy with every metric, the comparison with the best, seeds and cost."""
    table = ranking_table(ranking)
    titles = table.header[3:]
    hints = [metric.meaning for metric in ranking.metrics]
    hints += [
        f"difference in {words(ranking.primary.name)} from the best contender, paired by seed",
        "paired t-test against the best, Holm-corrected over all pairs",
        "seeds with a figure, of all",
        "mean wall time of a cell in seconds, of cells of one run",
        "largest memory of a cell's process in MiB",
    ]
    columns = [
        Column(title=title, hint=hint, extra=SHOWN <= at < len(ranking.metrics))
        for at, (title, hint) in enumerate(zip(titles, hints, strict=True))
    ]
    lines = [
        Line(
            strategy=row.strategy,
            role=row.role,
            place=row.place,
            letters="".join(row.letters),
            order=order,
            leads=row.strategy in ranking.leaders,
            cells=[
                _cell(text, number, hint)
                for text, (number, hint) in zip(texts[3:], _numbers(ranking, row), strict=True)
            ],
        )
        for order, (row, texts) in enumerate(zip(ranking.rows, table.rows, strict=True))
    ]
    return Grid(columns=columns, lines=lines)


def aggregate_grid(aggregate: Aggregate) -> Grid:
    """Return one line per contender with its mean scaled figure and the scaled figure of every scenario."""
    table = aggregate_table(aggregate)
    lines = []
    for order, (row, texts) in enumerate(zip(aggregate.rows, table.rows, strict=True)):
        numbers = [(row.mean.mean, _span(row.mean.low, row.mean.high, 1))]
        numbers += [
            (row.scaled[name].mean, _span(row.scaled[name].low, row.scaled[name].high, 1))
            for name in aggregate.scenarios
        ]
        numbers.append((float(len(row.seeds)), ""))
        cells = [_cell(text, number, hint) for text, (number, hint) in zip(texts[3:], numbers, strict=True)]
        lines.append(
            Line(
                strategy=row.strategy,
                role="contender",
                place=row.place,
                letters="".join(row.letters),
                order=order,
                leads=row.strategy in aggregate.leaders,
                cells=cells,
            )
        )
    names = short_names(aggregate.scenarios)
    columns = [
        Column(title=names.get(title, title), hint=title if title in names else "")
        for title in table.header[3:]
    ]
    return Grid(columns=columns, lines=lines)


def in_short(ranking: Ranking) -> str:
    """Return who leads, and who is statistically indistinguishable from it, in one sentence."""
    best, leaders = ranking.best, ranking.leaders
    if best is None:
        return "No contender has a figure."
    if not leaders:
        why = "one seed cannot decide" if len(ranking.seeds) == 1 else "no contender has every seed"
        return f"{best} has the best bare figure; {why}."
    contenders = [row for row in ranking.rows if row.role == "contender"]
    behind = sum(bool(row.letters) for row in contenders) - len(leaders)
    untested = sum(not row.letters for row in contenders)
    lacking = f"; {untested} lack{'s' if untested == 1 else ''} seeds" if untested else ""
    if len(leaders) == 1 and not behind:
        return f"{best} is the only contender{' with every seed' if untested else ''}."
    if len(leaders) == 1:
        return f"{best} leads, significantly better than all other contenders{lacking}."
    others = leaders[1:]
    named = ", ".join(others[:_MOST_NAMED]) + (
        f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
    )
    rest = f"; {behind} {'is' if behind == 1 else 'are'} worse" if behind else ""
    return f"{best} leads; statistically indistinguishable from it: {named}{rest}{lacking}."


def _numbers(ranking: Ranking, row: Row) -> list[tuple[float, str]]:
    """Return per column what is sorted by, and a hint with the exact bounds."""
    found = []
    for metric in ranking.metrics:
        if metric.censored:
            found.append((row.times[metric.name].median, ""))
        else:
            interval = row.intervals[metric.name]
            found.append((interval.mean, _span(interval.low, interval.high, interval.n)))
    versus = row.versus_best
    found.append((versus.difference, _span(versus.low, versus.high, versus.pairs)) if versus else (0.0, ""))
    found += [
        (versus.p if versus else math.nan, ""),
        (float(len(row.seeds)), ""),
        (row.seconds, ""),
        (row.peak_mib, ""),
    ]
    return found


def _span(low: float, high: float, count: int) -> str:
    return (
        f"95 % interval {low:.6g} to {high:.6g}, unscaled"
        if math.isfinite(low) and math.isfinite(high) and count
        else ""
    )


def _cell(text: str, number: float, hint: str) -> Cell:
    figure, sign, spread = text.partition(" ± ")
    return Cell(figure, spread if sign else "", number if math.isfinite(number) else None, hint)


def short_names(labels: Sequence[str]) -> dict[str, str]:
    """Return for every selection what tells it from the others; the whole label where that is nothing or
    cannot be read.

    >>> short_names(["ncd[preset=digits,k=5]", "ncd[preset=chars47,k=5]"])
    {'ncd[preset=digits,k=5]': 'preset=digits', 'ncd[preset=chars47,k=5]': 'preset=chars47'}
    """
    parts: dict[str, list[str]] = {}
    for label in labels:
        name, bracket, rest = label.partition("[")
        try:
            parts[label] = [name, *(split_outside(rest.removesuffix("]"), ",") if bracket else [])]
        except UserError:
            parts[label] = [label]
    shared = set.intersection(*map(set, parts.values())) if parts else set()
    own = {
        label: ", ".join(part for part in of if part not in shared) or label for label, of in parts.items()
    }
    return own if len(set(own.values())) == len(own) else {label: label for label in labels}


__all__ = [
    "SHOWN",
    "Cell",
    "Column",
    "Grid",
    "Line",
    "aggregate_grid",
    "in_short",
    "ranking_grid",
    "short_names",
]
