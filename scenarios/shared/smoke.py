"""The first steps of another scenario, to see that data, disk and code fit together before anything long is
started.

The base scenario deals as it always does, from the same files; then a few items of every class are kept in
every stage, and a stage is two gradient steps. What comes out measures nothing, so no board takes it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.contracts import (
    Deal,
    DealtStage,
    IntArray,
    Prediction,
    Scorer,
    TrainingBudget,
    Truth,
    param,
    scorer_of,
)
from scenarios.shared.wrapper import Wrapper


class Smoke(Wrapper):
    """A few items and two gradient steps a stage of another scenario, to see that its data can be dealt and
    learned.
    """

    over: str = param("class-incremental[dataset=digits]", "the scenario that is tried")
    items: int = param(
        2, "items of every class in a stage: to learn, to choose by, and to ask", ge=1, unit="items"
    )
    gradient_steps: int = param(2, "steps in a stage", ge=1, unit="steps")
    epochs: int = param(2, "passes over a stage, for strategies that count these", ge=1, unit="epochs")
    batch_size: int = param(8, "items per gradient step", ge=1, unit="items")
    backbone: str = param("", "network or encoder; empty for that of the base scenario")

    def budget(self) -> TrainingBudget:
        """Return what the base scenario lends, with a budget of a few steps in every stage, the first
        included.
        """
        base = self.base.budget()
        return replace(
            base,
            backbone=self.backbone or base.backbone,
            epochs=self.epochs,
            batch_size=self.batch_size,
            gradient_steps=self.gradient_steps,
            first_epochs=None,
            first_batch_size=None,
            probe_every=self.probe_every,
        )

    def board_exclusion_reason(self) -> str:
        """Refuse every result."""
        return "a smoke run tries data, disk and code, and measures nothing"

    def deal(self, seed: int) -> Deal:
        """Deal the base scenario and keep a few items of every class in every stage; raise `UserError` as
        that does.
        """
        deal = self.base.deal(seed)
        groups = deal.labels
        if "anomalous" in deal.facts:  # normal and anomalous images of a category are both asked
            groups = 2 * groups + np.asarray(deal.facts["anomalous"][np.arange(len(groups))], dtype=np.int64)
        given = np.zeros(len(groups), dtype=bool)
        stages = []
        for stage in deal.stages:
            cut = self._cut(stage, groups)
            given[cut.rows] = given[cut.validation] = True
            stages.append(replace(cut, monitored=stage.monitored[given[stage.monitored]]))
        return replace(deal, stages=stages)

    def scorer(self, truth: Truth) -> Scorer:
        """Score as the base scenario."""
        return scorer_of(self.base, truth)

    def perfect(self, truth: Truth, ids: IntArray) -> Prediction:
        """Return what the base scenario says."""
        return self.base.perfect(truth, ids)

    def _cut(self, stage: DealtStage, groups: IntArray) -> DealtStage:
        rows, held, query = (
            first_of_each(groups[part], self.items) for part in (stage.rows, stage.validation, stage.query)
        )
        return replace(
            stage,
            rows=stage.rows[rows],
            observed_labels=stage.observed_labels[rows],
            validation=stage.validation[held],
            validation_labels=stage.validation_labels[held],
            query=stage.query[query],
        )


def first_of_each(groups: IntArray, count: int) -> IntArray:
    """Return the places of the first `count` members of every group, ascending.

    >>> first_of_each(np.array([5, 5, 2, 5, 2]), 1).tolist()
    [0, 2]
    """
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
    return np.sort(order[rank < count])
