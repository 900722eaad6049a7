"""Pictures of one cell, drawn from its scores: every matrix as a heat map, every probe curve as a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Scores


def draw(scores: Scores, folder: Path, *, title: str) -> list[Path]:
    """Write one PNG per matrix and per probe curve into `folder`; return their paths."""
    made = []
    for name, matrix in scores.matrices.items():
        figure = heat_map(matrix, title=title, quantity=name)
        made.append(_save(figure, folder / f"{name}_matrix.png"))
    for name, rows in scores.probes.items():
        if rows:
            made.append(_save(_curve(rows, title=title, quantity=name), folder / f"{name}_curve.png"))
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
