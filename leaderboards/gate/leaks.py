"""Probes for leaks: the cell that runs again first runs also with stages to come removed, with its query turned,
with other hidden labels and with other names of classes. Probes compare runs on this very machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from harness import seeds
from harness.cell.sealing import Episode
from harness.contracts import IntArray, Query, Status, StoredPrediction
from harness.store.predictions import digest
from leaderboards.gate.renaming import mapped_back, new_names, renamed
from leaderboards.gate.runner import Runner, figures, height
from leaderboards.publishing.rescore import EvalSet

MAY_FALL = 0.1
"""How far the primary figure may fall when classes are renamed, besides its spread over seeds."""

_PROBED_STAGES = 2


def leaks(
    runner: Runner, episodes: Sequence[Episode], exam: EvalSet, answers: Sequence[StoredPrediction]
) -> Iterator[str]:
    """Say where what a strategy must not know changes what it answers to `episodes`; `answers` are those of
    the cell as it is.
    """
    first = [answer for answer in answers if answer.stage == 0]
    if len(episodes) > 1 and digest(runner.run(episodes[:1]).answers) != digest(first):
        yield "its answers after the first stage change when the stages to come are removed"
    turned = runner.run([Episode(episodes[0].stage, _turned(episodes[0].query, runner.seed))])
    if not _alike(first, turned.answers):
        yield "its answers change with the order of the query"
    early = [answer for answer in answers if answer.stage < _PROBED_STAGES]
    if digest(runner.run(runner.permuted()[:_PROBED_STAGES]).answers) != digest(early):
        yield "its answers change when labels that it never sees are permuted"
    yield from _fall(runner, episodes, exam, answers)


def _fall(
    runner: Runner, episodes: Sequence[Episode], exam: EvalSet, answers: Sequence[StoredPrediction]
) -> Iterator[str]:
    """Classes get other numbers in all that is handed over; who learned them from there is as good as before."""
    names = new_names(episodes)
    if names is None:
        return
    primary = runner.primary
    other = runner.run([renamed(episode, names) for episode in episodes])
    before, _ = figures(exam, answers)
    after, problems = figures(exam, [mapped_back(answer, names) for answer in other.answers])
    if other.status is not Status.DONE or problems or primary.name not in after:
        yield f"ends as {other.status} when classes are renamed"
        return
    was, now = before[primary.name], after[primary.name]
    if height(primary, was) - height(primary, now) > may_fall(runner, was, MAY_FALL):
        yield (
            f"{primary.name} falls from {was:.2f} to {now:.2f} when classes are renamed: "
            "it knows them from elsewhere than the labels it was handed"
        )


def may_fall(runner: Runner, before: float, least: float) -> float:
    """Return how far the primary figure of a cell may fall: `least` of it or of 1, whichever is more, or four
    standard deviations over its seeds.
    """
    over_seeds = [
        cell.metrics[runner.primary.name]
        for cell in runner.case.readable
        if cell.scenario == runner.protocol.label and runner.primary.name in cell.metrics
    ]
    spread = float(np.std(over_seeds, ddof=1)) if len(over_seeds) > 1 else 0.0
    return max(least * max(1.0, abs(before)), 4 * spread)


def _turned(query: Query, seed: int) -> Query:
    order: IntArray = seeds.stream("turned", seed=seed).permutation(len(query.ids)).astype(np.int64)
    tasks = None if query.tasks is None else query.tasks[order]
    return replace(query, ids=query.ids[order], inputs=query.inputs[order], tasks=tasks)


def _alike(first: Sequence[StoredPrediction], second: Sequence[StoredPrediction]) -> bool:
    """Compare answers up to what the order of float sums explains."""
    if len(first) != len(second):
        return False
    for a, b in zip(first, second, strict=True):
        for name, array in a.arrays.items():
            other = b.arrays.get(name)
            if (
                other is None
                or other.shape != array.shape
                or not np.allclose(array, other, atol=1e-4, rtol=1e-3, equal_nan=True)
            ):
                return False
    return True


__all__ = ["leaks", "may_fall"]
