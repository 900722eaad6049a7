"""Which cells learn together: cells of one strategy that declares it, alike in all that shapes the
computation.

They may differ in the seed, in the parameters that `Strategy.together` names, and in the protocol, as long as
it lends the same network and budget, asks the same fields and deals one stage of the same shape. Packs follow
from the cells of the plan in their order and from nothing
else: neither from what is cached, nor from the number of workers, nor from who ends first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict

from harness.cell.sealing import Episode
from harness.protocol import fingerprint
from harness.protocol.cells import Cell, Shape, shape_of

_AT_LEAST = 2
"""Into how many packs alike cells are cut even where one could take them all, so that more than one worker
has something to do.
"""


def packs(cells: Sequence[Cell]) -> list[tuple[Cell, ...]]:
    """Return all cells in packs, ordered by their first cells; a cell that learns alone is a pack of one.

    n alike cells make max(2, ceil(n / `together_at_most`)) packs of neighbours, whose sizes differ by one at
    most.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(_what_must_agree(cell), []).append(cell)
    order = {cell.key: place for place, cell in enumerate(cells)}
    return sorted(
        (pack for group in groups.values() for pack in _cut(group)), key=lambda pack: order[pack[0].key]
    )


def shape_of_only_stage(episodes: Sequence[Episode]) -> Shape | None:
    """Return the shape of the stage that was really dealt, None where there are several."""
    if len(episodes) != 1:
        return None
    stage = episodes[0].stage
    return shape_of(stage, stage.inputs, len(stage.ids), len(stage.validation.ids) if stage.validation else 0)


def _what_must_agree(cell: Cell) -> str:
    """Return a digest of what cells of one pack have in common; the cell's own key where it learns alone."""
    contender, scenario = cell.contender, cell.protocol.scenario
    cls = contender.plugin.cls
    if not cls.together or len(cell.protocol.shapes) != 1:
        return cell.key
    return fingerprint.of_value(
        {
            "strategy": contender.plugin.name,
            "code": contender.code,
            "params": {name: value for name, value in contender.params.items() if name not in cls.together},
            "budget": asdict(scenario.budget()),
            "asked": [scenario.answers, scenario.probed, scenario.kept],
            "shape": cell.protocol.shapes[0],
        }
    )


def _cut(group: Sequence[Cell]) -> list[tuple[Cell, ...]]:
    at_most = max(1, group[0].contender.plugin.cls.together_at_most)
    count = min(len(group), max(_AT_LEAST, math.ceil(len(group) / at_most)))
    ends = [len(group) * place // count for place in range(count + 1)]
    return [tuple(group[start:end]) for start, end in itertools.pairwise(ends)]


__all__ = ["packs", "shape_of_only_stage"]
