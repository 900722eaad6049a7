"""Pictures of one cell, drawn from its scores: matrices as heat maps, curves over probes or stages as lines, values as histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Axes, Scores

_MOST_LINES = 5
_MOST_TICKS = 30
_BY_STEP = ("fates", "detection", "collapse")
"""Panels over gradient steps and not epochs; what happens late and slowly is drawn over their logarithm."""
_BY_SIZE = ("largest_logit", "weight_norm")
"""Curves of sizes that grow or decay by orders of magnitude; both axes are logarithmic."""
_EDGES = {"ipr": np.linspace(0, 1, 21)}
"""Bins of histograms of quantities that have a range of their own."""

KNOWN_AXES: Mapping[str, Axes] = {
    "accuracy": Axes("after stage", "stage of arrival"),
    "transition": Axes("true class", "label"),
    "implied_transition": Axes("true class", "answer"),
    "novel_rows": Axes("true class", "row of the learner"),
}
"""What stands on the axes of matrices that several scenarios have; a scenario says it of its own."""

_PHASE_SHADES = ("#4daf4a", "#377eb8", "#80b1d3", "#b3de69", "#e41a1c", "#984ea3", "#cccccc")

_MARGINS = {"left": 0.72, "right": 0.12, "bottom": 0.5, "top": 0.3}
"""Inches around plots of lines, fixed: to measure every label first would take half of the time of a picture."""

Curve = Sequence[tuple[int, int, float]]


def draw(scores: Scores, folder: Path, *, title: str) -> list[Path]:
    """Write a PNG per matrix, panel, other probe curve, histogram and strip, and one of the figures over the stages; return their paths."""
    made = []
    for name, matrix in scores.matrices.items():
        if name == "pruning":
            made.append(_save(prune_curves(matrix, title=title), folder / "pruning.png"))
            continue
        axes = {**KNOWN_AXES, **scores.axes}.get(name, Axes("row", "column"))
        made.append(_save(heat_map(matrix, axes, title=title, quantity=name.replace("_", " ")), folder / f"{name}_matrix.png"))
    for name, together in scores.panels.items():
        if any(scores.probes[curve] for curve in together):
            picture = panel({curve: scores.probes[curve] for curve in together}, title=title, by_step=name in _BY_STEP)
            made.append(_save(picture, folder / f"{name}_panel.png"))
    for name in scores.probes.keys() - {curve for together in scores.panels.values() for curve in together}:
        if scores.probes[name]:
            made.append(_save(_curve(scores.probes[name], title=title, quantity=name), folder / f"{name}_curve.png"))
    for name, groups in scores.histograms.items():
        picture = histogram(groups, title=title, quantity=name.replace("_", " "), edges=_EDGES.get(name))
        made.append(_save(picture, folder / f"{name}_histogram.png"))
    for name, (cases, captions) in scores.strips.items():
        made.append(_save(strip(cases, captions, title=title), folder / f"{name}_strip.png"))
    if any(len(values) > 1 for values in scores.per_stage.values()):
        made.append(_save(stage_lines([scores.per_stage], [""], title=title), folder / "stages.png"))
    return made


def heat_map(matrix: NDArray[np.float64], axes_: Axes = KNOWN_AXES["accuracy"], *, title: str, quantity: str) -> Any:
    """Return a figure of a matrix of shares, such as R[i, j]; values in per cent where there is room."""
    from matplotlib.figure import Figure

    height, width = matrix.shape
    figure = Figure(figsize=(2.4 + 0.55 * width, 1.6 + 0.5 * height), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(matrix, vmin=0, vmax=1, cmap="viridis")
    axes.set(xlabel=axes_.columns, ylabel=axes_.rows)
    if max(height, width) <= _MOST_TICKS:
        axes.set(xticks=range(width), yticks=range(height))
        if axes_.row_names:
            axes.set_yticklabels(axes_.row_names)
        if axes_.column_names:
            axes.set_xticklabels(axes_.column_names, rotation=40, ha="right")
    axes.set_title(title, fontsize=8)
    if max(height, width) <= 12:
        for row, column in np.argwhere(np.isfinite(matrix)):
            shade = "black" if matrix[row, column] > 0.6 else "white"
            axes.text(column, row, f"{100 * matrix[row, column]:.0f}", ha="center", va="center", color=shade, fontsize=8)
    figure.colorbar(image, ax=axes, label=quantity)
    return figure


def stage_lines(runs: Sequence[Mapping[str, Sequence[float]]], labels: Sequence[str], *, title: str, names: Sequence[str] = ()) -> Any:
    """Return a figure with a panel per run: the shares in it (`names`, or the first five) after every stage."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 + 3.3 * len(runs), 2.9), layout="constrained")
    panels = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]
    for axes, run, label in zip(panels, runs, labels, strict=True):
        for name in names or list(run)[:_MOST_LINES]:
            axes.plot(range(len(run[name])), run[name], marker="o", markersize=3, label=name.replace("_", " "))
        axes.set(xlabel="after stage", ylim=(-0.02, 1.02), xticks=range(max(map(len, run.values()))))
        axes.set_title(label or title, fontsize=8)
    panels[0].set_ylabel("accuracy")
    panels[-1].legend(fontsize=7)
    return figure


def panel(curves: Mapping[str, Curve], *, title: str, by_step: bool = False) -> Any:
    """Return a figure with a plot per stage: the shares in `curves`, rows of (stage, epoch, share), over epochs or the log of steps."""
    stages = sorted({stage for rows in curves.values() for stage, _, _ in rows})
    plots = _plots(len(stages), width=3.3)
    for axes, stage in zip(plots, stages, strict=True):
        for name, rows in curves.items():
            if own := [(epoch, share) for at, epoch, share in rows if at == stage]:
                axes.plot([epoch for epoch, _ in own], [share for _, share in own], label=name.replace("_", " "))
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
    """Return a figure with a plot per order in which neurons go, by inverse participation ratio (IPR): shares over the share removed.

    Args:
        pruning: (3, 4, L), the orders low first, high first and random; memorised, test, clean and train; L levels from 0 to 1.
        title: of the figure.
    """
    plots = _plots(len(pruning), width=3.1)
    removed = np.linspace(0, 1, pruning.shape[2])
    for axes, curves, order in zip(plots, pruning, ("low IPR first", "high IPR first", "at random (mean of 5)"), strict=True):
        for name, shares in zip(("memorised", "test", "clean", "train"), curves, strict=True):
            axes.plot(removed, shares, label=name)
        axes.set(xlabel=f"neurons removed, {order}", ylim=(-0.02, 1.02))
    return _titled(plots, title, "share")


def phase_diagram(shares: Mapping[str, NDArray[np.float64]], *, rows: Sequence[float], columns: Sequence[float], title: str,
                  row_name: str, column_name: str) -> Any:  # fmt: skip
    """Return a figure of a grid whose cells have the colour of their commonest phase, and say where not all seeds agree.

    Args:
        shares: phase -> (len(rows), len(columns)), the share of the seeds that end in it; NaN where there is no run.
        rows, columns: values on the axes, ascending; the first row is at the bottom.
        title, row_name, column_name: in words.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    names = [name for name, share in shares.items() if np.nansum(share) > 0]
    stacked = np.stack([shares[name] for name in names])
    there = np.isfinite(stacked).all(axis=0)
    commonest = np.where(there, stacked.argmax(axis=0), np.nan)
    shades = [_PHASE_SHADES[list(shares).index(name) % len(_PHASE_SHADES)] for name in names]
    figure = Figure(figsize=(3.8 + 0.42 * len(columns), 1.6 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(commonest, origin="lower", cmap=ListedColormap(shades), vmin=-0.5, vmax=len(names) - 0.5, interpolation="nearest")
    axes.set(xticks=range(len(columns)), yticks=range(len(rows)), xlabel=column_name, ylabel=row_name)
    axes.set_xticklabels([f"{value:g}" for value in columns], fontsize=8)
    axes.set_yticklabels([f"{value:g}" for value in rows], fontsize=8)
    for row, column in np.argwhere(there):
        if (most := stacked[:, row, column].max()) < 1:
            axes.text(column, row, f"{100 * most:.0f}", ha="center", va="center", fontsize=7)
    axes.set_title(title, fontsize=8)
    figure.legend(handles=[Patch(color=shade, label=name.replace("_", " ")) for name, shade in zip(names, shades, strict=True)],
                  loc="outside right upper", fontsize=7)  # fmt: skip
    return figure


def histogram(groups: Mapping[str, NDArray[np.float64]], *, title: str, quantity: str, edges: NDArray[np.float64] | None = None) -> Any:
    """Return a figure of the distributions of `groups`, each with its own density; 40 bins over their range, or between `edges`."""
    (axes,) = _plots(1, width=4.2)
    bins = (np.histogram_bin_edges(np.concatenate(list(groups.values())), bins=40) if edges is None else edges).tolist()
    for name, values in groups.items():
        axes.hist(values, bins=bins, density=True, alpha=0.55, label=f"{name.replace('_', ' ')} ({len(values)})")
    axes.set(xlabel=quantity)
    return _titled([axes], title, "density")


def strip(cases: NDArray[Any], captions: Sequence[str], *, title: str, panels: Sequence[str] = ("image", "mask", "map")) -> Any:
    """Return a figure with a row of grey or colour images per case, its caption on the left.

    Args:
        cases: (rows, panels, h, w) or (rows, panels, h, w, 3), in [0, 1].
        captions: one for each row.
        title: of the figure.
        panels: what stands in each column.
    """
    from matplotlib.figure import Figure

    rows, columns = cases.shape[:2]
    figure = Figure(figsize=(1.6 + 1.1 * columns, 0.5 + 1.1 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for row, caption in enumerate(captions):
        for column, name in enumerate(panels):
            axes = grid[row, column]
            axes.imshow(cases[row, column], cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(name, fontsize=8)
        grid[row, 0].set_ylabel(caption, fontsize=7, rotation=0, ha="right", va="center")
    figure.suptitle(title, fontsize=8)
    return figure


def _curve(rows: Any, *, title: str, quantity: str) -> Any:
    (axes,) = _plots(1, width=4.2)
    for stage in sorted({row[0] for row in rows}):
        steps, values = zip(*[(step, value) for at, step, value in rows if at == stage], strict=True)
        axes.plot(steps, values, label=f"stage {stage}")
    axes.set(xlabel="gradient step")
    if quantity in _BY_SIZE:
        axes.set(xscale="log", yscale="log")
    return _titled([axes], title, quantity.replace("_", " "))


def _plots(count: int, *, width: float) -> list[Any]:
    """Return plots side by side that share their vertical axis, `width` inches each, on a figure of their own."""
    from matplotlib.figure import Figure

    around, height = _MARGINS, 2.9
    whole = around["left"] + count * width + around["right"]
    figure = Figure(figsize=(whole, height))
    figure.subplots_adjust(left=around["left"] / whole, right=1 - around["right"] / whole, bottom=around["bottom"] / height,
                           top=1 - around["top"] / height, wspace=0.06)  # fmt: skip
    return list(figure.subplots(1, count, sharey=True, squeeze=False)[0])


def _titled(plots: Sequence[Any], title: str, quantity: str) -> Any:
    """Finish plots of lines: title above, quantity on the left, names in the last one; return their figure."""
    figure = plots[0].figure
    figure.suptitle(title, fontsize=8)
    plots[0].set_ylabel(quantity)
    plots[-1].legend(fontsize=7)
    return figure


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=90)
    return path
