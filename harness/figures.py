"""Pictures of one cell, drawn from its scores: matrices as heat maps, curves over probes or stages as lines, values as histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Scores

_MOST_LINES = 5
_MOST_TICKS = 30

Curve = Sequence[tuple[int, int, float]]


def draw(scores: Scores, folder: Path, *, title: str) -> list[Path]:
    """Write one PNG per matrix, panel, other probe curve and histogram, and one of the figures over the stages; return their paths."""
    made = []
    for name, matrix in scores.matrices.items():
        axes = {} if name == "accuracy" else {"rows": "true class", "columns": "label"}
        made.append(_save(heat_map(matrix, title=title, quantity=name.replace("_", " "), **axes), folder / f"{name}_matrix.png"))
    for name, together in scores.panels.items():
        if any(scores.probes[curve] for curve in together):
            made.append(_save(panel({curve: scores.probes[curve] for curve in together}, title=title), folder / f"{name}_panel.png"))
    for name in scores.probes.keys() - {curve for together in scores.panels.values() for curve in together}:
        if scores.probes[name]:
            made.append(_save(_curve(scores.probes[name], title=title, quantity=name), folder / f"{name}_curve.png"))
    for name, groups in scores.histograms.items():
        made.append(_save(histogram(groups, title=title, quantity=name.replace("_", " ")), folder / f"{name}_histogram.png"))
    if any(len(values) > 1 for values in scores.per_stage.values()):
        made.append(_save(stage_lines([scores.per_stage], [""], title=title), folder / "stages.png"))
    return made


def heat_map(
    matrix: NDArray[np.float64], *, title: str, quantity: str, rows: str = "after stage", columns: str = "stage of arrival"
) -> Any:
    """Return a figure of a matrix of shares, such as R[i, j]; values in per cent where there is room."""
    from matplotlib.figure import Figure

    size = len(matrix)
    figure = Figure(figsize=(2.4 + 0.55 * size, 1.6 + 0.5 * size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(matrix, vmin=0, vmax=1, cmap="viridis")
    axes.set(xlabel=columns, ylabel=rows)
    if size <= _MOST_TICKS:
        axes.set(xticks=range(size), yticks=range(size))
    axes.set_title(title, fontsize=8)
    if size <= 12:
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


def panel(curves: Mapping[str, Curve], *, title: str) -> Any:
    """Return a figure with a plot per stage: the shares in `curves`, rows of (stage, epoch, share), over the epochs."""
    from matplotlib.figure import Figure

    stages = sorted({stage for rows in curves.values() for stage, _, _ in rows})
    figure = Figure(figsize=(1.5 + 3.3 * len(stages), 2.9), layout="constrained")
    plots = figure.subplots(1, len(stages), sharey=True, squeeze=False)[0]
    for axes, stage in zip(plots, stages, strict=True):
        for name, rows in curves.items():
            own = [(epoch, share) for at, epoch, share in rows if at == stage]
            axes.plot([epoch for epoch, _ in own], [share for _, share in own], label=name.replace("_", " "))
        axes.set(xlabel="epoch" if len(stages) == 1 else f"epoch of stage {stage}", ylim=(-0.02, 1.02))
    figure.suptitle(title, fontsize=8)
    plots[0].set_ylabel("share")
    plots[-1].legend(fontsize=7)
    return figure


def histogram(groups: Mapping[str, NDArray[np.float64]], *, title: str, quantity: str) -> Any:
    """Return a figure of the distributions of `groups`, each with its own density."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    edges = np.histogram_bin_edges(np.concatenate(list(groups.values())), bins=40).tolist()
    for name, values in groups.items():
        axes.hist(values, bins=edges, density=True, alpha=0.55, label=f"{name.replace('_', ' ')} ({len(values)})")
    axes.set(xlabel=quantity, ylabel="density")
    axes.set_title(title, fontsize=8)
    axes.legend(fontsize=7)
    return figure


def _curve(rows: Any, *, title: str, quantity: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    for stage in sorted({row[0] for row in rows}):
        steps, values = zip(*[(step, value) for at, step, value in rows if at == stage], strict=True)
        axes.plot(steps, values, label=f"stage {stage}")
    axes.set(xlabel="gradient step", ylabel=quantity)
    axes.set_title(title, fontsize=8)
    axes.legend(fontsize=7)
    return figure


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=90)
    return path
