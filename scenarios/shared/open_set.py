"""Open-set recognition as scenarios report it: the figures of `harness.metrics.open_set` after every stage and
their means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Metric, StoredPrediction
from harness.metrics.discovery import mean_of_finite
from harness.metrics.open_set import figures

Mask = NDArray[np.bool_]

METRICS: tuple[Metric, ...] = (
    Metric(
        name="open_set_auroc",
        meaning="chance that an item of a class still to come looks stranger than a known one, mean over stages",
    ),
    Metric(
        name="open_set_fpr95",
        better="lower",
        meaning="known items flagged where 95 % of the novel ones are, mean over stages",
    ),
    Metric(
        name="open_set_aupr_in",
        meaning="average precision of known items, the least strange first, mean over stages",
    ),
    Metric(
        name="open_set_aupr_out",
        meaning="average precision of novel items, the strangest first, mean over stages",
    ),
)
"""What a scenario with `open_set=true` reports besides its own figures."""


def of_answer(answer: StoredPrediction, counted: Mask, novel: Mask) -> dict[str, float]:
    """Return the figures of `METRICS` by name; nothing where the answer has no OOD scores.

    Args:
        answer: of a finished stage.
        counted: bool (N,), the items that count.
        novel: bool (N,), whether an item's class is still to come.
    """
    ood_scores = answer.arrays.get("anomaly_scores")
    return {} if ood_scores is None else figures(ood_scores[counted], novel[counted])


def after_stages(each: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return the figures after every stage by name, from those `of_answer`; nothing unless every stage has
    some.
    """
    return (
        {metric.name: [stage[metric.name] for stage in each] for metric in METRICS}
        if each and all(each)
        else {}
    )


def summary(per_stage: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the mean of every figure over the stages that have it, NaN where none has; after the last stage
    nothing is novel.
    """
    return {
        metric.name: mean_of_finite(np.asarray(per_stage.get(metric.name, ()), dtype=np.float64))
        for metric in METRICS
    }


__all__ = ["METRICS", "after_stages", "of_answer", "summary"]
