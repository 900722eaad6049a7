"""Equivalence within a margin: two one-sided t-tests (Schuirmann 1987, "A comparison of the two one-sided
tests procedure and the power approach").

That a difference was not found does not show that there is none. Here the burden is turned round: the
difference is taken to be the margin or more until both  d > -margin  and  d < margin  are shown, each at 1 -
level. That is so when the interval at 1 - 2 (1 - level), 90 % for 95 %, lies inside the margin.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from numpy.typing import ArrayLike
from scipy import special

from harness.statistics.intervals import standard_error, t_interval
from harness.statistics.paired import paired_differences
from harness.statistics.series import Strata
from harness.statistics.stratified import differences_within, pooled, pooled_t


class Equivalence(NamedTuple):
    """The mean of paired differences, its interval at 1 - 2 (1 - level), the larger p of the two tests; NaN
    where `pairs` is below two.
    """

    difference: float
    low: float
    high: float
    p: float
    pairs: int
    margin: float


def two_one_sided(a: ArrayLike, b: ArrayLike, *, margin: float, level: float = 0.95) -> Equivalence:
    """Test whether `a` and `b`, paired by position, differ by less than `margin`; equivalent where p is at
    most 1 - level.

    Differences without a spread have p = 1 / 2^n, the smallest of one-sided sign flips, where they are inside
    the margin, else 1.

    >>> found = two_one_sided([0.70, 0.71, 0.72, 0.70], [0.71, 0.70, 0.71, 0.71], margin=0.03)
    >>> round(found.p, 4), round(found.low, 4), round(found.high, 4)
    (0.0069, -0.0136, 0.0136)
    """
    _check(margin)
    differences = paired_differences(a, b)
    mean, low, high, pairs = t_interval(differences, level=1 - 2 * (1 - level))
    error = standard_error(differences) if pairs > 1 else math.nan
    return Equivalence(mean, low, high, _p(mean, error, pairs - 1, pairs, margin), pairs, margin)


def two_one_sided_within_strata(a: Strata, b: Strata, *, margin: float, level: float = 0.95) -> Equivalence:
    """Test whether the mean over strata of `a` and `b`, paired by position within each, differs by less than
    `margin`: by `pooled_t`.
    """
    _check(margin)
    differences = differences_within(a, b)
    mean, low, high, pairs = pooled_t(differences, level=1 - 2 * (1 - level))
    _, error, freedom, _ = pooled(differences)
    return Equivalence(mean, low, high, _p(mean, error, freedom, pairs, margin), pairs, margin)


def _check(margin: float) -> None:
    if not margin > 0:
        raise ValueError(f"margin must be above 0, got {margin}")


def _p(mean: float, error: float, freedom: float, pairs: int, margin: float) -> float:
    if math.isnan(error):
        return math.nan
    room = margin - abs(mean)
    if error == 0:
        return 2.0**-pairs if room > 0 else 1.0
    return float(special.stdtr(freedom, -room / error))


__all__ = ["Equivalence", "two_one_sided", "two_one_sided_within_strata"]
