"""Telling positives from negatives by a score: AUROC, average precision and F1-max, exact.

Every figure is read off one table: how many positives and negatives lie at each distinct value of the score
(`Levels`). Tied values are one level, one point of every curve. Going down from the largest level,

    AUROC    P(a positive scores above a negative), ties one half (Mann-Whitney)
    AP       average precision: sum over k of (R_k - R_(k-1)) P_k, step by step and not a trapezoid
    F1-max   max over k of 2 P R / (P + R): its threshold is chosen with the labels that are tested

with P_k and R_k precision and recall where level k and all above are flagged. Where one of the two kinds is
missing a figure is NaN: it is missing, and neither 0.5 nor 1. Papers on wrong labels count an AP without
negatives as 1; `without_negatives` says so.

Levels without a positive that follow one another may be one, which moves no figure: so `levels` sorts
positives and negatives apart and counts the negatives at and between the positives. No value is rounded, only
the order counts.

>>> table = levels(np.array([0.9, 0.4, 0.4, 0.1]), np.array([True, True, False, False]))
>>> auroc(table), average_precision(table), f1_max(table)
(0.875, 0.8333333333333333, 0.8)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Side = Literal["left", "right"]

NAN = float("nan")


class Levels(NamedTuple):
    """What lies at each distinct value of a score, the largest first; K levels.

    positive, negative: int64 (K,) items.
    weight: float64 (K,) total weight of the positives there; None where they have none.
    """

    positive: Counts
    negative: Counts
    weight: Floats | None = None


def levels(scores: NDArray[Any], positive: Mask, weights: Floats | None = None) -> Levels:
    """Make the table of `scores` by one sort of them.

    Args:
        scores: (N,) of any precision, larger for positives.
        positive: bool (N,).
        weights: float64, one for each of `scores[positive]`.

    Raises:
        ValueError: a score that is NaN, which has no place in an order.
    """
    if np.isnan(scores).any():
        raise ValueError("scores that are NaN cannot be ranked")
    numbers = (
        scores.astype(np.float32) if scores.dtype == np.float16 else scores
    )  # half precision has no fast sort
    rising = np.sort(numbers[~positive])
    return levels_of(
        numbers[positive], weights, len(rising), lambda values, side: at_least(rising, values, side)
    )


def levels_of(
    found: NDArray[Any],
    weights: Floats | None,
    n_negative: int,
    negative: Callable[[NDArray[Any], Side], Counts],
) -> Levels:
    """Make the table of positive scores `found` and of negatives that are counted elsewhere.

    Args:
        found: (P,) scores of positives, none NaN.
        weights: float64 (P,) or None.
        n_negative: how many negatives there are.
        negative: returns how many of them score at least as high as each of some values or, with the side
            "right", higher; as `at_least` does.
    """
    values, place = np.unique(found, return_inverse=True)
    as_large, larger = negative(values, "left")[::-1], negative(values, "right")[::-1]
    counts, positive, weight = np.zeros((3, 2 * len(values) + 1))  # between, at, between, at, ..., below
    counts[::2] = np.append(larger, n_negative) - np.append(0, as_large)
    counts[1::2] = as_large - larger
    positive[1::2] = np.bincount(place, minlength=len(values))[::-1]
    weight[1::2] = 0 if weights is None else np.bincount(place, weights=weights, minlength=len(values))[::-1]
    held = counts + positive > 0
    return Levels(
        positive[held].astype(np.int64),
        counts[held].astype(np.int64),
        None if weights is None else weight[held],
    )


def at_least(rising: NDArray[Any], values: NDArray[Any], side: Side) -> Counts:
    """Return how many of `rising` are as large as each of `values` or larger; with the side "right", larger."""
    return len(rising) - np.searchsorted(rising, values, side)


def auroc(table: Levels) -> float:
    """Return the area under the ROC curve; NaN without positives or without negatives."""
    if not (table.positive.any() and table.negative.any()):
        return NAN
    above = (
        2 * np.cumsum(table.positive) - table.positive
    )  # twice those above, and those at the same level once
    return int(above @ table.negative) / (2 * int(table.positive.sum()) * int(table.negative.sum()))


def average_precision(table: Levels, *, without_negatives: float = NAN) -> float:
    """Return the average precision; NaN without positives, and `without_negatives` without negatives."""
    if not table.positive.any():
        return NAN
    if not table.negative.any():
        return without_negatives
    found, taken = np.cumsum(table.positive), np.cumsum(table.positive + table.negative)
    return float((table.positive * (found / taken)).sum() / found[-1])


def f1_max(table: Levels) -> float:
    """Return the largest F1 over all thresholds; NaN without positives or without negatives."""
    if not (table.positive.any() and table.negative.any()):
        return NAN
    found, taken = np.cumsum(table.positive), np.cumsum(table.positive + table.negative)
    return float((2 * found / (taken + found[-1])).max())


__all__ = ["Levels", "at_least", "auroc", "average_precision", "f1_max", "levels", "levels_of"]
