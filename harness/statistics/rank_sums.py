"""Two series of figures that are not paired: is the first the better one, or are they of one distribution?

The rank-sum test of Wilcoxon 1945 and of Mann and Whitney 1947, exact also where figures are tied: were the
series of one distribution, every choice of n of the n + m figures might as well have been the first. Nothing
else is assumed, and a cell that failed may stand as minus infinity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from harness.statistics.series import Floats
from harness.statistics.signed_ranks import doubled_ranks


def rank_sum(first: ArrayLike, second: ArrayLike) -> float:
    """Return the one-sided p that `first` (n,) is larger than `second` (m,): the share of choices of n of all
    figures whose ranks sum up to at least the observed sum.

    Tied figures share the mean of their ranks. NaN where a series is empty.

    >>> round(rank_sum([3.0, 4.0], [1.0, 2.0]), 4)
    0.1667
    """
    return rank_sum_within_strata([(first, second)])


def rank_sum_within_strata(strata: Sequence[tuple[ArrayLike, ArrayLike]]) -> float:
    """Return the same p where figures change places within their stratum alone: of the sum of rank sums over
    strata, each (first, second).

    >>> rank_sum_within_strata([([2.0], [1.0]), ([5.0], [4.0])])
    0.25
    """
    observed, share = 0, np.ones(1)
    for first, second in strata:
        a, b = np.asarray(first, dtype=float).ravel(), np.asarray(second, dtype=float).ravel()
        if not len(a) or not len(b):
            return math.nan
        ranks = doubled_ranks(np.concatenate([a, b]))
        observed += int(ranks[: len(a)].sum())
        share = np.convolve(share, _chosen(ranks.tolist(), len(a)))
    return float(share[observed:].sum())


def rank_sum_by_wins(n: int, m: int) -> Floats:
    """Return the same p where nothing is tied, float64 (n m + 1,), by how many of the n m pairs the first
    series wins.

    >>> rank_sum_by_wins(1, 3).tolist()
    [1.0, 0.75, 0.5, 0.25]
    """
    share = _chosen(range(2, 2 * (n + m) + 1, 2), n)
    return np.cumsum(share[::-1])[::-1][n * (n + 1) : n * (n + 1) + 2 * n * m + 1 : 2]


def _chosen(doubled: Sequence[int], n: int) -> Floats:
    """Return the share of choices of n of the ranks, by twice their sum."""
    total = sum(doubled)
    ways = np.zeros((n + 1, total + 1))  # of choosing, by how many and twice the sum
    ways[0, 0] = 1.0
    for count, rank in enumerate(doubled):
        for chosen in range(min(n, count + 1), 0, -1):
            ways[chosen, rank:] += ways[chosen - 1, : total + 1 - rank]
    share: Floats = ways[n] / math.comb(len(doubled), n)
    return share


def smallest_rank_sum_p(n: int, m: int) -> float:
    """Return the smallest one-sided p that n figures against m can reach: one choice of all.

    >>> smallest_rank_sum_p(5, 5)
    0.003968253968253968
    """
    return 1 / math.comb(n + m, n)


__all__ = ["rank_sum", "rank_sum_by_wins", "rank_sum_within_strata", "smallest_rank_sum_p"]
