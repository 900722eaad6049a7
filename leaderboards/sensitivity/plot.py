"""Sensitivity plots: a row per part, a panel per dimension, and a heat map where two dimensions were listed."""

from __future__ import annotations

import io
import math
from typing import Any

from leaderboards.sensitivity.curves import Curve, Effect, Heat, Scatter
from leaderboards.sensitivity.report import Part, Report, View
from leaderboards.sensitivity.text import said, title

_MEAN, _BEST, _GREY, _BAD = "#2a6fb0", "#18945c", "#868c96", "#d9541e"


def sensitivity_png(report: Report) -> bytes:
    """Return the plot as PNG: means with 95 % intervals over seeds, bounds as lines, crosses where every cell failed."""
    from matplotlib.figure import Figure

    widest = max(_panels(part) for part in report.parts)
    figure = Figure(figsize=(max(4.6, 3.4 * widest), 0.6 + 2.9 * len(report.parts)), layout="constrained")
    grid = figure.subplots(len(report.parts), widest, squeeze=False)
    for row, part in zip(grid, report.parts, strict=True):
        _draw_part(figure, row, part)
    figure.suptitle(f"{report.title}, {report.seeds} seeds, 95 % intervals", fontsize=8)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=110, metadata={"Software": None})
    return written.getvalue()


def _panels(part: Part) -> int:
    view = part.views[0]
    return len(view.effects) + len(view.scatters) + (view.heat is not None)


def _draw_part(figure: Any, row: Any, part: Part) -> None:
    view = part.views[0]
    panels = iter(row)
    for effect in view.effects:
        _draw_effect(next(panels), part, view, effect)
    for scatter in view.scatters:
        _draw_scatter(next(panels), part, view, scatter)
    if view.heat:
        _draw_heat(figure, next(panels), view, view.heat)
    for empty in panels:
        empty.set_axis_off()
    row[0].set_title(part.label, fontsize=7, loc="left")


def _draw_effect(axes: Any, part: Part, view: View, effect: Effect) -> None:
    """Draw both curves over evenly spaced values; a dotted line stands at the default."""
    several = effect.curve.settings > 1
    _draw_curve(
        axes, effect.curve, view.factor, color=_MEAN, fmt="o-", label="mean over the others" if several else None, shift=-0.03 * several
    )
    if effect.best and several:
        _draw_curve(axes, effect.best, view.factor, color=_BEST, fmt="s--", label="others at best", shift=0.03)
    values = list(effect.curve.values)
    axes.set_xticks(range(len(values)), [said(value) for value in values], fontsize=6)
    if part.defaults.get(effect.dimension) in values and part.kind == "settings":
        axes.axvline(values.index(part.defaults[effect.dimension]), color=_GREY, linewidth=0.8, linestyle=":", label="default")
    _finish(axes, view, effect.dimension)


def _draw_curve(axes: Any, curve: Curve, factor: float, *, color: str, fmt: str, label: str | None, shift: float) -> None:
    means = [interval.mean * factor for interval in curve.intervals]
    halves = [interval.half_width * factor if math.isfinite(interval.half_width) else 0.0 for interval in curve.intervals]
    places = [place + shift for place in range(len(means))]
    axes.errorbar(places, means, yerr=halves, fmt=fmt, markersize=3.5, capsize=2.5, linewidth=1, color=color, label=label)
    failed = [place for place, mean in zip(places, means, strict=True) if not math.isfinite(mean)]
    if failed:
        axes.plot(failed, [0.03] * len(failed), "x", color=_BAD, transform=axes.get_xaxis_transform(), clip_on=False, label="failed")


def _draw_scatter(axes: Any, part: Part, view: View, scatter: Scatter) -> None:
    if scatter.levels:
        names = list(scatter.levels)
        axes.plot([names.index(str(value)) for value in scatter.values], [y * view.factor for y in scatter.figures], "o", markersize=3,
                  color=_MEAN)  # fmt: skip
        axes.set_xticks(range(len(names)), names, fontsize=6)
    else:
        axes.plot(scatter.values, [y * view.factor for y in scatter.figures], "o", markersize=3, color=_MEAN)
        if scatter.dimension in part.logarithmic:
            axes.set_xscale("log")
    if math.isfinite(scatter.rho):
        axes.text(0.98, 0.02, f"rho = {scatter.rho:+.2f}", transform=axes.transAxes, ha="right", fontsize=6)
    _finish(axes, view, scatter.dimension)


def _draw_heat(figure: Any, axes: Any, view: View, heat: Heat) -> None:
    shown = [[mean * view.factor for mean in row] for row in heat.means]
    image = axes.imshow(shown, aspect="auto", cmap="viridis")
    figure.colorbar(image, ax=axes).ax.tick_params(labelsize=6)
    for y, row in enumerate(shown):
        for x, mean in enumerate(row):
            text = "x" if math.isnan(mean) else f"{mean:.3g}{'*' if heat.lacking[y][x] else ''}"
            axes.text(x, y, text, ha="center", va="center", fontsize=6, color=_BAD if math.isnan(mean) else _ink(image, mean))
    axes.set_xticks(range(len(heat.across_values)), [said(value) for value in heat.across_values], fontsize=6)
    axes.set_yticks(range(len(heat.down_values)), [said(value) for value in heat.down_values], fontsize=6)
    axes.set_xlabel(heat.across, fontsize=7)
    axes.set_ylabel(heat.down, fontsize=7)


def _ink(image: Any, mean: float) -> str:
    return "black" if image.norm(mean) > 0.6 else "white"


def _finish(axes: Any, view: View, dimension: str) -> None:
    for bound, name, style in ((view.lower, "lower bound", (0, (1, 1))), (view.upper, "upper bound", (0, (5, 2)))):
        if bound and math.isfinite(bound.mean):
            axes.axhline(bound.mean * view.factor, color=_GREY, linewidth=0.8, linestyle=style, label=name)
    axes.set_xlabel(dimension, fontsize=7)
    axes.set_ylabel(title(view).replace("↑", "(higher is better)").replace("↓", "(lower is better)"), fontsize=6)
    axes.tick_params(labelsize=6)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=5, frameon=False)


__all__ = ["sensitivity_png"]
