"""The label firewall: split a deal into what a strategy may hold and what only the scorer holds.

Public arrays are copies that own their memory, ids are a random numbering that says nothing about class or
position, and items come in the order of their ids. `with_permuted_truth` shuffles every label that is never
handed over: whatever a strategy answers must not change by a byte. `fully_labelled` is the deal of the upper bound
alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from harness import seeds
from harness.contracts import (
    HIDDEN,
    AnyArray,
    Deal,
    DealtStage,
    Divisible,
    Inputs,
    IntArray,
    Query,
    Scenario,
    Stage,
    Truth,
    Validation,
)


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
    """Some items of a loader, renumbered. Loaders that can cut themselves down (`subset`) leave nothing of
    the rest behind.
    """

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


def build(scenario: Scenario, seed: int, *, reveal: bool = False) -> Sealed:
    """Deal `scenario` under `seed` and seal it; with `reveal`, every training label is handed over. The truth
    is the same either way.
    """
    deal = scenario.deal(seed)
    sealed = seal(deal, seed)
    return sealed._replace(episodes=seal(fully_labelled(deal), seed).episodes) if reveal else sealed


def seal(deal: Deal, seed: int) -> Sealed:
    """Split `deal` into public episodes and truth; item ids come from the stream `ids` under `seed`.

    Items have one id each. Where the deal says that they do not recur, every appearance in a stage has an id
    of its own besides; an item that was given with a label is predicted under the id it was given under, so
    that a learner can say what it makes of that label.
    """
    appearing = [] if deal.recurring else [dealt.rows for dealt in deal.stages]
    items = len(deal.labels)
    row_of = np.concatenate([np.arange(items), *appearing])
    ids = seeds.stream("ids", seed=seed).permutation(len(row_of)).astype(np.int64)
    ends = np.cumsum([items, *map(len, appearing)])
    query_ids = ids[:items].copy()
    queries: dict[bytes, Query] = {}
    episodes = []
    for index, dealt in enumerate(deal.stages):
        own = ids[dealt.rows] if deal.recurring else ids[ends[index] : ends[index + 1]]
        labelled = dealt.observed_labels != HIDDEN
        query_ids[dealt.rows[labelled]] = own[labelled]
        predicted = np.concatenate([dealt.query, dealt.monitored])
        key = query_ids[predicted].tobytes()
        if key not in queries:  # stages with the same query share one object, so it is stored and sent once
            queries[key] = _query(deal, predicted, query_ids)
        episodes.append(Episode(_stage(deal, dealt, own, index, ids), queries[key]))
    by_id = row_of[np.argsort(ids)]
    facts = {name: _taken(values, by_id) for name, values in deal.facts.items()}
    truth = Truth(
        labels=deal.labels[by_id], facts=facts, named_classes=[dealt.named_classes for dealt in deal.stages]
    )
    return Sealed(tuple(episodes), truth)


def fully_labelled(deal: Deal) -> Deal:
    """Return `deal` whose training items all have their true label: what the upper bound learns from."""
    stages, named = [], 0
    for dealt in deal.stages:
        labels = deal.labels[dealt.rows]
        before, named = named, max(named, dealt.named_classes, int(labels.max(initial=-1)) + 1)
        stages.append(
            replace(
                dealt,
                observed_labels=labels,
                validation_labels=deal.labels[dealt.validation],
                named_classes=named,
                new_classes=named - before,
            )
        )
    return replace(deal, stages=stages)


def with_permuted_truth(deal: Deal, seed: int) -> Deal:
    """Return `deal` with the labels and facts shuffled among all items whose true label no stage shows."""
    hidden = np.ones(len(deal.labels), dtype=bool)
    for dealt in deal.stages:
        for rows, observed in (
            (dealt.rows, dealt.observed_labels),
            (dealt.validation, dealt.validation_labels),
        ):
            hidden[rows[(observed != HIDDEN) & (observed == deal.labels[rows])]] = False
    rows = np.flatnonzero(hidden)
    shuffled = np.arange(len(deal.labels))
    shuffled[rows] = seeds.stream("permuted-truth", seed=seed).permutation(rows)
    facts = {name: _taken(values, shuffled) for name, values in deal.facts.items()}
    return replace(deal, labels=deal.labels[shuffled], facts=facts)


def _stage(deal: Deal, dealt: DealtStage, ids: IntArray, index: int, item_ids: IntArray) -> Stage:
    """Return the public part of a stage; `ids` has one row for each of `dealt.rows`, `item_ids` for every
    item of the deal.
    """
    order = np.argsort(ids)
    rows = dealt.rows[order]
    return Stage(
        index=index,
        ids=ids[order],
        inputs=_taken(deal.inputs, rows),
        labels=dealt.observed_labels[order].astype(np.int64),
        named_classes=dealt.named_classes,
        new_classes=dealt.new_classes,
        task_access=deal.task_access,
        validation=_validation(deal, dealt, item_ids) if len(dealt.validation) else None,
        noise_info=dealt.noise_info,
    )


def _validation(deal: Deal, dealt: DealtStage, ids: IntArray) -> Validation:
    order = np.argsort(ids[dealt.validation])
    rows = dealt.validation[order]
    return Validation(
        ids=ids[rows],
        inputs=_taken(deal.inputs, rows),
        labels=dealt.validation_labels[order].astype(np.int64),
    )


def _query(deal: Deal, items: IntArray, ids: IntArray) -> Query:
    rows = items[np.argsort(ids[items])]
    tasks = deal.facts["stage"][rows].astype(np.int64) if deal.task_access == "test" else None
    return Query(ids=ids[rows], inputs=_taken(deal.inputs, rows), tasks=tasks)


def _taken(inputs: Inputs, rows: IntArray) -> Inputs:
    if isinstance(inputs, np.ndarray):
        return inputs[rows].copy()
    return inputs.subset(rows) if isinstance(inputs, Divisible) else Subset(inputs, rows)
