"""Pictures of one cell, drawn from its scores: matrices as heat maps, curves over probes or stages as lines,
values as histograms.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.contracts import Axes, Scores
from harness.errors import in_one_line
from harness.store.line_plots import Curve, curve, histogram, panel, prune_curves, stage_lines
from harness.store.matrix_plots import KNOWN_AXES, heat_map, strip
from harness.store.probe_plots import multiples

_log = logging.getLogger(__name__)

_BY_STEP = ("fates", "detection", "collapse")
"""Panels over gradient steps and not epochs; what happens late and slowly is drawn over their logarithm."""
_EDGES = {"ipr": np.linspace(0, 1, 21)}
"""Bins of histograms of quantities that have a range of their own."""


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
        if curves := {one: scores.probes[one] for one in together if scores.probes.get(one)}:
            yield f"{name}_panel", partial(panel, curves, title=title, by_step=name in _BY_STEP)
    asked = {name: rows for name, rows in scores.probes.items() if "@" in name}
    if asked:
        yield "probes", partial(multiples, _by_figure(asked), title=title)
    together_in_panels = {one for together in scores.panels.values() for one in together}
    for name in scores.probes.keys() - asked.keys() - together_in_panels:
        if scores.probes[name]:
            yield f"{name}_curve", partial(curve, scores.probes[name], title=title, quantity=name)
    for name, groups in scores.histograms.items():
        yield (
            f"{name}_histogram",
            partial(histogram, groups, title=title, quantity=name.replace("_", " "), edges=_EDGES.get(name)),
        )
    for name, (cases, captions) in scores.strips.items():
        yield f"{name}_strip", partial(strip, cases, captions, title=title)
    if any(len(values) > 1 for values in scores.per_stage.values()):
        yield "stages", partial(stage_lines, [scores.per_stage], [""], title=title)


def _by_figure(asked: Mapping[str, Curve]) -> dict[str, dict[str, Curve]]:
    """Return curves of probes by figure, and by the items they are of."""
    found: dict[str, dict[str, Curve]] = {}
    for name, rows in asked.items():
        figure, _, items = name.removeprefix("probe/").rpartition("@")
        found.setdefault(figure, {})[items] = rows
    return found


__all__ = ["draw"]
