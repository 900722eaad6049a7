"""Stage 8, re-run: some cells are learned again in the sandbox and must come out as submitted; then the
probes for leaks.

Which cells is drawn by SHA-256 over the submission's digest and a salt that its author could not know. Cells
that are said to have failed come first. On one machine the same code gives the same bytes; elsewhere sums add
up in another order, so figures may differ by `TOLERANCE`, but as often up as down.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from harness.contracts import Status, StoredPrediction
from harness.store.predictions import digest
from leaderboards.gate.case import Case, where
from leaderboards.gate.leaks import leaks
from leaderboards.gate.runner import SLOWER, Runner, figures, height
from leaderboards.publishing.board import BoardCell
from leaderboards.publishing.rescore import EvalSet
from leaderboards.publishing.submission import without_folders

TOLERANCE = 0.02
"""How far figures may be apart between machines: absolute up to 1, relative beyond."""

LEVEL = 1 / 1000
"""How rarely the signed test may refuse where differences go up as often as down."""

SUSPICIOUS = 1 / 4
"""The p up to which a test goes on; above it, nothing speaks against a submission."""

_MOST_SIGNED = 20
_WELL_INSIDE = {Status.TIMEOUT: (1 / 4, 1.0), Status.OUT_OF_MEMORY: (SLOWER, 1 / 2)}
"""Shares of the suite's time and memory within which a cell must not end that is said to have gone beyond."""

Say = Callable[[str], None]
"""Told what is to be noted and refuses nothing."""


class Drawn(NamedTuple):
    """What is run again, in this order. failed: cells said to have failed.  done: all others, of which the
    first are run."""

    failed: Sequence[BoardCell]
    done: Sequence[BoardCell]


def drawn(case: Case, salt: str, cells: int) -> Drawn:
    """Return at most `cells` cells that are said to have failed, and all done ones in the order of their lots."""

    def lot(cell: BoardCell) -> str:
        return lot_of(case, salt, cell.scenario, cell.seed)

    failed = [cell for cell in case.entry.cells if cell.status is not Status.DONE]
    return Drawn(sorted(failed, key=lot)[:cells], sorted(case.readable, key=lot))


def lot_of(case: Case, salt: str, *address: object) -> str:
    """Return a hash of a submission, a salt and what is asked about."""
    return hashlib.sha256("|".join(map(str, (case.submission.digest, salt, *address))).encode()).hexdigest()


def rerun(case: Case, order: Drawn, cells: int, say: Say) -> Iterator[str]:
    """Say where `cells` cells do not come out as submitted, and where what a strategy must not know changes
    what it answers.
    """
    for cell in order.failed:
        say(f"run again: {where(cell)}, which is said to have ended as {cell.status}")
        yield from _claimed(case, cell)
    gains: list[float] = []
    sound = True
    for place, cell in enumerate(order.done[: max(cells, _MOST_SIGNED)]):
        if place >= cells and not (sound and sign_test(gains) <= SUSPICIOUS):
            break
        say(f"run again: {where(cell)}")
        for problem in _again(Runner(case, cell.scenario, cell.seed), cell, gains, probe=place == 0):
            sound = False
            yield problem
    if (p := sign_test(gains)) <= LEVEL:
        up = sum(gain > 0 for gain in gains)
        yield (
            f"{up} of {len(gains)} cells that differ from their run again are better in the submission, by "
            f"{sum(gains) / len(gains):.4f} on average (sign test p {p:.1g}): float sums differ both ways"
        )


def sign_test(gains: Sequence[float]) -> float:
    """Return the one-sided p of the sign test: how often as many of these differences are above 0 where each
    is as often above as below. Zeros say nothing.

    >>> sign_test([0.1, 0.2, 0.0]), sign_test([])
    (0.25, 1.0)
    """
    up, all_ = sum(gain > 0 for gain in gains), sum(gain != 0 for gain in gains)
    return float(sum(math.comb(all_, more) for more in range(up, all_ + 1)) / 2**all_)


def _again(runner: Runner, cell: BoardCell, gains: list[float], *, probe: bool) -> Iterator[str]:
    episodes, exam = runner.dealt()
    result = runner.run(episodes)
    yield from (f"{where(cell)}: the strategy {violation}" for violation in result.violations)
    if result.status is not Status.DONE:
        yield without_folders(
            f"{where(cell)}: done in the submission, but run again it ended as {result.status}: {result.reason}"
        )
        return
    if digest(result.answers) != cell.digest:
        yield from _differences(cell, runner, exam, result.answers, gains)
    if probe:
        yield from (f"{where(cell)}: {problem}" for problem in leaks(runner, episodes, result.answers))


def _claimed(case: Case, cell: BoardCell) -> Iterator[str]:
    """A cell that ran out of time or memory must not end as done well inside of it; no other must at all."""
    runner = Runner(case, cell.scenario, cell.seed)
    time, memory = _WELL_INSIDE.get(cell.status, (SLOWER, 1.0))
    result = runner.run(runner.dealt()[0], time=time, memory=memory)
    yield from (f"{where(cell)}: the strategy {violation}" for violation in result.violations)
    if result.status is Status.DONE:
        inside = {
            Status.TIMEOUT: f" in less than {time:g} of the time that it may take",
            Status.OUT_OF_MEMORY: f" with {memory:g} of the memory that it may take",
        }
        yield (
            f"{where(cell)}: ended as {cell.status} in the submission, but run again it is done"
            f"{inside.get(cell.status, '')}"
        )


def _differences(
    cell: BoardCell, runner: Runner, exam: EvalSet, answers: Sequence[StoredPrediction], gains: list[float]
) -> Iterator[str]:
    """Say which figures are too far apart; keep by how much the primary one is better in the submission."""
    found, problems = figures(exam, answers)
    yield from (f"{where(cell)}: run again, {problem}" for problem in problems)
    for name, stated in sorted(cell.metrics.items()):
        again = found.get(name, float("nan"))
        if not abs(stated - again) <= TOLERANCE * max(1.0, abs(stated)):
            yield (
                f"{where(cell)}: {name} is {stated:.4g} in the submission and {again:.4g} run again: "
                "its predictions are not what this code and configuration give"
            )
    primary = runner.primary
    if primary.name in cell.metrics and primary.name in found:
        gains.append(height(primary, cell.metrics[primary.name]) - height(primary, found[primary.name]))


__all__ = ["LEVEL", "SUSPICIOUS", "TOLERANCE", "Drawn", "Say", "drawn", "lot_of", "rerun", "sign_test"]
