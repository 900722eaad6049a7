"""The canvas of every plot: however much there is to show, no picture is larger than `canvas` allows. Ticks thin
out, and of plots, lines and rows beyond a number some are left out, which the title says.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

LONGEST_SIDE, MOST_PIXELS = 2400, 4_000_000
"""Of any picture."""

MOST_TICKS = 30
_DPI = 90

T = TypeVar("T")


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


def ticks(count: int, *, most: int = MOST_TICKS) -> range:
    """Return which of `count` places are marked, `most` of them: all, or every second, fifth, tenth and so
    on.

    >>> ticks(3), ticks(31), ticks(200)
    (range(0, 3), range(0, 31, 2), range(0, 200, 10))
    """
    steps = (factor * 10**power for power in range(10) for factor in (1, 2, 5))
    return range(0, count, next(step for step in steps if count <= step * most))


def png(figure: Any) -> bytes:
    """Return a figure as PNG on white, as papers want it."""
    written = io.BytesIO()
    figure.savefig(written, format="png", metadata={"Software": None})
    return written.getvalue()


def svg(figure: Any) -> str:
    """Return a figure as an `svg` element without a ground; what is black in it, text and axes, has the colour of
    the text around it, so that it stands on a dark page as on a light one. Equal figures give equal text.
    """
    import matplotlib
    from matplotlib.legend import Legend

    for legend in figure.findobj(Legend):
        legend.get_frame().set(facecolor="none", edgecolor="none")
    written = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "owb"}):
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    drawn = written.getvalue().replace("stroke: #000000", "stroke: currentColor")
    return f'<svg fill="currentColor" {drawn[drawn.index("<svg") + 5 :]}'


__all__ = ["LONGEST_SIDE", "MOST_PIXELS", "MOST_TICKS", "canvas", "png", "spread", "svg", "ticks"]
