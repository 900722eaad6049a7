"""Sign flips: were there no difference, every paired difference might as well have had the other sign (Fisher
1935, "The design of experiments", section 21). Nothing else is assumed.

n pairs have 2^n patterns of signs, so no p is below 2 / 2^n: fewer than six pairs cannot reach two-sided 5 %.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import ArrayLike

from harness.statistics.series import SAME, Strata, finite, finite_strata

EXACT_UP_TO = 16
"""Number of pairs up to which `sign_flip` counts every pattern of signs: 2^16 of them."""


def sign_flip(
    differences: ArrayLike, *, rng: np.random.Generator | None = None, draws: int = 100_000
) -> float:
    """Return the two-sided p of the sign-flip test: the share of sign patterns whose |sum| reaches the
    observed one.

    Exact up to 16 pairs; above, (1 + hits) / (1 + draws) over patterns drawn from `rng`. Nothing but zeros
    gives 1, no pairs give NaN.

    >>> sign_flip([1.0, 2.0, 3.0])
    0.25
    """
    kept = finite(differences)
    if len(kept) == 0:
        return math.nan
    reached = abs(kept.sum()) - SAME * float(np.abs(kept).sum())
    if len(kept) <= EXACT_UP_TO:
        sums = np.zeros(1)
        for difference in kept:
            sums = np.concatenate([sums + difference, sums - difference])
        return float(np.mean(np.abs(sums) >= reached))
    if rng is None:
        raise ValueError(f"more than {EXACT_UP_TO} pairs are flipped at random: give rng")
    hits = 0
    for start in range(0, draws, 4096):
        signs = rng.integers(0, 2, size=(min(4096, draws - start), len(kept)), dtype=np.int8) * 2.0 - 1.0
        hits += int(np.count_nonzero(np.abs(signs @ kept) >= reached))
    return (1 + hits) / (1 + draws)


def sign_flip_within_strata(
    strata: Strata, *, rng: np.random.Generator | None = None, draws: int = 100_000
) -> float:
    """Return the two-sided p of the mean over strata of mean differences, when the sign of every single
    difference may flip.

    The pairs stay in their stratum, so scenarios may vary as they like; as many pairs as all strata have
    together decide how small p can get. Exact up to 16, as `sign_flip`. NaN where a stratum has no pair.

    >>> sign_flip_within_strata([[0.1, 0.2, 0.3], [2.0, 1.0, 3.0]])
    0.03125
    """
    kept = finite_strata(strata)
    if not kept or any(len(values) == 0 for values in kept):
        return math.nan
    return sign_flip(np.concatenate([values / len(values) for values in kept]), rng=rng, draws=draws)


def smallest_sign_flip_p(pairs: int) -> float:
    """Return 2 / 2^n, the smallest two-sided p that n pairs can reach by sign flips. Six pairs are the first
    below 5 %.

    >>> smallest_sign_flip_p(5), smallest_sign_flip_p(6)
    (0.0625, 0.03125)
    """
    return min(1.0, 2.0 ** (1 - pairs)) if pairs else math.nan


def fewest_pairs(level: float = 0.95) -> int:
    """Return how many pairs it takes for sign flips to reach a two-sided p of 1 - level.

    >>> fewest_pairs(), fewest_pairs(0.99)
    (6, 8)
    """
    return next(pairs for pairs in itertools.count(1) if smallest_sign_flip_p(pairs) <= 1 - level)


__all__ = ["EXACT_UP_TO", "fewest_pairs", "sign_flip", "sign_flip_within_strata", "smallest_sign_flip_p"]
