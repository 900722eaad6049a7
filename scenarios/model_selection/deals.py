"""Deals without a test: of the items that learners are handed over with a label, some are asked for in place
of the test.

`held_out` keeps stages and classes as they are. `novel_half` is for category discovery, whose later stages
come without labels: some of the classes that are labelled in the first stage stay known, the others play the
novel ones and arrive without labels in a second stage.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness import seeds
from harness.contracts import HIDDEN, Deal, DealtStage, IntArray
from harness.errors import UserError

AGAIN = 0.1
"""Share of a known class that comes without labels beside the novel ones; later stages of discovery have few
of each known class.
"""


def held_out(deal: Deal, fraction: float, seed: int) -> Deal:
    """Return a deal of the training items of `deal`: of the labelled ones a share is asked for in place of
    the test.

    Args:
        deal: of any scenario; read are its stages without their queries, and its inputs.
        fraction: share of every label of a stage that is held out, at least one item where there are two; one
            item stays.
        seed: of the deal; the stream is `held-out`.

    Raises:
        UserError: no item comes with a label, or none can be spared.
    """
    kept_by_others = np.concatenate([stage.validation for stage in deal.stages])
    truth = np.full(len(deal.labels), HIDDEN, dtype=np.int64)
    arrival = np.full(len(deal.labels), HIDDEN, dtype=np.int64)
    taken: list[IntArray] = []
    for index, stage in enumerate(deal.stages):
        fresh = (
            (stage.observed_labels != HIDDEN)
            & (truth[stage.rows] == HIDDEN)
            & ~np.isin(stage.rows, kept_by_others)
        )
        rows, given = stage.rows[fresh], stage.observed_labels[fresh]
        truth[rows], arrival[rows] = given, index
        taken.append(share_of_each(rows, given, fraction, seed, stage=index))
    validation = np.concatenate(taken)
    if not len(validation):
        raise UserError(
            "no two training items of a class come with a label, so none can be held out to choose settings by"
        )
    is_validation = np.zeros(len(truth), dtype=bool)
    is_validation[validation] = True
    stages = [
        _without(stage, is_validation, np.sort(np.concatenate(taken[: index + 1])))
        for index, stage in enumerate(deal.stages)
    ]
    if not len(stages[0].query):
        raise UserError(
            "no item of the first stage comes with a label that another one shares, so none can be held out after it"
        )
    return replace(deal, labels=truth, facts={"stage": arrival}, stages=stages, class_numbers=None)


def novel_half(deal: Deal, fraction: float, novel: float, seed: int) -> Deal:
    """Return a deal of two stages: known classes with labels, then the others, and a few items of the known
    ones, without.

    Args:
        deal: of any scenario that hands over labels in its first stage alone; read are the labelled items of
            that stage, and whether a number of new classes is told in the second.
        fraction: share of every label that is held out; asked for are those of the known classes, then all.
        novel: share of the labels that play novel classes, at least one, leaving two.
        seed: of the deal; the streams are `held-out` and `held-out-classes`.

    Raises:
        UserError: later stages come with labels, or there are none; fewer than three classes.
    """
    first, *later = deal.stages
    if not later or any((stage.observed_labels != HIDDEN).any() for stage in later):
        raise UserError(
            "novel above 0 is for scenarios that hand over labels in the first stage alone, such as cgcd: set novel=0"
        )
    labelled = first.observed_labels != HIDDEN
    rows, given = first.rows[labelled], first.observed_labels[labelled]
    classes = np.unique(given)
    if len(classes) < 3:
        raise UserError(
            f"the first stage has {len(classes)} classes, and at least three are needed to let one of them "
            "play a novel one"
        )
    n_known = len(classes) - min(max(1, round(novel * len(classes))), len(classes) - 2)
    drawn = seeds.stream("held-out-classes", seed=seed).permutation(classes)
    number = np.full(int(classes.max()) + 1, HIDDEN, dtype=np.int64)
    number[np.concatenate([np.sort(drawn[:n_known]), drawn[n_known:]])] = np.arange(len(classes))
    truth = np.full(len(deal.labels), HIDDEN, dtype=np.int64)
    truth[rows] = number[given]
    validation = share_of_each(rows, given, fraction, seed, stage=0)
    trained = np.setdiff1d(rows, validation)
    known = trained[truth[trained] < n_known]
    again = share_of_each(known, truth[known], AGAIN, seed, stage=1)
    start = np.setdiff1d(known, again)
    then = np.union1d(trained[truth[trained] >= n_known], again)
    told = len(classes) - n_known if later[0].new_classes is not None else None
    stages = [
        DealtStage(
            rows=start,
            observed_labels=truth[start],
            query=validation[truth[validation] < n_known],
            named_classes=n_known,
            new_classes=n_known,
        ),
        DealtStage(
            rows=then,
            observed_labels=np.full(len(then), HIDDEN, dtype=np.int64),
            query=validation,
            named_classes=n_known,
            new_classes=told,
        ),
    ]
    arrival = np.where(truth == HIDDEN, HIDDEN, (truth >= n_known).astype(np.int64))
    return replace(deal, labels=truth, facts={"stage": arrival}, stages=stages, class_numbers=None)


def share_of_each(rows: IntArray, given: IntArray, fraction: float, seed: int, *, stage: int) -> IntArray:
    """Return the rows to hold out, ascending: `fraction` of those of every label, at least one of two, never
    all.
    """
    rng = seeds.stream("held-out", seed=seed, stage=stage)
    drawn = [rows[:0]]
    for label in np.unique(given):
        own = rng.permutation(np.sort(rows[given == label]))
        drawn.append(own[: min(max(1, round(fraction * len(own))), len(own) - 1)])
    return np.sort(np.concatenate(drawn))


def _without(stage: DealtStage, is_validation: NDArray[np.bool_], query: IntArray) -> DealtStage:
    trained = ~is_validation[stage.rows]
    return DealtStage(
        rows=stage.rows[trained],
        observed_labels=stage.observed_labels[trained],
        query=query,
        named_classes=stage.named_classes,
        new_classes=stage.new_classes,
        validation=stage.validation,
        validation_labels=stage.validation_labels,
        noise_info=stage.noise_info,
    )


__all__ = ["held_out", "novel_half", "share_of_each"]
