"""Stage 8, items by heart: one cell of every scenario is learned from images that are a little different, by a change
that follows from the salt (`leaderboards.gate.warping`).

Who learned from what was handed over is as good as before; what is known of the images beforehand, by a table or
by weights that labels trained, is of no use. Three changes have to cost too much before it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from harness.contracts import Status
from leaderboards.gate.case import Case, where
from leaderboards.gate.leaks import may_fall
from leaderboards.gate.rerun import Say, lot_of
from leaderboards.gate.runner import Runner, figures, height
from leaderboards.gate.warping import warped
from leaderboards.publishing.board import BoardCell

MAY_FALL = 0.07
"""How far the primary figure may fall, besides its spread over seeds."""

_CHANGES = 3


def by_heart(case: Case, cells: Sequence[BoardCell], salt: str, say: Say) -> Iterator[str]:
    """Say on which scenarios figures fall when images are a little different; of each the first of `cells` is
    learned again.
    """
    first = {cell.scenario: cell for cell in reversed(cells)}
    for label in case.protocols:
        if label in first:
            yield from _fall(Runner(case, label, first[label].seed), first[label], salt, say)


def _fall(runner: Runner, cell: BoardCell, salt: str, say: Say) -> Iterator[str]:
    primary = runner.primary
    before = cell.metrics.get(primary.name)
    if before is None:
        return
    episodes, exam = runner.dealt()
    now: list[float] = []
    for change in range(_CHANGES):
        rng = np.random.default_rng(
            int(lot_of(runner.case, salt, "change", runner.protocol.label, change), 16)
        )
        other = warped(episodes, rng)
        if other is None:
            return
        result = runner.run(other)
        yield from (f"{where(cell)}: the strategy {violation}" for violation in result.violations)
        found = figures(exam, result.answers)[0] if result.status is Status.DONE else {}
        now.append(height(primary, found[primary.name]) if primary.name in found else -math.inf)
        if height(primary, before) - now[-1] <= may_fall(runner, before, MAY_FALL):
            after = f"{height(primary, now[-1]):.4g} with images a little different"
            say(f"other images: {where(cell)}: {primary.name} {before:.4g} as submitted, {after}")
            return
    best = height(primary, max(now))
    yield (
        f"{where(cell)}: {primary.name} falls from {before:.2f} to {best:.2f} at best when all images are a little "
        "different: it knows them from elsewhere than what it was handed"
    )


__all__ = ["MAY_FALL", "by_heart"]
