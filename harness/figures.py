"""Pictures of one cell, drawn from its scores: every matrix as a heat map, every curve over probes or stages as a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Scores

_MOST_LINES = 5


def draw(scores: Scores, folder: Path, *, title: str) -> list[Path]:
    """Write one PNG per matrix, one per probe curve and one of the figures over the stages into `folder`; return their paths."""
    made = []
    for name, matrix in scores.matrices.items():
        figure = heat_map(matrix, title=title, quantity=name)
        made.append(_save(figure, folder / f"{name}_matrix.png"))
    for name, rows in scores.probes.items():
        if rows:
            made.append(_save(_curve(rows, title=title, quantity=name), folder / f"{name}_curve.png"))
    if scores.per_stage:
        made.append(_save(stage_lines([scores.per_stage], [""], title=title), folder / "stages.png"))
    return made


def heat_map(matrix: NDArray[np.float64], *, title: str, quantity: str) -> Any:
    """Return a figure of R[i, j]: rows are time, columns the stages of arrival; values in per cent where there is room."""
    from matplotlib.figure import Figure

    size = len(matrix)
    figure = Figure(figsize=(2.4 + 0.55 * size, 1.6 + 0.5 * size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(matrix, vmin=0, vmax=1, cmap="viridis")
    axes.set(xlabel="stage of arrival", ylabel="after stage", xticks=range(size), yticks=range(size))
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
