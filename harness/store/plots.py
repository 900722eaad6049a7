"""Pictures of one cell, drawn from its scores: matrices as heat maps, curves over probes or stages as lines,
values as histograms.

However much there is to show, no picture is larger than `canvas` allows: cells shrink, ticks thin out, and of
plots, lines and rows beyond a number some are left out, which the title says.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Axes, Scores
from harness.errors import in_one_line

LONGEST_SIDE, MOST_PIXELS = 2400, 4_000_000
"""Of any picture."""

_log = logging.getLogger(__name__)

_DPI = 90
_MOST_LINES = 5
_MOST_PLOTS = 7
_MOST_STAGES = 10
_MOST_ROWS = 18
_WIDEST = 10.0
"""Inches for all cells of a matrix, side by side or one below the other."""
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

T = TypeVar("T")


def draw(
    scores: Scores, folder: Path, *, title: str, say: Callable[[str], None] = _log.warning
) -> list[Path]:
    """Write a PNG per matrix, panel, other probe curve, histogram and strip, and one of the figures over the
    stages; return their paths.

    A picture that cannot be drawn is a line for `say`, and the others are drawn.
    """
    made = []
    for name, picture in _pictures(scores, title):
        try:
            picture().savefig(folder / f"{name}.png")
            made.append(folder / f"{name}.png")
        except Exception as error:
            (folder / f"{name}.png").unlink(missing_ok=True)
            say(f"{name}.png could not be drawn: {in_one_line(error)}")
    return made


def _pictures(scores: Scores, title: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the name of every picture, and what draws it."""
    for name, matrix in scores.matrices.items():
        axes = {**KNOWN_AXES, **scores.axes}.get(name, Axes("row", "column"))
        if name == "pruning":
            yield "pruning", partial(prune_curves, matrix, title=title)
        else:
            yield (
                f"{name}_matrix",
                partial(heat_map, matrix, axes, title=title, quantity=name.replace("_", " ")),
            )
    for name, together in scores.panels.items():
        if curves := {curve: scores.probes[curve] for curve in together if scores.probes.get(curve)}:
            yield f"{name}_panel", partial(panel, curves, title=title, by_step=name in _BY_STEP)
    for name in scores.probes.keys() - {curve for together in scores.panels.values() for curve in together}:
        if scores.probes[name]:
            yield f"{name}_curve", partial(_curve, scores.probes[name], title=title, quantity=name)
    for name, groups in scores.histograms.items():
        yield (
            f"{name}_histogram",
            partial(histogram, groups, title=title, quantity=name.replace("_", " "), edges=_EDGES.get(name)),
        )
    for name, (cases, captions) in scores.strips.items():
        yield f"{name}_strip", partial(strip, cases, captions, title=title)
    if any(len(values) > 1 for values in scores.per_stage.values()):
        yield "stages", partial(stage_lines, [scores.per_stage], [""], title=title)


def canvas(width: float, height: float, *, dpi: int = _DPI, **options: Any) -> Any:
    """Return an empty figure of `width` x `height` inches, or as much of it as `LONGEST_SIDE` and
    `MOST_PIXELS` leave.
    """
    from matplotlib.figure import Figure

    width, height = min(width, LONGEST_SIDE / dpi), min(height, LONGEST_SIDE / dpi)
    shrink = min(1.0, math.sqrt(MOST_PIXELS / (width * height)) / dpi)
    return Figure(figsize=(width * shrink, height * shrink), dpi=dpi, **options)


def spread(items: Sequence[T], most: int, title: str, what: str) -> tuple[Sequence[T], str]:
    """Return at most `most` of `items`, evenly spread from the first to the last, and the title, which says
    so where some are left out.
    """
    if len(items) <= most:
        return items, title
    places = np.linspace(0, len(items) - 1, most).round().astype(int)
    return [items[place] for place in places], f"{title} ({most} of {len(items)} {what})".strip()


def ticks(count: int, *, most: int = _MOST_TICKS) -> range:
    """Return which of `count` places are marked, `most` of them: all, or every second, fifth, tenth and so
    on.

    >>> ticks(3), ticks(31), ticks(200)
    (range(0, 3), range(0, 31, 2), range(0, 200, 10))
    """
    steps = (factor * 10**power for power in range(10) for factor in (1, 2, 5))
    return range(0, count, next(step for step in steps if count <= step * most))


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
            shade = "black" if matrix[row, column] > 0.6 else "white"
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
            dense = len(run[name]) > _MOST_TICKS
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
            axes.text(column, row, f"{100 * most:.0f}", ha="center", va="center", fontsize=7)
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


def _curve(rows: Any, *, title: str, quantity: str) -> Any:
    (axes,) = _plots(1, width=4.2)
    stages, title = spread(sorted({row[0] for row in rows}), _MOST_STAGES, title, "stages")
    for stage in stages:
        steps, values = zip(*[(step, value) for at, step, value in rows if at == stage], strict=True)
        axes.plot(steps, values, label=f"stage {stage}")
    axes.set(xlabel="gradient step")
    if quantity in _BY_SIZE:
        axes.set(xscale="log", yscale="log")
    return _titled([axes], title, quantity.replace("_", " "))


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
