"""Wilcoxon's signed-rank test (Wilcoxon 1945, "Individual comparisons by ranking methods"), exact also where
differences are tied.

The pairs are best one per scenario (Demsar 2006, "Statistical comparisons of classifiers over multiple data
sets"), with Holm's correction over all pairs of contenders (Benavoli et al. 2016 give reasons to prefer it to
Nemenyi's).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from harness.statistics.multiple import holm
from harness.statistics.paired import paired_differences
from harness.statistics.series import finite

EXACT_UP_TO = 200
"""Number of differences up to which every pattern of signs counts; above, the normal approximation with ties."""


def wilcoxon(differences: ArrayLike) -> float:
    """Return the two-sided p: twice the share of sign patterns whose sum of positive ranks is at most the
    smaller observed one, at most 1.

    Zeros are left out, as Wilcoxon has it; tied sizes share the mean of their ranks, and the patterns are
    counted over these ranks. Nothing but zeros gives 1, no pairs give NaN. n differences cannot go below 2 /
    2^n.

    >>> wilcoxon([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), wilcoxon([1.0, -2.0, 3.0])
    (0.03125, 0.75)
    """
    kept = finite(differences)
    if len(kept) == 0:
        return math.nan
    kept = kept[kept != 0]
    if len(kept) == 0:
        return 1.0
    doubled = doubled_ranks(np.abs(kept))
    total = int(doubled.sum())
    positive = int(doubled[kept > 0].sum())
    smaller = min(positive, total - positive)
    if len(kept) > EXACT_UP_TO:
        z = (smaller - total / 2) / math.sqrt(float(np.square(doubled.astype(float)).sum()) / 4)
        return min(1.0, 2 * float(special.ndtr(z)))
    share = np.zeros(total + 1)  # of patterns, by twice the sum of their positive ranks
    share[0] = 1.0
    for rank in doubled.tolist():
        share[rank:] = (share[rank:] + share[: total + 1 - rank]) / 2
        share[:rank] /= 2
    return min(1.0, 2 * float(share[: smaller + 1].sum()))


def wilcoxon_holm(figures: Mapping[str, ArrayLike]) -> dict[tuple[str, str], float]:
    """Return the corrected p of every pair of contenders, in both directions; figures are paired by position,
    gaps left out in pairs.
    """
    pairs = list(itertools.combinations(figures, 2))
    adjusted = holm([wilcoxon(paired_differences(figures[a], figures[b])) for a, b in pairs])
    found = {}
    for (a, b), p in zip(pairs, adjusted.tolist(), strict=True):
        found[a, b] = found[b, a] = p
    return found


def doubled_ranks(
    sizes: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return twice the ranks from 1, whole numbers: tied sizes share the sum of their first and last rank."""
    ordered = np.sort(sizes)
    first = np.searchsorted(ordered, sizes, side="left") + 1
    last = np.searchsorted(ordered, sizes, side="right")
    return (first + last).astype(np.int64)


__all__ = ["EXACT_UP_TO", "doubled_ranks", "wilcoxon", "wilcoxon_holm"]
