"""Two contenders seed by seed: differences, and Student's paired t on them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from harness.statistics.intervals import standard_error, t_interval
from harness.statistics.series import SAME, Floats
from harness.statistics.sign_flips import smallest_sign_flip_p


class Comparison(NamedTuple):
    """The mean of paired differences with its interval and two-sided p; NaN where `pairs` do not give one."""

    difference: float
    low: float
    high: float
    p: float
    pairs: int


def paired_differences(a: ArrayLike, b: ArrayLike) -> Floats:
    """Return a - b by position, float64 (pairs,), for the positions where both are finite.

    Differences that vary by rounding alone are made equal, and those that are rounding alone zero.

    >>> paired_differences([0.7, float("nan"), 0.9], [0.5, 0.5, 0.5]).round(3).tolist()
    [0.2, 0.4]
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(
            f"pairs need two series of the same length, got shapes {first.shape} and {second.shape}"
        )
    both = np.isfinite(first) & np.isfinite(second)
    first, second = first[both], second[both]
    differences: Floats = first - second
    size = float(max(np.abs(first).max(initial=0.0), np.abs(second).max(initial=0.0)))
    if len(differences) and np.ptp(differences) <= SAME * size:
        constant = float(differences[0]) if abs(differences[0]) > SAME * size else 0.0
        differences = np.full_like(differences, constant)
    return differences


def paired_t(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> Comparison:
    """Compare `a` with `b`, paired by position: t = mean(d) / (s(d) / sqrt(n)) with d = a - b and n - 1
    degrees of freedom.

    Equal values give difference 0 and p = 1. A constant difference other than zero has no spread for t to
    work with (p would be 0 from two pairs on), so its p is the smallest that sign flips can give, 2 / 2^n. A
    single pair cannot decide: p is NaN.

    >>> round(paired_t([0.7, 0.8, 0.9], [0.6, 0.6, 0.7]).p, 4)
    0.0377
    >>> paired_t([0.7, 0.8], [0.7, 0.8]).p
    1.0
    """
    differences = paired_differences(a, b)
    mean, low, high, pairs = t_interval(differences, level=level)
    return Comparison(mean, low, high, _t_test_p(differences), pairs)


def _t_test_p(differences: Floats) -> float:
    if len(differences) < 2:
        return math.nan
    if not differences.any():
        return 1.0
    error = standard_error(differences)
    if error == 0.0:
        return smallest_sign_flip_p(len(differences))
    return float(2 * special.stdtr(len(differences) - 1, -abs(differences.mean()) / error))


__all__ = ["Comparison", "paired_differences", "paired_t"]
