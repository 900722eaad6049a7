"""Several tests at once (Holm 1979, "A simple sequentially rejective multiple test procedure")."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from harness.statistics.series import Floats


def holm(p_values: ArrayLike) -> Floats:
    """Return Holm's adjusted p: with p sorted upwards, p'[i] = max over j <= i of min(1, (m - j) p[j]), j
    from 0.

    NaN stands for a comparison that was not possible: it stays NaN and does not count in m.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, dtype=float)
    adjusted = np.full(given.shape, np.nan)
    known = np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * given[order]))
    return adjusted


__all__ = ["holm"]
