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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.detection import auroc, average_precision, levels

Scores = NDArray[Any]
Mask = NDArray[np.bool_]


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
    novel_scores = np.sort(scores[novel].astype(np.float64))[::-1]
    if not len(novel_scores) or novel.all():
        return float("nan")
    threshold = novel_scores[math.ceil(recall * len(novel_scores) - 1e-9) - 1]
    return float(np.mean(scores[~novel].astype(np.float64) >= threshold))


def figures(scores: Scores, novel: Mask) -> dict[str, float]:
    """Return the figures by name for one stage; NaN where there are no novel items (the last
    stage) or no known ones.

    Args:
        scores: float (N,), larger is stranger.
        novel: bool (N,), whether an item's class is still to come.

    Raises:
        ValueError: a score that is NaN, which has no place in an order.
    """
    ood, familiar = levels(scores, novel), levels(-scores, ~novel)
    return {
        "open_set_auroc": auroc(ood),
        "open_set_fpr95": false_positives(scores, novel),
        "open_set_aupr_in": average_precision(familiar),
        "open_set_aupr_out": average_precision(ood),
    }


__all__ = ["false_positives", "figures"]
