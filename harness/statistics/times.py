"""Times that may not be reached within a budget (Kaplan and Meier 1958, "Nonparametric estimation from
incomplete observations").
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Times(NamedTuple):
    """Times that may not have been reached: their median, NaN where it was not, how many were, and of how
    many.
    """

    median: float
    reached: int
    n: int


def kaplan_meier_median(times: ArrayLike) -> float:
    """Return the median of times that may not be reached within a budget that is the same for all; NaN stands
    for one that was not.

    The product-limit estimate of the share still waiting after t is  S(t) = product over reached t_i <= t of
    (1 - 1 / n_i),  n_i waiting just before. With one common end nobody leaves earlier, so S(t) = 1 - #(t_i <=
    t) / n, and the median, the smallest t with S(t) <= 1/2, is the ceil(n / 2)-th smallest time. NaN where
    fewer than half were reached, or there are none.

    >>> kaplan_meier_median([300.0, 100.0, float("nan"), 200.0, float("nan")])
    300.0
    >>> kaplan_meier_median([300.0, 100.0, float("nan"), float("nan"), float("nan")])
    nan
    """
    given = np.asarray(times, dtype=float).ravel()
    reached = np.sort(given[~np.isnan(given)])
    half = (len(given) + 1) // 2
    return float(reached[half - 1]) if 0 < half <= len(reached) else math.nan


def times_reached(times: ArrayLike) -> Times:
    """Return the median of `times` (NaN: not reached), with how many were reached and of how many."""
    given = np.asarray(times, dtype=float).ravel()
    return Times(kaplan_meier_median(given), int(np.count_nonzero(~np.isnan(given))), len(given))


__all__ = ["Times", "kaplan_meier_median", "times_reached"]
