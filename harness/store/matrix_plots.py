"""Plots of matrices and images: heat maps, phase diagrams, strips of images; cells shrink where there are many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Axes
from harness.store.canvas import canvas, spread, ticks

KNOWN_AXES: Mapping[str, Axes] = {
    "accuracy": Axes("after stage", "stage of arrival"),
    "transition": Axes("true class", "label"),
    "implied_transition": Axes("true class", "answer"),
    "novel_rows": Axes("true class", "row of the learner"),
}
"""What stands on the axes of matrices that several scenarios have; a scenario says it of its own."""

INK = "#101010"
"""Of text upon a coloured cell, which keeps its colour on a dark page."""

_PHASE_SHADES = ("#4daf4a", "#377eb8", "#80b1d3", "#b3de69", "#e41a1c", "#984ea3", "#cccccc")
_MOST_ROWS = 18
_WIDEST = 10.0
"""Inches for all cells of a matrix, side by side or one below the other."""


def heat_map(
    matrix: NDArray[np.float64], axes_: Axes = KNOWN_AXES["accuracy"], *, title: str, quantity: str
) -> Any:
    """Return a figure of a matrix of shares, such as R[i, j]; values in per cent where there is room."""
    height, width = matrix.shape
    whole = min(0.55 * width, _WIDEST), min(0.5 * height, _WIDEST)
    figure = canvas(2.4 + whole[0], 1.6 + whole[1], layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(
        matrix, vmin=0, vmax=1, cmap="viridis", aspect="auto" if _WIDEST in whole else "equal"
    )
    axes.set(xlabel=axes_.columns, ylabel=axes_.rows, xticks=ticks(width), yticks=ticks(height))
    if axes_.row_names:
        axes.set_yticklabels([axes_.row_names[row] for row in ticks(height)])
    if axes_.column_names:
        axes.set_xticklabels([axes_.column_names[column] for column in ticks(width)], rotation=40, ha="right")
    axes.set_title(title, fontsize=8)
    if max(height, width) <= 12:
        for row, column in np.argwhere(np.isfinite(matrix)):
            shade = INK if matrix[row, column] > 0.6 else "white"
            axes.text(
                column,
                row,
                f"{100 * matrix[row, column]:.0f}",
                ha="center",
                va="center",
                color=shade,
                fontsize=8,
            )
    figure.colorbar(image, ax=axes, label=quantity)
    return figure


def phase_diagram(
    shares: Mapping[str, NDArray[np.float64]],
    *,
    rows: Sequence[float],
    columns: Sequence[float],
    title: str,
    row_name: str,
    column_name: str,
) -> Any:
    """Return a figure of a grid whose cells have the colour of their commonest phase, and say where not all
    seeds agree.

    Args:
        shares: phase -> (len(rows), len(columns)), the share of the seeds that end in it; NaN where there is
            no run.
        rows, columns: values on the axes, ascending; the first row is at the bottom.
        title, row_name, column_name: in words.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    names = [name for name, share in shares.items() if np.nansum(share) > 0]
    stacked = np.stack([shares[name] for name in names])
    there = np.isfinite(stacked).all(axis=0)
    commonest = np.where(there, stacked.argmax(axis=0), np.nan)
    shades = [_PHASE_SHADES[list(shares).index(name) % len(_PHASE_SHADES)] for name in names]
    across, down = ticks(len(columns)), ticks(len(rows))
    whole = min(0.42 * len(columns), _WIDEST), min(0.42 * len(rows), _WIDEST)
    figure = canvas(3.8 + whole[0], 1.6 + whole[1], layout="constrained")
    axes = figure.subplots()
    axes.imshow(
        commonest,
        origin="lower",
        cmap=ListedColormap(shades),
        vmin=-0.5,
        vmax=len(names) - 0.5,
        interpolation="nearest",
        aspect="auto" if _WIDEST in whole else "equal",
    )
    axes.set(xticks=across, yticks=down, xlabel=column_name, ylabel=row_name)
    axes.set_xticklabels([f"{columns[place]:g}" for place in across], fontsize=8)
    axes.set_yticklabels([f"{rows[place]:g}" for place in down], fontsize=8)
    for row, column in np.argwhere(there) if _WIDEST not in whole else ():
        if (most := stacked[:, row, column].max()) < 1:
            axes.text(column, row, f"{100 * most:.0f}", ha="center", va="center", color=INK, fontsize=7)
    axes.set_title(title, fontsize=8)
    figure.legend(
        handles=[
            Patch(color=shade, label=name.replace("_", " "))
            for name, shade in zip(names, shades, strict=True)
        ],
        loc="outside right upper",
        fontsize=7,
    )
    return figure


def strip(
    cases: NDArray[Any],
    captions: Sequence[str],
    *,
    title: str,
    panels: Sequence[str] = ("image", "mask", "map"),
) -> Any:
    """Return a figure with a row of grey or colour images per case, its caption on the left.

    Args:
        cases: (rows, panels, h, w) or (rows, panels, h, w, 3), in [0, 1].
        captions: one for each row.
        title: of the figure.
        panels: what stands in each column.
    """
    drawn, title = spread(list(zip(cases, captions, strict=True)), _MOST_ROWS, title, "rows")
    figure = canvas(1.6 + 1.1 * cases.shape[1], 0.5 + 1.1 * len(drawn), layout="constrained")
    grid = figure.subplots(len(drawn), cases.shape[1], squeeze=False)
    for row, (case, caption) in enumerate(drawn):
        for column, name in enumerate(panels):
            axes = grid[row, column]
            axes.imshow(case[column], cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(name, fontsize=8)
        grid[row, 0].set_ylabel(caption, fontsize=7, rotation=0, ha="right", va="center")
    figure.suptitle(title, fontsize=8)
    return figure


__all__ = ["INK", "KNOWN_AXES", "heat_map", "phase_diagram", "strip"]
