"""Pictures of what happened on the way, as plotly figures: lines over stages and probes, and matrices, mean
over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Axes
from harness.results.ranking import Ranking, Row
from harness.results.tables import words
from harness.store.matrix_plots import KNOWN_AXES
from leaderboards.site.curves import Curve, Curves
from leaderboards.site.figures import PALETTE, Spec, Variant, colour_of, label_text, significant, symbol_of

IN_VIEW = 8
"""Contenders whose curves are drawn before a reader chooses."""
_DASHES = ("solid", "dash", "dot", "dashdot")
_MOST_ENTRIES = 12
"""Rows of a matrix up to which its entries are written in it."""


def curve_plots(ranking: Ranking, curves: Curves) -> list[Variant]:
    """Return a picture per figure that was taken after every stage, and per figure that was probed in
    between.
    """
    found = [
        Variant(words(name), _lines(ranking, of, "after stage", whole=True), "after every stage")
        for name, of in curves.stages.items()
    ]
    axis = "step or epoch, stages one after another" if curves.stages else "step or epoch"
    return found + [
        Variant(words(name), _lines(ranking, of, axis), "while learning")
        for name, of in curves.probes.items()
    ]


def matrix_plots(ranking: Ranking, curves: Curves) -> list[Variant]:
    """Return a picture per matrix and strategy, in the order of the table; shares in per cent."""
    found = []
    for name, of in curves.matrices.items():
        finite = np.concatenate([matrix[np.isfinite(matrix)] for matrix in of.values()])
        factor = 100.0 if finite.size and np.abs(finite).max() <= 1 else 1.0
        axes = {**KNOWN_AXES, **curves.axes}.get(name, Axes("row", "column"))
        for row in ranking.rows:
            if row.strategy in of:
                found.append(
                    Variant(row.strategy, _heat_map(of[row.strategy], name, axes, factor), words(name))
                )
    return found


def _lines(ranking: Ranking, curves: Mapping[str, Curve], axis: str, *, whole: bool = False) -> Spec:
    """Return a line per strategy; those beyond the first eight contenders wait for the reader."""
    finite = [
        interval.mean
        for curve in curves.values()
        for interval in curve.intervals
        if math.isfinite(interval.mean)
    ]
    factor = 100.0 if all(abs(value) <= 1 for value in finite) else 1.0
    traces: list[Spec] = []
    contenders = 0
    for row in ranking.rows:
        if row.strategy not in curves:
            continue
        contenders += row.role == "contender"
        visible: Any = True if row.role != "contender" or contenders <= IN_VIEW else "legendonly"
        traces.append(_line(ranking, row, curves[row.strategy], factor, visible))
    ticks = (
        {"dtick": 1} if whole and len(max(curves.values(), key=lambda curve: len(curve.x)).x) <= 20 else {}
    )
    layout = {
        "height": 420,
        "hovermode": "closest",
        "xaxis": {"title": {"text": axis}, **ticks},
        "yaxis": {"title": {"text": "%" if factor == 100 else "value"}},
    }
    return {"data": traces, "layout": layout}


def _line(ranking: Ranking, row: Row, curve: Curve, factor: float, visible: Any) -> Spec:
    """Return a line that carries half the width of its interval; the page draws the band from that."""
    colour = colour_of(ranking, row)
    place = [one.strategy for one in ranking.rows].index(row.strategy)
    means = [significant(interval.mean * factor) for interval in curve.intervals]
    dash = (
        _DASHES[place // len(PALETTE) % len(_DASHES)]
        if row.role == "contender"
        else "dash"
        if row.role == "upper bound"
        else "dot"
    )
    halves = [significant((interval.high - interval.low) / 2 * factor) for interval in curve.intervals]
    return {
        "name": label_text(row.strategy),
        "meta": {"strategy": row.strategy, "band": True},
        "visible": visible,
        "type": "scatter",
        "mode": "lines+markers" if len(curve.x) <= 20 else "lines",
        "x": curve.x,
        "y": means,
        "customdata": halves,
        "line": {"color": colour, "width": 2, "dash": dash},
        "marker": {"symbol": symbol_of(ranking, row), "size": 7},
        "hovertemplate": "%{y:.4~g} ± %{customdata:.2~g} at %{x:.6~g}",
    }


def _heat_map(matrix: NDArray[np.float64], name: str, axes: Axes, factor: float) -> Spec:
    down, across = axes.rows, axes.columns
    values = [[significant(value * factor) for value in row] for row in matrix.tolist()]
    first = 1 if name == "accuracy" else 0
    small = max(matrix.shape) <= _MOST_ENTRIES
    trace: Spec = {
        "type": "heatmap",
        "z": values,
        "x": [*axes.column_names] or list(range(first, first + matrix.shape[1])),
        "y": [*axes.row_names] or list(range(first, first + matrix.shape[0])),
        "colorscale": "Viridis",
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": False,
        "colorbar": {"thickness": 12, "outlinewidth": 0},
        "hovertemplate": f"{down} %{{y}}, {across} %{{x}}: %{{z:.4~g}}<extra></extra>",
        **({"zmin": 0, "zmax": 100} if factor == 100 and np.nanmin(matrix) >= 0 else {}),
        **({"texttemplate": "%{z:.0f}" if factor == 100 else "%{z:.2~g}"} if small else {}),
    }
    ticks = {"dtick": 1} if small else {}
    axis = {"showgrid": False, "zeroline": False, **ticks}
    layout = {
        "height": 420,
        "xaxis": {**axis, "title": {"text": across}, "constrain": "domain"},
        "yaxis": {**axis, "title": {"text": down}, "autorange": "reversed"},
    }
    return {"data": [trace], "layout": layout}


__all__ = ["IN_VIEW", "curve_plots", "matrix_plots"]
