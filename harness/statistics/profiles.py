"""Performance profiles: which share of runs is above a figure, for every figure (Dolan and More 2002; as
distributions of single runs, Agarwal et al. 2021, section 4.2).

The band is Wilson's (1927) at each point by itself, and not the percentile bootstrap's of the latter, which
has width zero where all runs are on one side and covers too rarely at few seeds. Shares that differ between
scenarios make it too wide, never too narrow.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from harness.statistics.series import Floats, Strata, finite_strata


class Profile(NamedTuple):
    """The shares of runs above every `tau`, float64 (T,) each, with a pointwise band; `n` runs."""

    taus: Floats
    share: Floats
    low: Floats
    high: Floats
    n: int


def performance_profile(strata: Strata, taus: ArrayLike, *, level: float = 0.95) -> Profile:
    """Return, for every tau, the mean over scenarios of the share of runs above it.

    With K scenarios of n_k runs the band is that of K^2 / sum (1 / n_k) runs, which is their number where all
    n_k are equal. NaN where a scenario has no figure.

    >>> performance_profile([[0.2, 0.4], [0.6, 0.9]], [0.0, 0.5, 0.9]).share.tolist()
    [1.0, 0.5, 0.0]
    """
    at = np.asarray(taus, dtype=float).ravel()
    kept = finite_strata(strata)
    n = sum(map(len, kept))
    if not kept or any(len(values) == 0 for values in kept):
        unknown = np.full(len(at), math.nan)
        return Profile(at, unknown, unknown, unknown, n)
    above = [1 - np.searchsorted(np.sort(values), at, side="right") / len(values) for values in kept]
    share = np.mean(above, axis=0)
    runs = len(kept) ** 2 / sum(1 / len(values) for values in kept)
    z = float(special.ndtri(1 - (1 - level) / 2))
    centre = (share + z**2 / (2 * runs)) / (1 + z**2 / runs)
    half = z * np.sqrt(share * (1 - share) / runs + z**2 / (4 * runs**2)) / (1 + z**2 / runs)
    return Profile(at, share, np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1), n)


__all__ = ["Profile", "performance_profile"]
