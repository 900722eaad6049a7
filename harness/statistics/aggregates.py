"""Single figures for runs over several scenarios that a few outliers do not rule (Agarwal et al. 2021, "Deep
reinforcement learning at the edge of the statistical precipice", section 4.3). Scenarios are scaled to one
range first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harness.statistics.series import Floats, Strata, finite_strata


def iqm(strata: Strata) -> float:
    """Return the interquartile mean over all runs of all scenarios: the mean without the lowest and the
    highest floor(N / 4) of N figures.

    Scenarios with more seeds weigh more. NaN without figures.

    >>> iqm([[0.0, 0.5, 0.6], [0.7, 0.8, 9.0, 0.4, 0.5]])
    0.575
    """
    kept = finite_strata(strata)
    return float(interquartile_mean(kept)) if sum(map(len, kept)) else math.nan


def interquartile_mean(strata: Sequence[Floats]) -> Floats:
    """Return the interquartile mean over the last axes of all strata, (..., n_k) each, as
    `percentile_bootstrap` takes a statistic.
    """
    ordered = np.sort(np.concatenate(strata, axis=-1), axis=-1)
    cut = ordered.shape[-1] // 4
    return np.asarray(ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1))


def optimality_gap(strata: Strata, *, gamma: float = 1.0) -> float:
    """Return  gamma - mean min(x, gamma)  over runs, then over scenarios: how far runs fall short of `gamma`;
    larger figures are better.

    What exceeds `gamma` earns nothing. NaN where a scenario has no figure.

    >>> round(optimality_gap([[0.5, 1.5], [0.9, 0.9]]), 3)
    0.175
    """
    kept = finite_strata(strata)
    if not kept or any(len(values) == 0 for values in kept):
        return math.nan
    return float(np.mean([np.mean(gamma - np.minimum(values, gamma)) for values in kept]))


__all__ = ["interquartile_mean", "iqm", "optimality_gap"]
