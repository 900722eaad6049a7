"""Figures of learning with noisy labels: what a learner makes of right and wrong labels, over the items it
was given.

y is an item's true class, y~ the label handed over with it; a label is wrong where both differ. T[i, j] =
P(y~ = j | y = i).

>>> memorisation(np.array([1, 2, 0]), np.array([1, 1, 1]), np.array([2, 2, 2]))
Memorisation(memorised=0.333..., corrected=0.333..., other=0.333...)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


class Memorisation(NamedTuple):
    """Shares of the items with a wrong label that are predicted as the label, as the true class, as a third
    one; they sum to one.
    """

    memorised: float
    corrected: float
    other: float


class Selection(NamedTuple):
    """How clean a selection is: share of its labels that are right ("label precision"), share of the right
    labels it holds ("recall").
    """

    precision: float
    recall: float


def memorisation(predicted: Labels, labels: Labels, observed: Labels) -> Memorisation:
    """Return what became of the wrong labels (Liu et al. 2020, figure 1); NaN where none is wrong. Arguments
    int64 (N,).
    """
    wrong = observed != labels
    if not wrong.any():
        return Memorisation(float("nan"), float("nan"), float("nan"))
    memorised = float(np.mean(predicted[wrong] == observed[wrong]))
    corrected = float(np.mean(predicted[wrong] == labels[wrong]))
    return Memorisation(
        memorised,
        corrected,
        float(np.mean((predicted[wrong] != observed[wrong]) & (predicted[wrong] != labels[wrong]))),
    )


def clean_selection(kept: NDArray[np.bool_], is_wrong: NDArray[np.bool_]) -> Selection:
    """Return precision and recall of the labels that a learner keeps, bool (N,) each; NaN where nothing is
    kept or nothing is right.
    """
    both = int(np.sum(kept & ~is_wrong))
    return Selection(
        *(both / int(size) if size else float("nan") for size in (kept.sum(), (~is_wrong).sum()))
    )


def transition(labels: Labels, observed: Labels, n_classes: int) -> NDArray[np.float64]:
    """Return T as counted over items, float64 (C, C), rows summing to one; a class without items keeps its
    label in every case.
    """
    counts = (
        np.bincount(labels * n_classes + observed, minlength=n_classes**2)
        .reshape(n_classes, n_classes)
        .astype(np.float64)
    )
    counts[np.diag_indices(n_classes)] += counts.sum(axis=1) == 0
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def transition_error(estimated: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """Return sum |T^ - T| / sum |T|, the error of a transition matrix relative to its size (Patrini et al.
    2017's measure).
    """
    return float(np.abs(estimated - true).sum() / np.abs(true).sum())
