"""How strategies learn: what probes measured, as small multiples and as a table. Nothing here ranks anything."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean, median
from typing import Any

from harness.results.formats import rounded
from harness.results.tables import Table
from harness.store.line_plots import Curve
from harness.store.probe_plots import end_to_end, multiples, stage_lengths

Measured = Mapping[str, Sequence[Mapping[str, Curve]]]
"""By strategy: the curves of every seed, by the name of the figure."""

READING = (
    "last: the value after the last stage, mean over seeds; turns at: the look by which the figure had changed most "
    "since the one before, in steps since the first stage began, median over seeds. No ranking goes by these."
)


def names_of(measured: Measured) -> list[str]:
    """Return the figures that were measured, in the order in which they came."""
    return list(dict.fromkeys(name for seeds in measured.values() for one in seeds for name in one))


def how_it_learns(measured: Measured) -> Table:
    """Return a row per strategy and figure: its last value and the look of its largest change."""
    rows = []
    for strategy, seeds in measured.items():
        for name in names_of({strategy: seeds}):
            curves = [points for one in seeds if (points := _points(one.get(name, ())))]
            if curves:
                last = fmean(points[-1][1] for points in curves)
                turns = [at for points in curves if not math.isnan(at := largest_change(points))]
                when = rounded(median(turns), 6) if turns else ""
                rows.append([strategy, name.replace("@", ", "), rounded(last, 4), when, str(len(curves))])
    return Table(["strategy", "figure", "last", "turns at", "seeds"], rows)


def largest_change(points: Sequence[tuple[int, float]]) -> float:
    """Return the look by which a figure had changed most since the look before, the first of several; NaN of one look,
    or where nothing changed.

    >>> largest_change([(0, 1.0), (5, 0.9), (20, 0.2), (50, 0.1)])
    20
    """
    changes = [(abs(b - a), at) for (_, a), (at, b) in pairwise(points)]
    most = max((change for change, _ in changes), default=0.0)
    return next(at for change, at in changes if change == most) if most else math.nan


def plot(measured: Measured, title: str) -> Any:
    """Return a figure with a plot per figure and a line per strategy, the mean over seeds."""
    return multiples(
        {
            name: {strategy: rows for strategy, seeds in measured.items() if (rows := _mean(seeds, name))}
            for name in names_of(measured)
        },
        title=title,
    )


def _points(rows: Curve) -> list[tuple[int, float]]:
    return [point for point in end_to_end(rows, stage_lengths([rows])) if math.isfinite(point[1])]


def _mean(seeds: Sequence[Mapping[str, Curve]], name: str) -> list[tuple[int, int, float]]:
    """Return the mean at the looks that all seeds have in common."""
    each = [{(stage, step): value for stage, step, value in one[name]} for one in seeds if name in one]
    shared = sorted(set.intersection(*map(set, each))) if each else []
    return [(*at, fmean(values[at] for values in each)) for at in shared]


__all__ = ["READING", "Measured", "how_it_learns", "largest_change", "names_of", "plot"]
