"""What a comparison had a chance to find (Cohen 1988, "Statistical power analysis"; noncentral t)."""

from __future__ import annotations

import math
from functools import cache

from scipy import special

from harness.statistics.intervals import t_quantile
from harness.statistics.series import Strata
from harness.statistics.stratified import pooled


def minimum_detectable_difference(
    sd_of_differences: float, pairs: int, *, power: float = 0.8, level: float = 0.95
) -> float:
    """Return the true difference that a two-sided paired t-test finds with probability `power`.

    The d that solves  P(|T| > t[1 - (1 - level)/2, n - 1]) = power,  T noncentral t with n - 1 degrees of
    freedom and noncentrality d sqrt(n) / sd. NaN below two pairs or without a spread; 0 for a spread of 0.

    >>> round(minimum_detectable_difference(1.0, 10, power=0.8031), 2)
    1.0
    """
    if pairs < 2 or not math.isfinite(sd_of_differences):
        return math.nan
    return sd_of_differences / math.sqrt(pairs) * _noncentrality(pairs - 1, power, level)


def detectable_within_strata(
    strata_of_differences: Strata, *, power: float = 0.8, level: float = 0.95
) -> float:
    """Return the true mean over strata that `pooled_paired_t` finds with probability `power`; NaN where it
    has no interval.
    """
    _, error, freedom, _ = pooled(strata_of_differences)
    return error * _noncentrality(freedom, power, level) if math.isfinite(error) else math.nan


@cache
def _noncentrality(freedom: float, power: float, level: float) -> float:
    """Return the noncentrality of t that a two-sided test finds with probability `power`."""
    critical = t_quantile(1 - (1 - level) / 2, freedom)

    def power_at(noncentrality: float) -> float:
        wrong_side = float(special.nctdtr(freedom, noncentrality, -critical))  # NaN where it underflows
        return (
            1
            - float(special.nctdtr(freedom, noncentrality, critical))
            + (0.0 if math.isnan(wrong_side) else wrong_side)
        )

    above = critical + 1.0
    while power_at(above) < power:
        above *= 2
    below = 0.0
    for _ in range(60):  # halving: 60 steps reach the resolution of a float
        middle = (below + above) / 2
        below, above = (middle, above) if power_at(middle) < power else (below, middle)
    return above


__all__ = ["detectable_within_strata", "minimum_detectable_difference"]
