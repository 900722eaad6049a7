"""Curves of probes as small multiples: a plot per figure, a line per strategy or per set of items."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.store.canvas import canvas, spread
from harness.store.line_plots import Curve

_MOST_PLOTS = 32
_IN_A_ROW = 4
_LATE = 50
"""From so many steps on they are drawn over their logarithm: most changes come early, or late by orders."""

_UNIT = "steps, or epochs where looks count these"

LEADING = "accuracy"
"""The figure that is drawn first, where it was measured: the others are read beside it."""


def multiples(plots: Mapping[str, Mapping[str, Curve]], *, title: str) -> Any:
    """Return a figure with a plot per entry of `plots`: its lines, rows of (stage, step, value), by label; several
    stages one behind the other.
    """
    named = sorted(plots, key=lambda name: not name.startswith(LEADING))
    drawn, title = spread(named, _MOST_PLOTS, title, "figures")
    across = max(1, min(_IN_A_ROW, len(drawn)))
    down = max(1, -(-len(drawn) // across))
    figure = canvas(0.5 + 2.9 * across, 0.5 + 2.3 * down, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    lengths = stage_lengths([rows for lines in plots.values() for rows in lines.values()])
    labels = list(dict.fromkeys(label for name in drawn for label in plots[name]))
    for axes, name in zip(grid.flat, drawn, strict=False):
        for label, rows in plots[name].items():
            points = [point for point in end_to_end(rows, lengths) if math.isfinite(point[1])]
            axes.plot(
                [at for at, _ in points],
                [value for _, value in points],
                marker="o",
                markersize=2.5,
                color=f"C{labels.index(label)}",
                label=label,
            )
        _mark_stages(axes, lengths)
        axes.set_title(name.replace("_", " ").replace("@", ", "), fontsize=8)
        axes.tick_params(labelsize=7)
    for axes in grid.flat[len(drawn) :]:
        axes.set_axis_off()
    for axes in grid[-1]:
        axes.set_xlabel(_UNIT, fontsize=7)
    lines = {str(line.get_label()): line for axes in grid.flat for line in axes.get_lines()}
    handles = [lines[label] for label in labels]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, max(1, len(labels))), fontsize=7)
    figure.suptitle(title, fontsize=8)
    return figure


def stage_lengths(curves: list[Curve]) -> dict[int, int]:
    """Return the last step of every stage in any of `curves`."""
    lengths: dict[int, int] = {}
    for stage, step, _ in sorted(row for rows in curves for row in rows):
        lengths[stage] = max(step, lengths.get(stage, 0))
    return lengths


def end_to_end(rows: Curve, lengths: Mapping[int, int]) -> list[tuple[int, float]]:
    """Return (steps since the first stage began, value) in order.

    >>> end_to_end([(1, 5, 0.2), (0, 0, 0.1)], {0: 10, 1: 5})
    [(0, 0.1), (15, 0.2)]
    """
    before = {stage: sum(length for at, length in lengths.items() if at < stage) for stage in lengths}
    return [(before[stage] + step, value) for stage, step, value in sorted(rows, key=lambda row: row[:2])]


def _mark_stages(axes: Any, lengths: Mapping[int, int]) -> None:
    if len(lengths) == 1:
        if max(lengths.values()) > _LATE:
            axes.set_xscale("symlog", linthresh=1, linscale=0.4)
        return
    end = 0
    for stage in sorted(lengths)[:-1]:
        end += lengths[stage]
        axes.axvline(end, color="0.8", linewidth=0.7, zorder=0)


__all__ = ["end_to_end", "multiples", "stage_lengths"]
