"""Bootstrap within strata: every scenario's figures are drawn anew from its own, with replacement (Efron
1979; Agarwal et al. 2021).

`percentile_bootstrap` takes the quantiles of the drawn values. It serves any statistic and covers too rarely
at few seeds: of a nominal 0.95 it holds 0.74 at three, 0.83 at five and 0.90 at ten for the mean of one
scenario, 0.83, 0.88 and 0.92 for the mean of four; 0.86, 0.91 and 0.935 for the interquartile mean of four.
It is recommended for the latter alone, from ten seeds on.

`studentised_bootstrap` (bootstrap-t: Efron and Tibshirani 1993, chapter 12.5; Hall 1988) takes the quantiles
of (m* - m) / error* and puts them where Student's go. Coverage by simulation: 0.94 to 0.96 at five seeds,
also under heavy tails (0.93 to 0.95), and at ten where tails are light; 0.92 to 0.935 at ten seeds with tails
of Student's t with 3 degrees of freedom, where t is better. Three seeds of one scenario have no interval
(NaN): all three draws are the same figure too often. It is recommended from five seeds on where tails are
light, and never does better than t for a mean.

Functions that end in `_bounds` work on stacks: strata (..., n_k) give bounds (...).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.statistics.intervals import Interval
from harness.statistics.series import SAME, Floats, Strata, finite_strata

Picks = NDArray[np.int64]
"""Which figures are drawn, int64 (draws, n_k), for one stratum."""

Statistic = Callable[[Sequence[Floats]], Floats]
"""From strata, float64 (..., n_k) each, to one value for each place of the leading axes, (...)."""


class Bounds(NamedTuple):
    """Lower and upper bounds, float64 (...)."""

    low: Floats
    high: Floats


def mean_over_strata(strata: Sequence[Floats]) -> Floats:
    """Return the mean over strata of the means along the last axis; every stratum counts the same."""
    return np.asarray(np.mean([values.mean(axis=-1) for values in strata], axis=0))


def percentile_bootstrap(
    strata: Strata,
    *,
    rng: np.random.Generator,
    statistic: Statistic = mean_over_strata,
    draws: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Return `statistic` of the strata and the quantiles of its values over draws; NaN bounds where a stratum
    has less than two.
    """
    kept = finite_strata(strata)
    n = sum(map(len, kept))
    if not kept or any(len(values) == 0 for values in kept):
        return Interval(math.nan, math.nan, math.nan, n)
    estimate = float(statistic(kept))
    if any(len(values) == 1 for values in kept):
        return Interval(estimate, math.nan, math.nan, n)
    low, high = percentile_bounds(kept, picks(kept, rng=rng, draws=draws), statistic=statistic, level=level)
    return Interval(estimate, float(low), float(high), n)


def studentised_bootstrap(
    strata: Strata, *, rng: np.random.Generator, draws: int = 2000, level: float = 0.95
) -> Interval:
    """Return the mean over strata with its bootstrap-t interval.

    NaN bounds where a stratum has fewer than two figures, and where more than (1 - level) / 2 of the draws on
    a side have no spread. Figures that are all equal give an interval of width zero.
    """
    kept = finite_strata(strata)
    n = sum(map(len, kept))
    if not kept or any(len(values) == 0 for values in kept):
        return Interval(math.nan, math.nan, math.nan, n)
    mean = float(mean_over_strata(kept))
    if any(len(values) == 1 for values in kept):
        return Interval(mean, math.nan, math.nan, n)
    low, high = (
        float(bound) for bound in studentised_bounds(kept, picks(kept, rng=rng, draws=draws), level=level)
    )
    return (
        Interval(mean, low, high, n)
        if math.isfinite(low) and math.isfinite(high)
        else Interval(mean, math.nan, math.nan, n)
    )


def picks(strata: Sequence[Floats], *, rng: np.random.Generator, draws: int) -> list[Picks]:
    """Return which figures every draw takes, for each stratum."""
    return [rng.integers(0, values.shape[-1], size=(draws, values.shape[-1])) for values in strata]


def percentile_bounds(
    strata: Sequence[Floats],
    picked: Sequence[Picks],
    *,
    statistic: Statistic = mean_over_strata,
    level: float = 0.95,
) -> Bounds:
    """Return the (1 - level) / 2 quantiles of `statistic` on either side over the draws."""
    drawn = statistic([values[..., own] for values, own in zip(strata, picked, strict=True)])
    tail = (1 - level) / 2
    return Bounds(*np.quantile(drawn, [tail, 1 - tail], axis=-1))


def studentised_bounds(strata: Sequence[Floats], picked: Sequence[Picks], *, level: float = 0.95) -> Bounds:
    """Return  m - t*[1 - tail] error,  m - t*[tail] error;  infinite where that many draws have no spread."""
    drawn = [values[..., own] for values, own in zip(strata, picked, strict=True)]
    mean, error = mean_over_strata(strata), _error(strata)
    off = mean_over_strata(drawn) - mean[..., None]
    scale = SAME * np.max([np.abs(values).max(axis=-1) for values in strata], axis=0)[..., None]
    off = np.where(np.abs(off) <= scale, 0.0, off)
    errors = _error(drawn)
    errors = np.where(errors <= scale, 0.0, errors)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where((off == 0) & (errors == 0), 0.0, off / errors)
    tail = (1 - level) / 2
    lower = np.quantile(t, tail, axis=-1, method="lower")
    upper = np.quantile(t, 1 - tail, axis=-1, method="higher")
    with np.errstate(invalid="ignore"):
        return Bounds(*(np.where(error == 0, mean, mean - quantile * error) for quantile in (upper, lower)))


def _error(strata: Sequence[Floats]) -> Floats:
    """Return the standard error of the mean over strata, along the last axis."""
    return np.asarray(
        np.sqrt(sum(values.var(axis=-1, ddof=1) / values.shape[-1] for values in strata)) / len(strata)
    )


__all__ = [
    "Bounds",
    "Picks",
    "Statistic",
    "mean_over_strata",
    "percentile_bootstrap",
    "percentile_bounds",
    "picks",
    "studentised_bootstrap",
    "studentised_bounds",
]
