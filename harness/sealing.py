"""The label firewall: split a deal into what a strategy may hold and what only the scorer holds.

Public arrays are copies that own their memory, ids are a random numbering that says nothing about class or position, and items come in
the order of their ids. `with_permuted_truth` shuffles every label that is never handed over: whatever a strategy answers must not change
by a byte.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from harness import seeds
from harness.contracts import HIDDEN, AnyArray, Deal, DealtStage, Inputs, IntArray, Query, Scenario, Stage, Truth


class Episode(NamedTuple):
    """What is handed over for one stage: learn the first, then predict the second."""

    stage: Stage
    query: Query


class Sealed(NamedTuple):
    """A deal taken apart: the public episodes, and the truth that stays with the scorer."""

    episodes: tuple[Episode, ...]
    truth: Truth


@dataclass(frozen=True, slots=True)
class Subset:
    """Some items of a loader, renumbered, so that positions in the whole set are not handed over."""

    whole: Inputs
    rows: IntArray

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *item shape)."""
        return (len(self.rows), *self.whole.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: IntArray) -> AnyArray:
        return self.whole[self.rows[index]]


def build(scenario: Scenario, seed: int) -> Sealed:
    """Deal `scenario` under `seed` and seal it."""
    return seal(scenario.deal(seed), seed)


def seal(deal: Deal, seed: int) -> Sealed:
    """Split `deal` into public episodes and truth; item ids come from the stream `ids` under `seed`."""
    ids = seeds.stream("ids", seed=seed).permutation(len(deal.labels)).astype(np.int64)
    queries: dict[bytes, Query] = {}
    episodes = []
    for index, dealt in enumerate(deal.stages):
        key = dealt.query.tobytes()
        if key not in queries:  # stages with the same query share one object, so it is stored and sent once
            queries[key] = _query(deal, dealt, ids)
        episodes.append(Episode(_stage(deal, dealt, ids, index), queries[key]))
    by_id = np.argsort(ids)
    facts = {name: values[by_id] for name, values in deal.facts.items()}
    truth = Truth(labels=deal.labels[by_id], facts=facts, named_classes=[dealt.named_classes for dealt in deal.stages])
    return Sealed(tuple(episodes), truth)


def with_permuted_truth(deal: Deal, seed: int) -> Deal:
    """Return `deal` with the labels and facts of all never-revealed items shuffled among these items."""
    hidden = np.ones(len(deal.labels), dtype=bool)
    for dealt in deal.stages:
        shown = (dealt.given != HIDDEN) & (dealt.given == deal.labels[dealt.rows])
        hidden[dealt.rows[shown]] = False
    rows = np.flatnonzero(hidden)
    shuffled = np.arange(len(deal.labels))
    shuffled[rows] = seeds.stream("permuted-truth", seed=seed).permutation(rows)
    facts = {name: values[shuffled] for name, values in deal.facts.items()}
    return replace(deal, labels=deal.labels[shuffled], facts=facts)


def _stage(deal: Deal, dealt: DealtStage, ids: IntArray, index: int) -> Stage:
    order = np.argsort(ids[dealt.rows])
    rows = dealt.rows[order]
    return Stage(
        index=index,
        ids=ids[rows],
        inputs=_taken(deal.inputs, rows),
        labels=dealt.given[order].astype(np.int64),
        named_classes=dealt.named_classes,
        new_classes=dealt.new_classes,
        task_access=deal.task_access,
    )


def _query(deal: Deal, dealt: DealtStage, ids: IntArray) -> Query:
    rows = dealt.query[np.argsort(ids[dealt.query])]
    tasks = deal.facts["stage"][rows].astype(np.int64) if deal.task_access == "test" else None
    return Query(ids=ids[rows], inputs=_taken(deal.inputs, rows), tasks=tasks)


def _taken(inputs: Inputs, rows: IntArray) -> Inputs:
    return inputs[rows].copy() if isinstance(inputs, np.ndarray) else Subset(inputs, rows)
