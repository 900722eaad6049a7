"""Figures of open-set recognition: does a learner find items of classes that it has not met stranger than
those of classes it has?

Novel items are the positives throughout, and a larger score is stranger. Conventions differ between papers,
and figures under different ones are not comparable:

    AUROC  the same everywhere; ties count half
    FPR95  share of KNOWN items that are flagged where 95 % of the NOVEL ones are (OpenOOD's present code).
    Many papers ask the other way
           round: the share of novel items that are let through where 95 % of the known ones are
    AUPR   average precision, the sum of precision times the gain in recall. OpenOOD joins the points by
    trapezoids, which is larger.
           "in" has the known items as positives, by the negative score; "out" the novel ones. Both depend on
           how many there are of each

>>> figures(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True]))
{'open_set_auroc': 0.875, 'open_set_fpr95': 0.5, 'open_set_aupr_in': 0.833..., 'open_set_aupr_out': 0.833...}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Answer, Metric
from harness.metrics.discovery import mean_of_finite
from harness.metrics.noisy_labels import auroc

Scores = NDArray[Any]
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


def false_positives(scores: Scores, novel: Mask, *, recall: float = 0.95) -> float:
    """Return the share of known items that score at least as high as the threshold which finds `recall` of
    the novel ones.

    Args:
        scores: (N,), larger is stranger.
        novel: bool (N,).
        recall: in (0, 1]; the threshold is the largest score of a novel item that reaches it, ties all
            flagged.

    Returns:
        A share, NaN where there are no novel or no known items.
    """
    strange = np.sort(scores[novel].astype(np.float64))[::-1]
    if not len(strange) or novel.all():
        return float("nan")
    threshold = strange[math.ceil(recall * len(strange) - 1e-9) - 1]
    return float(np.mean(scores[~novel].astype(np.float64) >= threshold))


def average_precision(scores: Scores, positive: Mask) -> float:
    """Return the sum over distinct scores, from the largest, of precision times the gain in recall; equal
    scores enter together.

    Args:
        scores: (N,).
        positive: bool (N,).

    Returns:
        NaN where there are no positives or no negatives.
    """
    if not positive.any() or positive.all():
        return float("nan")
    order = np.argsort(-scores.astype(np.float64), kind="stable")
    ordered, hits = scores[order], np.cumsum(positive[order])
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    gains = np.diff(hits[ends], prepend=0)
    return float(np.sum(gains * hits[ends] / (ends + 1)) / hits[-1])


def figures(scores: Scores, novel: Mask) -> dict[str, float]:
    """Return the figures of `METRICS` by name for one stage; NaN where there are no novel items (the last
    stage) or no known ones.

    Args:
        scores: float (N,), larger is stranger.
        novel: bool (N,), whether an item's class is still to come.

    Raises:
        ValueError: a score that is NaN, which has no place in an order.
    """
    if np.isnan(scores).any():
        raise ValueError("scores that are NaN cannot be ranked")
    return {
        "open_set_auroc": auroc(scores, novel),
        "open_set_fpr95": false_positives(scores, novel),
        "open_set_aupr_in": average_precision(-scores, ~novel),
        "open_set_aupr_out": average_precision(scores, novel),
    }


def of_answer(answer: Answer, asked: Mask, novel: Mask) -> dict[str, float]:
    """Return the figures of `METRICS` by name; nothing where the answer does not say how strange its items
    are.

    Args:
        answer: of a finished stage.
        asked: bool (N,), the items that count.
        novel: bool (N,), as in `figures`.
    """
    strange = answer.arrays.get("anomaly_scores")
    return {} if strange is None else figures(strange[asked], novel[asked])


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


__all__ = [
    "METRICS",
    "after_stages",
    "auroc",
    "average_precision",
    "false_positives",
    "figures",
    "of_answer",
    "summary",
]
