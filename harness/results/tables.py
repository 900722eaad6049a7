"""Rankings as text: cells for a terminal table, Markdown, CSV, JSON. Pure functions; nothing here prints or
computes a statistic.

Metrics whose figures all lie in [-1, 1] are shares and printed in per cent.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, NamedTuple

from harness.contracts import Metric
from harness.results.aggregate import Aggregate
from harness.results.costs import NOT_COMPARABLE
from harness.results.formats import csv_number, figure, p_text, rounded, signed, time_text
from harness.results.placing import POWER
from harness.results.ranking import Ranking, Row
from harness.statistics import Comparison

_CSV_HEADER = (
    "scenario",
    "protocol",
    "strategy",
    "role",
    "place",
    "letters",
    "seeds",
    "lacking",
    "metric",
    "better",
    "mean",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
    "p_holm",
    "mean_seconds",
    "max_peak_mib",
)
READING = (
    "two share a letter exactly when the paired test, Holm-corrected over all pairs (5 %), does not tell them apart; "
    "a place such as 2-5 is the range that it leaves open"
)
"""What places and letters mean, in a sentence."""

_CSV_TIMES = ("median", "reached", "of")


class Table(NamedTuple):
    """Cell texts, ready for any kind of table."""

    header: list[str]
    rows: list[list[str]]


def ranking_table(ranking: Ranking, *, metrics: Sequence[str] | None = None) -> Table:
    """Return one row per strategy; `metrics` names the ones to show, all by default."""
    columns = [metric for metric in ranking.metrics if metrics is None or metric.name in metrics]
    scales = {metric.name: scale(ranking, metric.name) for metric in ranking.metrics}
    titles = [_title(metric.name, scales[metric.name], metric.better) for metric in columns]
    header = ["place", "letters", "strategy", *titles, "versus best", "p", "seeds", "seconds", "peak MiB"]
    rows = [
        [
            row.place if row.role == "contender" else row.role,
            "".join(row.letters),
            row.strategy,
            *[_shown(row, metric, scales[metric.name]) for metric in columns],
            *_comparison(row.versus_best, scales[ranking.primary.name]),
            f"{len(row.seeds)}/{len(ranking.seeds)}",
            *([_plain(row.seconds, 1), _plain(row.peak_mib, 0)] if row.compares else [NOT_COMPARABLE] * 2),
        ]
        for row in ranking.rows
    ]
    return Table(header, rows)


def figures_table(ranking: Ranking, *, metrics: Sequence[str]) -> Table:
    """Return one row per strategy with the figures of `metrics` alone."""
    columns = [metric for metric in ranking.metrics if metric.name in metrics]
    scales = {metric.name: scale(ranking, metric.name) for metric in columns}
    rows = [
        [row.strategy, *[_shown(row, metric, scales[metric.name]) for metric in columns]]
        for row in ranking.rows
    ]
    return Table(
        ["strategy", *[_title(metric.name, scales[metric.name], metric.better) for metric in columns]], rows
    )


def ranking_notes(ranking: Ranking) -> list[str]:
    """Return what a reader must know beside the table, in sentences."""
    notes = list(ranking.notes)
    if math.isfinite(ranking.minimum_detectable):
        factor = scale(ranking, ranking.primary.name)
        size = f"{rounded(ranking.minimum_detectable * factor, 2)}{' points' if factor == 100 else ''}"
        notes.append(
            f"smallest true difference in {words(ranking.primary.name)} found with probability "
            f"{POWER:.0%}: about {size}"
        )
    return notes


def aggregate_table(aggregate: Aggregate) -> Table:
    """Return one row per contender: the scaled figure per scenario, and their mean."""
    header = ["place", "letters", "strategy", "mean", *aggregate.scenarios, "seeds"]
    rows = [
        [
            row.place,
            "".join(row.letters),
            row.strategy,
            figure(row.mean, 1),
            *[figure(row.scaled[scenario], 1) for scenario in aggregate.scenarios],
            f"{len(row.seeds)}/{len(aggregate.seeds)}",
        ]
        for row in aggregate.rows
    ]
    return Table(header, rows)


def failures_table(rankings: Iterable[Ranking]) -> Table:
    """Return one row per cell without a figure."""
    rows = [
        [ranking.scenario, row.strategy, str(failure.seed), str(failure.status), failure.reason]
        for ranking in rankings
        for row in ranking.rows
        for failure in row.failures
    ]
    return Table(["scenario", "strategy", "seed", "status", "reason"], rows)


def markdown(table: Table) -> str:
    """Return a GitHub table; what would break a cell is escaped."""
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return "".join(f"| {' | '.join(escaped(cell) for cell in line)} |\n" for line in lines)


def csv_text(rankings: Iterable[Ranking]) -> str:
    """Return tidy CSV: one line per scenario, strategy and metric, numbers unscaled, empty where there is
    none.

    Where any metric is censored, three more columns hold its median, how many cells reached it, and of how
    many.
    """
    tables = list(rankings)
    censored = any(metric.censored for ranking in tables for metric in ranking.metrics)
    return csv_of(
        [*_CSV_HEADER, *(_CSV_TIMES if censored else ())],
        (
            [*_csv_row(ranking, row, index), *(_csv_times(row, metric) if censored else ())]
            for ranking in tables
            for row in ranking.rows
            for index, metric in enumerate(ranking.metrics)
        ),
    )


def csv_of(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a CSV file, its lines ended by "\\n" on every system."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def json_ready(value: Any) -> Any:
    """Return `value` (a ranking, an aggregate, containers of them) for `json.dumps`; what is not a finite
    number becomes None.

    Rows of a NamedTuple become objects with field names, seeds become text keys.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {name: json_ready(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return json_ready(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, str) else value


def scale(ranking: Ranking, metric: str) -> float:
    """Return 100 for a metric whose figures all lie in [-1, 1], otherwise 1; a time is never a share."""
    if any(one.censored for one in ranking.metrics if one.name == metric):
        return 1.0
    figures = [value for row in ranking.rows for value in row.figures[metric].values()]
    return 100.0 if all(abs(value) <= 1 for value in figures) else 1.0


def words(name: str) -> str:
    """Return a metric's name as words, which tables can wrap."""
    return name.replace("_", " ")


def _shown(row: Row, metric: Metric, factor: float) -> str:
    return (
        time_text(row.times[metric.name]) if metric.censored else figure(row.intervals[metric.name], factor)
    )


def _title(name: str, factor: float, better: str) -> str:
    return f"{words(name)}{' %' if factor == 100 else ''} {'↑' if better == 'higher' else '↓'}"


def _comparison(comparison: Comparison | None, factor: float) -> list[str]:
    if comparison is None:
        return ["best", ""]
    return [signed(figure(comparison, factor)), p_text(comparison.p)]


def _plain(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else ""


def escaped(cell: str) -> str:
    """Return `cell` on one line, with what Markdown or HTML would read as markup escaped."""
    text = " ".join(cell.split())
    for letter in "\\`*_[]<>|":
        text = text.replace(letter, f"\\{letter}")
    return text


def _csv_row(ranking: Ranking, row: Row, index: int) -> list[str]:
    metric = ranking.metrics[index]
    interval = (
        ("", "", "")
        if metric.censored
        else tuple(csv_number(value) for value in row.intervals[metric.name][:3])
    )
    compared = row.versus_best if index == 0 else None
    difference = [csv_number(value) for value in compared[:4]] if compared else [""] * 4
    what = [
        ranking.scenario,
        ranking.protocol_hash,
        row.strategy,
        row.role,
        row.place,
        "".join(row.letters),
        str(len(row.seeds)),
        str(len(row.lacking)),
    ]
    figures = [metric.name, metric.better, *interval, *difference]
    return [*what, *figures, csv_number(row.seconds), csv_number(row.peak_mib)]


def _csv_times(row: Row, metric: Metric) -> list[str]:
    times = row.times.get(metric.name)
    return [csv_number(times.median), str(times.reached), str(times.n)] if times else ["", "", ""]


__all__ = [
    "READING",
    "Table",
    "aggregate_table",
    "csv_of",
    "csv_text",
    "escaped",
    "failures_table",
    "json_ready",
    "markdown",
    "ranking_notes",
    "ranking_table",
    "scale",
    "words",
]
