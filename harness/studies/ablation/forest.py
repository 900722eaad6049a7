"""A forest plot: every contrast as a line, its difference in the leading metric with the interval, a panel
per scenario.
"""

from __future__ import annotations

import math
from typing import Any

from harness.store.canvas import canvas, spread
from harness.studies.ablation.effects import Effect, Part, Report, Verdict
from harness.studies.ablation.text import title

_MOST_PARTS = 12
_GREY = "#868c96"
_SHADES: dict[Verdict, str] = {
    "contributes": "#18945c",
    "reinforce each other": "#18945c",
    "hurts": "#d9541e",
    "overlap": "#d9541e",
}


def forest_figure(report: Report) -> Any:
    """Return the plot: green helps, orange hurts, grey cannot be told from nothing (Holm-corrected p
    above 0.05).
    """
    rows = len(report.ablation.contrasts)
    heading = f"{report.ablation.strategy}, {report.ablation.design}, {report.seeds} seeds, 95 % intervals"
    parts, heading = spread(report.parts, _MOST_PARTS, heading, "scenarios")
    figure = canvas(2.6 + 3.4 * len(parts), 1.2 + 0.3 * rows, dpi=110, layout="constrained")
    panels = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    for axes, part in zip(panels, parts, strict=True):
        _draw(axes, part)
    labels = [
        f"{one.on}\nrather than {one.off}" if one.kind != "interaction" else one.on
        for one in report.ablation.contrasts
    ]
    panels[0].set_yticks(range(rows), labels, fontsize=7)
    panels[0].set_ylim(rows - 0.5, -0.5)
    figure.suptitle(heading, fontsize=8)
    return figure


def _draw(axes: Any, part: Part) -> None:
    metric, effects = next(iter(part.effects.items()))
    axes.axvline(0, color=_GREY, linewidth=0.8, linestyle=":")
    for row, effect in enumerate(effects):
        if not math.isnan(effect.difference):
            shade = _SHADES.get(effect.verdict, _GREY)
            axes.errorbar(
                effect.difference * effect.factor,
                row,
                xerr=_half(effect),
                fmt="o",
                markersize=4,
                capsize=2.5,
                color=shade,
            )
    axes.set_xlabel(
        title(part, metric).replace("↑", "(higher is better)").replace("↓", "(lower is better)"), fontsize=7
    )
    axes.tick_params(axis="x", labelsize=7)
    axes.set_title(part.label, fontsize=7)


def _half(effect: Effect) -> float | None:
    half = (effect.high - effect.low) / 2 * effect.factor
    return half if math.isfinite(half) else None


__all__ = ["forest_figure"]
