"""Sensitivity plots: a row per part, a panel per dimension, and a heat map where two dimensions were listed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from harness.store.canvas import canvas, spread, ticks
from harness.store.matrix_plots import INK
from harness.studies.sweep.curves import Curve, Effect, Heat, Scatter
from harness.studies.sweep.report import Part, Report, View
from harness.studies.sweep.text import said, title

_MOST_PARTS, _MOST_PANELS, _MOST_WRITTEN = 8, 8, 20
_MEAN, _BEST, _GREY, _BAD = "#2a6fb0", "#18945c", "#868c96", "#d9541e"


def sensitivity_figure(report: Report) -> Any:
    """Return the plot: means with 95 % intervals over seeds, bounds as lines, crosses where every cell
    failed.
    """
    parts, heading = spread(
        report.parts, _MOST_PARTS, f"{report.title}, {report.seeds} seeds, 95 % intervals", "parts"
    )
    widest = min(max(_panels(part) for part in parts), _MOST_PANELS)
    figure = canvas(max(4.6, 3.4 * widest), 0.6 + 2.9 * len(parts), dpi=110, layout="constrained")
    grid = figure.subplots(len(parts), widest, squeeze=False)
    for row, part in zip(grid, parts, strict=True):
        _draw_part(figure, row, part)
    figure.suptitle(heading, fontsize=8)
    return figure


def _panels(part: Part) -> int:
    view = part.views[0]
    return len(view.effects) + len(view.scatters) + (view.heat is not None)


def _draw_part(figure: Any, row: Any, part: Part) -> None:
    view = part.views[0]
    panels: list[Callable[[Any], None]] = [
        partial(_draw_effect, part=part, view=view, effect=effect) for effect in view.effects
    ]
    panels += [partial(_draw_scatter, part=part, view=view, scatter=scatter) for scatter in view.scatters]
    panels += [partial(_draw_heat, figure=figure, view=view, heat=view.heat)] if view.heat else []
    shown, label = spread(panels, len(row), part.label, "panels")
    for axes, draw in zip(row, shown, strict=False):
        draw(axes)
    for empty in row[len(shown) :]:
        empty.set_axis_off()
    row[0].set_title(label, fontsize=7, loc="left")


def _draw_effect(axes: Any, part: Part, view: View, effect: Effect) -> None:
    """Draw both curves over evenly spaced values; a dotted line stands at the default."""
    several = effect.curve.settings > 1
    _draw_curve(
        axes,
        effect.curve,
        view.factor,
        color=_MEAN,
        fmt="o-",
        label="mean over the others" if several else None,
        shift=-0.03 * several,
    )
    if effect.best and several:
        _draw_curve(
            axes, effect.best, view.factor, color=_BEST, fmt="s--", label="others at best", shift=0.03
        )
    values = list(effect.curve.values)
    _mark(axes.set_xticks, values)
    if part.defaults.get(effect.dimension) in values and part.kind == "settings":
        axes.axvline(
            values.index(part.defaults[effect.dimension]),
            color=_GREY,
            linewidth=0.8,
            linestyle=":",
            label="default",
        )
    _finish(axes, view, effect.dimension)


def _draw_curve(
    axes: Any, curve: Curve, factor: float, *, color: str, fmt: str, label: str | None, shift: float
) -> None:
    means = [interval.mean * factor for interval in curve.intervals]
    halves = [
        interval.half_width * factor if math.isfinite(interval.half_width) else 0.0
        for interval in curve.intervals
    ]
    places = [place + shift for place in range(len(means))]
    axes.errorbar(
        places,
        means,
        yerr=halves,
        fmt=fmt,
        markersize=3.5,
        capsize=2.5,
        linewidth=1,
        color=color,
        label=label,
    )
    failed = [place for place, mean in zip(places, means, strict=True) if not math.isfinite(mean)]
    if failed:
        axes.plot(
            failed,
            [0.03] * len(failed),
            "x",
            color=_BAD,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            label="failed",
        )


def _draw_scatter(axes: Any, part: Part, view: View, scatter: Scatter) -> None:
    if scatter.levels:
        names = list(scatter.levels)
        axes.plot(
            [names.index(str(value)) for value in scatter.values],
            [y * view.factor for y in scatter.figures],
            "o",
            markersize=3,
            color=_MEAN,
        )
        _mark(axes.set_xticks, names)
    else:
        axes.plot(scatter.values, [y * view.factor for y in scatter.figures], "o", markersize=3, color=_MEAN)
        if scatter.dimension in part.logarithmic:
            axes.set_xscale("log")
    if math.isfinite(scatter.rho):
        axes.text(0.98, 0.02, f"rho = {scatter.rho:+.2f}", transform=axes.transAxes, ha="right", fontsize=6)
    _finish(axes, view, scatter.dimension)


def _draw_heat(axes: Any, figure: Any, view: View, heat: Heat) -> None:
    shown = [[mean * view.factor for mean in row] for row in heat.means]
    image = axes.imshow(shown, aspect="auto", cmap="viridis")
    figure.colorbar(image, ax=axes).ax.tick_params(labelsize=6)
    for y, row in enumerate(shown if max(len(shown), len(shown[0])) <= _MOST_WRITTEN else ()):
        for x, mean in enumerate(row):
            text = "x" if math.isnan(mean) else f"{mean:.3g}{'*' if heat.lacking[y][x] else ''}"
            axes.text(
                x,
                y,
                text,
                ha="center",
                va="center",
                fontsize=6,
                color=_BAD if math.isnan(mean) else _ink(image, mean),
            )
    _mark(axes.set_xticks, heat.across_values)
    _mark(axes.set_yticks, heat.down_values)
    axes.set_xlabel(heat.across, fontsize=7)
    axes.set_ylabel(heat.down, fontsize=7)


def _mark(set_ticks: Any, values: Sequence[Any]) -> None:
    places = ticks(len(values), most=15)
    set_ticks(places, [said(values[place]) for place in places], fontsize=6)


def _ink(image: Any, mean: float) -> str:
    return INK if image.norm(mean) > 0.6 else "white"


def _finish(axes: Any, view: View, dimension: str) -> None:
    for bound, name, style in (
        (view.lower, "lower bound", (0, (1, 1))),
        (view.upper, "upper bound", (0, (5, 2))),
    ):
        if bound and math.isfinite(bound.mean):
            axes.axhline(bound.mean * view.factor, color=_GREY, linewidth=0.8, linestyle=style, label=name)
    axes.set_xlabel(dimension, fontsize=7)
    axes.set_ylabel(
        title(view).replace("↑", "(higher is better)").replace("↓", "(lower is better)"), fontsize=6
    )
    axes.tick_params(labelsize=6)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=5, frameon=False)


__all__ = ["sensitivity_figure"]
