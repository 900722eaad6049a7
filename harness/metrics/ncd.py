"""Figures of novel class discovery: one classifier over known and novel classes, read in three ways that
published tables mix up.

Rows are what a learner answers: 0..K-1 stand for the K known classes, rows from K on for clusters of its own.
Classes are numbered the same way, novel ones from K on. Three readings of the same answers (names after the
released code of GCD, Vaze et al. 2022):

    v1  known classes by identity, novel ones by a matching of their own over all rows (`own_matching`):
    "incremental" in UNO, Fini et al.
        2021. A row of a known class may be credited to a novel one, so it is optimistic.
    v2  one matching of rows to classes over all items (`harness.metrics.discovery.match`): what Cr-KD prints,
    Gu et al. 2023. It forgives
        known classes that changed places.
    v3  known classes by identity, a matching only of rows from K on with classes from K on (`strict_match`).
    It forgives neither, and
        says nothing about a learner whose rows are in no order.

A matching looks for the best names, so guessing scores above one in C where items are few: 0.27 instead of
0.20 with 5 classes of 36 items, 0.064 instead of 0.02 with 50 classes of 67. Where several matchings are
optimal, `optimal_rows` says which one counts.

>>> rows, classes = np.array([1, 0, 2, 2]), np.array([0, 1, 2, 2])  # the two known classes have changed places
>>> match(rows, classes).accuracy(), strict_match(rows, classes, 2).accuracy()
(1.0, 0.5)
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.metrics.discovery import (
    Match,
    contingency,
    match,
    matched_by,
    mean_of_finite,
    new_taken_for_old,
    optimal_rows,
)


class Split(NamedTuple):
    """Accuracy over all classes, the known and the novel ones; NaN where a group has no items."""

    everything: float
    known: float
    novel: float


def split(agreement: Match, known: int) -> Split:
    """Return the accuracies of one matching, the first `known` classes apart from the others."""
    is_known = np.arange(len(agreement.counts)) < known
    return Split(agreement.accuracy(), agreement.accuracy(is_known), agreement.accuracy(~is_known))


def strict_match(
    predicted: NDArray[Any], classes: NDArray[Any], known: int, *, n_classes: int | None = None
) -> Match:
    """Match with the known rows fixed (v3).

    Args:
        predicted: int (N,) rows answered, not negative.
        classes: int (N,) true classes.
        known: how many rows and classes stand for one another, from 0 on.
        n_classes: at least how many classes there are.
    """
    matrix = contingency(predicted, classes, n_classes=n_classes)
    fixed, own = np.arange(min(known, matrix.shape[1])), optimal_rows(matrix[known:, known:])
    row = np.concatenate([np.where(fixed < len(matrix), fixed, -1), np.where(own >= 0, known + own, -1)])
    return matched_by(matrix, row)


def own_matching(predicted: NDArray[Any], classes: NDArray[Any], group: NDArray[np.bool_]) -> float:
    """Return the accuracy of a matching over the items of `group` alone, bool (N,), to which any row may go
    (v1); NaN without items.
    """
    return match(predicted[group], classes[group]).accuracy()


def leakage(predicted: NDArray[Any], classes: NDArray[Any], known: int) -> tuple[float, float]:
    """Return the share of novel items answered as a known row, and of known items answered as another one;
    NaN without such items.
    """
    is_novel = classes >= known
    return new_taken_for_old(predicted, is_novel, known), mean_of_finite(
        (predicted[~is_novel] >= known).astype(np.float64)
    )


def balance(rows: NDArray[Any], n_novel: int) -> float:
    """Return the entropy of the rows answered over log `n_novel`: 1 is even, 0 is a single row; above 1 with
    surplus rows, NaN without any.

    Args:
        rows: int (N,) one row per item.
        n_novel: how many novel classes there are, 2 or more.
    """
    if not len(rows):
        return float("nan")
    shares = np.unique(rows, return_counts=True)[1] / len(rows)
    return abs(float(shares @ np.log(shares))) / math.log(n_novel)


def empty_rows(rows: NDArray[Any], n_novel: int) -> int:
    """Return how many of `n_novel` rows nobody got; 0 where as many or more are in use."""
    return max(0, n_novel - len(np.unique(rows)))


def rows_by_class(predicted: NDArray[Any], classes: NDArray[Any], n_classes: int) -> NDArray[np.float64]:
    """Return how the items of every class spread over rows, float64 (C, C + surplus rows), each line summing
    to 1 (NaN without items).

    Column y is the row matched to class y, zero where none is; rows matched to no class come behind.

    Args:
        predicted: int (N,) rows answered, not negative.
        classes: int (N,) true classes below `n_classes`.
        n_classes: C.
    """
    matrix = contingency(predicted, classes, n_classes=n_classes)
    row = match(predicted, classes, n_classes=n_classes).row
    surplus = np.setdiff1d(np.flatnonzero(matrix.sum(axis=1)), row)
    counts = (
        np.where((row >= 0)[:, None], matrix[row], 0)
        if len(matrix)
        else np.zeros((n_classes, n_classes), dtype=np.int64)
    )
    together = np.concatenate([counts, matrix[surplus]]).T
    shares = np.full(together.shape, np.nan)
    items = together.sum(axis=1, keepdims=True)
    np.divide(together, items, out=shares, where=items > 0)
    return shares


__all__ = [
    "Split",
    "balance",
    "empty_rows",
    "leakage",
    "own_matching",
    "rows_by_class",
    "split",
    "strict_match",
]
