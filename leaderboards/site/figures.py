"""Pictures of a ranking as plotly figures: plain dictionaries in plotly's own schema, drawn in the reader's
browser by plotly.js.

Every number is one of the ranking, the aggregate or the curves; only shares are shown in per cent, as in the
tables. Colours of strategies are readable on white and on black; colours of text and grid are the page's, set
where it is drawn. The bounds are grey.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from harness.results.aggregate import Aggregate
from harness.results.ranking import Ranking, Row
from harness.results.tables import scale, words

Spec = dict[str, Any]

PALETTE = (
    "#2f7de1",
    "#d9541e",
    "#18945c",
    "#b04fc4",
    "#a9790a",
    "#d6437f",
    "#0d8fa0",
    "#7069f0",
    "#8a6d5b",
    "#6f8a12",
)
GREY = "#868c96"

_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross")
_DIGITS = 5


class Variant(NamedTuple):
    """One picture of several that a reader chooses from by `label`, under the heading `group`."""

    label: str
    spec: Spec
    group: str = ""


def interval_plots(ranking: Ranking) -> list[Variant]:
    """Return, per metric that has a mean, every strategy's mean with its interval, in the order of the table;
    the best contender and those not told apart from it are shaded.
    """
    rows = list(ranking.rows)[::-1]
    metrics = [metric for metric in ranking.metrics if not metric.censored]
    return [
        Variant(
            words(metric.name),
            _dots(
                [row.strategy for row in rows],
                [row.intervals[metric.name] for row in rows],
                [colour_of(ranking, row) for row in rows],
                scale(ranking, metric.name),
                axis=axis_title(ranking, metric.name),
                bands=_bands([row.strategy in ranking.leaders for row in rows])
                if metric is ranking.primary
                else [],
            ),
        )
        for metric in metrics
        if any(math.isfinite(row.intervals[metric.name].mean) for row in rows)
    ]


def aggregate_plot(aggregate: Aggregate) -> Spec:
    """Return every contender's mean scaled figure with its interval; 0 is the lower bound, 1 the upper."""
    rows = [row for row in aggregate.rows if math.isfinite(row.mean.mean)][::-1]
    colours = [PALETTE[(len(rows) - 1 - at) % len(PALETTE)] for at in range(len(rows))]
    spec = _dots(
        [row.strategy for row in rows],
        [row.mean for row in rows],
        colours,
        1,
        axis="0 lower bound, 1 upper bound",
        bands=_bands([row.strategy in aggregate.leaders for row in rows]),
    )
    edge = {
        "type": "line",
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "layer": "below",
        "line": {"color": GREY, "dash": "dot", "width": 1},
    }
    spec["layout"]["shapes"] += [{**edge, "x0": at, "x1": at} for at in (0, 1)]
    return spec


def pareto_plot(ranking: Ranking) -> Spec | None:
    """Return the primary figure against wall time; the line joins contenders that nobody beats in both. None
    without times.
    """
    factor, name = scale(ranking, ranking.primary.name), ranking.primary.name
    rows = [row for row in ranking.rows if math.isfinite(row.intervals[name].mean) and row.seconds > 0]
    if len(rows) < 2:
        return None
    front = pareto_front(ranking)
    traces: list[Spec] = [
        {
            "type": "scatter",
            "mode": "lines",
            "hoverinfo": "skip",
            "line": {"color": GREY, "width": 2, "shape": "hv", "dash": "dot"},
            "x": [significant(row.seconds) for row in front],
            "y": [significant(row.intervals[name].mean * factor) for row in front],
        }
    ]
    for row in rows:
        interval = row.intervals[name]
        half = (interval.high - interval.low) / 2 * factor
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": label_text(row.strategy),
                "meta": {"strategy": row.strategy},
                "x": [significant(row.seconds)],
                "y": [significant(interval.mean * factor)],
                "error_y": {
                    "type": "data",
                    "array": [significant(half) if math.isfinite(half) else 0],
                    "color": colour_of(ranking, row),
                    "thickness": 1.2,
                    "width": 3,
                },
                "marker": {"color": colour_of(ranking, row), "symbol": symbol_of(ranking, row), "size": 11},
                "hovertemplate": "%{y:.5~g} after %{x:.3~g} s, "
                + (f"{row.peak_mib:.0f} MiB" if math.isfinite(row.peak_mib) else "memory unknown"),
            }
        )
    ticks = _log_ticks(min(row.seconds for row in rows), max(row.seconds for row in rows))
    layout = {
        "height": 420,
        "xaxis": {
            "type": "log",
            "title": {"text": "mean seconds a cell"},
            "tickmode": "array",
            "tickvals": ticks,
            "ticktext": [f"{tick:g}" for tick in ticks],
        },
        "yaxis": {"title": {"text": axis_title(ranking, name)}},
    }
    return {"data": traces, "layout": layout}


def pareto_front(ranking: Ranking) -> list[Row]:
    """Return the contenders for which no other is both faster and better in the primary metric, fastest
    first.
    """
    name, sign = ranking.primary.name, 1 if ranking.primary.better == "higher" else -1
    known = [
        row
        for row in ranking.rows
        if row.role == "contender" and row.seconds > 0 and math.isfinite(row.intervals[name].mean)
    ]
    front: list[Row] = []
    for row in sorted(known, key=lambda row: (row.seconds, -sign * row.intervals[name].mean)):
        if not front or sign * row.intervals[name].mean > sign * front[-1].intervals[name].mean:
            front.append(row)
    return front


def axis_title(ranking: Ranking, metric: str) -> str:
    """Return a metric's name with unit and direction."""
    better = next(one.better for one in ranking.metrics if one.name == metric)
    return (
        f"{words(metric)}{' %' if scale(ranking, metric) == 100 else ''} {'↑' if better == 'higher' else '↓'}"
    )


def _dots(
    labels: Sequence[str],
    intervals: Sequence[Any],
    colours: Sequence[str],
    factor: float,
    *,
    axis: str,
    bands: Sequence[Spec],
) -> Spec:
    """Return means with intervals, one strategy a line, from below upwards."""
    halves = [(interval.high - interval.low) / 2 * factor for interval in intervals]
    texts = [label_text(label) for label in labels]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "y": list(range(len(labels))),
        "x": [significant(interval.mean * factor) for interval in intervals],
        "error_x": {
            "type": "data",
            "array": [significant(half) if math.isfinite(half) else 0 for half in halves],
            "thickness": 1.6,
            "width": 4,
            "color": GREY,
        },
        "marker": {"color": list(colours), "size": 10},
        "text": texts,
        "hovertemplate": "%{text}: %{x:.5~g} ± %{error_x.array:.3~g}<extra></extra>",
    }
    layout = {
        "height": 90 + 25 * len(labels),
        "hovermode": "closest",
        "xaxis": {"title": {"text": axis}},
        "shapes": list(bands),
        "yaxis": {
            "tickmode": "array",
            "tickvals": list(range(len(labels))),
            "ticktext": texts,
            "range": [-0.7, len(labels) - 0.3],
            "showgrid": False,
            "zeroline": False,
            "ticklabelstep": 1,
        },
    }
    return {"data": [trace], "layout": layout}


def _bands(leads: Sequence[bool]) -> list[Spec]:
    """Return a shade behind every run of lines that lead."""
    runs = [list(run) for leading, run in itertools.groupby(range(len(leads)), leads.__getitem__) if leading]
    return [
        {
            "type": "rect",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": run[0] - 0.45,
            "y1": run[-1] + 0.45,
            "layer": "below",
            "line": {"width": 0},
            "fillcolor": PALETTE[0],
            "opacity": 0.1,
        }
        for run in runs
    ]


def colour_of(ranking: Ranking, row: Row) -> str:
    """Return a strategy's colour, the same in every picture of a ranking; grey for the bounds."""
    if row.role != "contender":
        return GREY
    return PALETTE[[one.strategy for one in ranking.rows].index(row.strategy) % len(PALETTE)]


def symbol_of(ranking: Ranking, row: Row) -> str:
    """Return the shape that tells strategies of one colour apart."""
    if row.role != "contender":
        return "triangle-up-open" if row.role == "upper bound" else "triangle-down-open"
    return _SYMBOLS[
        [one.strategy for one in ranking.rows].index(row.strategy) // len(PALETTE) % len(_SYMBOLS)
    ]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers around a range, more of them where it is short.

    >>> _log_ticks(40, 130)
    [10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 80.0, 100.0, 150.0, 200.0, 300.0, 400.0, 600.0, 800.0]
    """
    steps = (1, 1.5, 2, 3, 4, 6, 8) if high < 5 * low else (1, 2, 5)
    return [
        step * 10.0**power
        for power in range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
        for step in steps
    ]


def label_text(text: str) -> str:
    """Return `text` so that plotly, which reads a few tags, shows it as it is."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def significant(value: float) -> float | None:
    """Return five significant digits, more than a picture shows; None where there is no number."""
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


__all__ = [
    "GREY",
    "PALETTE",
    "Spec",
    "Variant",
    "aggregate_plot",
    "axis_title",
    "colour_of",
    "interval_plots",
    "label_text",
    "pareto_front",
    "pareto_plot",
    "significant",
    "symbol_of",
]
