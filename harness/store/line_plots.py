"""Plots of curves and distributions: metrics after stages, panels of probes, single curves, pruning, histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.store.canvas import MOST_TICKS, canvas, spread, ticks

_MOST_LINES = 5
_MOST_PLOTS = 7
_MOST_STAGES = 10
_BY_SIZE = ("largest_logit", "weight_norm")
"""Curves of sizes that grow or decay by orders of magnitude; both axes are logarithmic."""

_MARGINS = {"left": 0.72, "right": 0.12, "bottom": 0.5, "top": 0.3}
"""Inches around plots of lines, fixed: to measure every label first would take half of the time of a picture."""

Curve = Sequence[tuple[int, int, float]]


def stage_lines(
    runs: Sequence[Mapping[str, Sequence[float]]],
    labels: Sequence[str],
    *,
    title: str,
    names: Sequence[str] = (),
) -> Any:
    """Return a figure with a panel per run: the shares in it (`names`, or the first five) after every stage."""
    drawn, title = spread(list(zip(runs, labels, strict=True)), _MOST_PLOTS, title, "runs")
    figure = canvas(1.5 + 3.3 * len(drawn), 2.9, layout="constrained")
    panels = figure.subplots(1, len(drawn), sharey=True, squeeze=False)[0]
    for axes, (run, label) in zip(panels, drawn, strict=True):
        for name in names or list(run)[:_MOST_LINES]:
            dense = len(run[name]) > MOST_TICKS
            axes.plot(
                range(len(run[name])),
                run[name],
                marker="" if dense else "o",
                markersize=3,
                label=name.replace("_", " "),
            )
        axes.set(
            xlabel="after stage",
            ylim=(-0.02, 1.02),
            xticks=ticks(max(map(len, run.values())), most=_MOST_STAGES),
        )
        axes.set_title(label or title, fontsize=8)
    if len(drawn) < len(runs):
        figure.suptitle(title, fontsize=8)
    panels[0].set_ylabel("accuracy")
    panels[-1].legend(fontsize=7)
    return figure


def panel(curves: Mapping[str, Curve], *, title: str, by_step: bool = False) -> Any:
    """Return a figure with a plot per stage: the shares in `curves`, rows of (stage, epoch, share), over
    epochs or the log of steps.
    """
    there = sorted({stage for rows in curves.values() for stage, _, _ in rows})
    stages, title = spread(there, _MOST_PLOTS, title, "stages")
    plots = _plots(len(stages), width=3.3)
    for axes, stage in zip(plots, stages, strict=True):
        for name, rows in curves.items():
            if own := [(epoch, share) for at, epoch, share in rows if at == stage]:
                axes.plot(
                    [epoch for epoch, _ in own], [share for _, share in own], label=name.replace("_", " ")
                )
        unit = "gradient step" if by_step else "epoch"
        axes.set(xlabel=unit if len(stages) == 1 else f"{unit} of stage {stage}", ylim=(-0.02, 1.02))
        if by_step:
            _by_log_of_steps(axes)
    return _titled(plots, title, "share")


def _by_log_of_steps(axes: Any) -> None:
    """Draw over the logarithm of steps, marked at 1, 2 and 5 times the powers of ten in plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def prune_curves(pruning: NDArray[np.float64], *, title: str) -> Any:
    """Return a figure with a plot per order in which neurons go, by inverse participation ratio (IPR): shares
    over the share removed.

    Args:
        pruning: (3, 4, L), the orders low first, high first and random; memorised, test, clean and train; L
            levels from 0 to 1.
        title: of the figure.
    """
    plots = _plots(len(pruning), width=3.1)
    removed = np.linspace(0, 1, pruning.shape[2])
    for axes, curves, order in zip(
        plots, pruning, ("low IPR first", "high IPR first", "at random (mean of 5)"), strict=True
    ):
        for name, shares in zip(("memorised", "test", "clean", "train"), curves, strict=True):
            axes.plot(removed, shares, label=name)
        axes.set(xlabel=f"neurons removed, {order}", ylim=(-0.02, 1.02))
    return _titled(plots, title, "share")


def curve(rows: Curve, *, title: str, quantity: str) -> Any:
    """Return a figure of one quantity, rows of (stage, step, value), a line per stage."""
    (axes,) = _plots(1, width=4.2)
    stages, title = spread(sorted({row[0] for row in rows}), _MOST_STAGES, title, "stages")
    for stage in stages:
        steps, values = zip(*[(step, value) for at, step, value in rows if at == stage], strict=True)
        axes.plot(steps, values, label=f"stage {stage}")
    axes.set(xlabel="gradient step")
    if quantity in _BY_SIZE:
        axes.set(xscale="log", yscale="log")
    return _titled([axes], title, quantity.replace("_", " "))


def histogram(
    groups: Mapping[str, NDArray[np.float64]],
    *,
    title: str,
    quantity: str,
    edges: NDArray[np.float64] | None = None,
) -> Any:
    """Return a figure of the distributions of `groups`, each with its own density; 40 bins over their range,
    or between `edges`.
    """
    (axes,) = _plots(1, width=4.2)
    bins = (
        np.histogram_bin_edges(np.concatenate(list(groups.values())), bins=40) if edges is None else edges
    ).tolist()
    for name, values in groups.items():
        axes.hist(
            values, bins=bins, density=True, alpha=0.55, label=f"{name.replace('_', ' ')} ({len(values)})"
        )
    axes.set(xlabel=quantity)
    return _titled([axes], title, "density")


def _plots(count: int, *, width: float) -> list[Any]:
    """Return plots side by side that share their vertical axis, `width` inches each, on a figure of their
    own.
    """
    around, height = _MARGINS, 2.9
    whole = around["left"] + count * width + around["right"]
    figure = canvas(whole, height)
    figure.subplots_adjust(
        left=around["left"] / whole,
        right=1 - around["right"] / whole,
        bottom=around["bottom"] / height,
        top=1 - around["top"] / height,
        wspace=0.06,
    )
    return list(figure.subplots(1, count, sharey=True, squeeze=False)[0])


def _titled(plots: Sequence[Any], title: str, quantity: str) -> Any:
    """Finish plots of lines: title above, quantity on the left, names in the last one; return their figure."""
    figure = plots[0].figure
    figure.suptitle(title, fontsize=8)
    plots[0].set_ylabel(quantity)
    plots[-1].legend(fontsize=7)
    return figure


__all__ = ["Curve", "curve", "histogram", "panel", "prune_curves", "stage_lines"]
