"""Probes for leaks: the cell that runs again first runs also with stages to come removed, with its query turned and
with other hidden labels. Probes compare runs on this very machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from harness import seeds
from harness.cell.sealing import Episode
from harness.contracts import IntArray, Query, StoredPrediction
from harness.store.predictions import digest
from leaderboards.gate.runner import Runner

_PROBED_STAGES = 2


def leaks(runner: Runner, episodes: Sequence[Episode], answers: Sequence[StoredPrediction]) -> Iterator[str]:
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


__all__ = ["leaks"]
