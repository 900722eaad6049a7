"""Stage 8, fresh cells: figures under seeds that nobody could know are of one distribution with those submitted.

A strategy may know the seeds of a board: it can rebuild what they draw, keep answers for them, or the best of
many tries. So scenario by scenario cells are run under random seeds of 63 bits, which follow from the salt,
and the exact rank-sum test asks whether the submitted figures are the better ones. The first fresh cell that
is not among the lowest ends most honest cases; only what stays suspicious gets more, up to the number that the
test needs. A refusal rests on all of them, so stopping early never refuses. And it has to be borne out by the
same deals under other seeds, so that a board with easy seeds refuses nobody.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Metric
from harness.seeds import stream
from harness.statistics import rank_sum, rank_sum_by_wins, rank_sum_within_strata, smallest_rank_sum_p
from harness.statistics.series import Floats
from leaderboards.gate.case import Case
from leaderboards.gate.report import counted
from leaderboards.gate.rerun import SUSPICIOUS, Say, lot_of
from leaderboards.gate.runner import DIGITS, Runner, height

LEVEL = 1 / 1000
"""How rarely an honest submission may be refused, over all scenarios of its board together."""

_ROOM = 4  # times the level below which the smallest p has to be, so that a figure out of line does not save a forger
_MOST = 64
_DRAWS = 4000
_SHIFT = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a scenario is tested: `submitted` figures against at most `fresh` ones, refused at p <= `level`."""

    submitted: int
    fresh: int
    level: float

    @classmethod
    def of(cls, submitted: int, scenarios: int) -> Plan:
        """Return the plan for each of `scenarios` alike ones (Bonferroni's correction)."""
        level = LEVEL / scenarios
        enough = (m for m in range(1, _MOST) if smallest_rank_sum_p(submitted, m) <= level / _ROOM)
        return cls(submitted=submitted, fresh=next(enough, _MOST), level=level)

    @property
    def decides(self) -> bool:
        """Whether there are enough seeds for any outcome to be refused."""
        return smallest_rank_sum_p(self.submitted, self.fresh) <= self.level

    def goes_on(self, p: float, fresh: int) -> bool:
        """Return whether another cell is run after `fresh` ones gave `p`."""
        return fresh < self.fresh and p <= max(SUSPICIOUS, smallest_rank_sum_p(self.submitted, fresh))

    def refuses(self, p: float, fresh: int) -> bool:
        """Return whether `p` after `fresh` cells refuses: only after all."""
        return fresh == self.fresh and p <= self.level

    def outcomes(self, submitted: Floats, fresh: Floats) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Return of N simulated scenarios which are refused, (N,), and how many fresh cells they take, (N,).

        Args:
            submitted: figures (N, submitted), larger is better; none tied with another of its row.
            fresh: those of fresh cells in the order they would run, (N, fresh).
        """
        wins = np.cumsum((submitted[:, :, None] > fresh[:, None, :]).sum(axis=1), axis=1)
        is_open = np.ones(len(submitted), dtype=bool)
        cells = np.ones(len(submitted), dtype=np.int64)
        for count in range(1, self.fresh):
            p = rank_sum_by_wins(self.submitted, count)[wins[:, count - 1]]
            is_open &= p <= max(SUSPICIOUS, smallest_rank_sum_p(self.submitted, count))
            cells += is_open
        p = rank_sum_by_wins(self.submitted, self.fresh)[wins[:, -1]]
        return is_open & (p <= self.level), cells


def power(plan: Plan, shift: float) -> float:
    """Return the probability that a scenario is refused whose submitted figures are `shift` standard deviations
    too good, for normal ones; seeded, to two digits.
    """
    draws = stream("power", seed=0).standard_normal((_DRAWS, plan.submitted + plan.fresh))
    refused, _ = plan.outcomes(draws[:, : plan.submitted] + shift, draws[:, plan.submitted :])
    return float(refused.mean())


def fresh(case: Case, salt: str, say: Say) -> Iterator[str]:
    """Say on which scenarios the submitted figures are better than those that the strategy reaches under
    fresh seeds.
    """
    seeds = case.board.header.suite.seeds
    plan = Plan.of(seeds, len(case.protocols))
    if not plan.decides:
        say(
            f"fresh cells: none, since {counted(seeds, 'seed')} on {len(case.protocols)} scenarios are too few to tell"
        )
        return
    found = f"refused with probability {power(plan, _SHIFT):.2f}"
    say(f"fresh cells: figures of a scenario that are {_SHIFT:g} standard deviations too good are {found}")
    for label in case.protocols:
        yield from _compared(case, label, plan, salt, say)


def _compared(case: Case, label: str, plan: Plan, salt: str, say: Say) -> Iterator[str]:
    submitted = _submitted(case, label)
    if not np.isfinite(submitted).any():
        return
    found: dict[int, float] = {}
    p = 0.0
    while not found or plan.goes_on(p, len(found)):
        seed = fresh_seed(case, salt, label, len(found))
        runner = Runner(case, label, seed)
        found[seed], tried = runner.figure(*runner.dealt())
        p = rank_sum(submitted, [*found.values()])
        if tried:
            yield from (f"{label} | fresh seed {seed}: {problem}" for problem in tried)
            return
    primary = case.protocols[label].metrics[0]
    said = (
        f"{primary.name} {_mean(primary, submitted)} as submitted, {_mean(primary, [*found.values()])} under "
        f"{counted(len(found), 'fresh seed')} (rank-sum p {p:.2g})"
    )
    say(f"fresh cells: {label}: {said}: {', '.join(map(str, found))}")
    if plan.refuses(p, len(found)):
        yield from _same_deals(case, label, plan, salt, say, said)


def _same_deals(case: Case, label: str, plan: Plan, salt: str, say: Say, said: str) -> Iterator[str]:
    """Run what the known seeds deal under the ids and streams of fresh ones: a board may have drawn easy deals,
    which are easy for all. Every submitted figure is compared with those of its own deal.
    """
    known = [cell.seed for cell in case.entry.cells if cell.scenario == label]
    strata: list[tuple[float, list[float]]] = [(value, []) for value in _submitted(case, label)]
    rounds, p = 0, 0.0
    while (1 + rounds) ** -len(known) > plan.level and p <= SUSPICIOUS:
        rounds += 1
        for seed, (_, again) in zip(known, strata, strict=True):
            runner = Runner(case, label, seed, fresh_seed(case, salt, f"{label} as {seed}", rounds))
            value, tried = runner.figure(*runner.dealt())
            yield from (f"{label} | seed {seed} under another: {problem}" for problem in tried)
            again.append(value)
        p = rank_sum_within_strata([([value], again) for value, again in strata])
    if p <= plan.level:
        yield f"{label}: its figures are those of seeds that it knows: {said}"
    else:
        say(
            f"fresh cells: {label}: what its seeds deal is easier than most, also where it cannot know them (p {p:.2g})"
        )


def _mean(primary: Metric, heights: Sequence[float]) -> str:
    done = [height(primary, value) for value in heights if math.isfinite(value)]
    failed = f" ({len(heights) - len(done)} of {len(heights)} without)" if len(done) < len(heights) else ""
    return f"{np.mean(done):.4g}{failed}" if done else "without"


def fresh_seed(case: Case, salt: str, label: str, place: int) -> int:
    """Return a seed of 63 bits, the highest of them set, so that it is in no range that can be tried out."""
    return int(lot_of(case, salt, "fresh", label, place)[:15], 16) | 1 << 62


def _submitted(case: Case, label: str) -> list[float]:
    """Return the primary figure of every cell, larger is better; one that has none is worst."""
    primary = case.protocols[label].metrics[0]
    return [
        round(height(primary, cell.metrics[primary.name]), DIGITS)
        if primary.name in cell.metrics
        else -math.inf
        for cell in case.entry.cells
        if cell.scenario == label
    ]


__all__ = ["LEVEL", "Plan", "fresh", "fresh_seed", "power"]
