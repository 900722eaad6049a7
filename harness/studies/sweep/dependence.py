"""Does a figure depend on a parameter? One test for values that were listed, one for values that were drawn.

Listed: every value has a figure under every seed. With V values, S seeds, means m_v over seeds and residuals
r_vs after the means of values and of seeds,  F = (S - 1) S sum_v (m_v - m)^2 / sum_vs r_vs^2,  judged with 1
and S - 1 degrees of freedom, the lower bound that holds whatever the values' figures have to do with each
other (Geisser and Greenhouse 1958, "An extension of Box's results on the use of the F distribution in
multivariate analysis"). With two values this is the paired t-test.

Drawn: Spearman's rank correlation (1904), tied values sharing the mean of their ranks.
"""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from harness import statistics
from harness.statistics.series import SAME, Floats

EXACT_UP_TO = 8
"""Number of settings up to which every order counts for Spearman's p."""


class Correlation(NamedTuple):
    """Spearman's rho with its two-sided p over n settings; NaN below three, or where one side does not vary."""

    rho: float
    p: float
    n: int


def moves(figures: ArrayLike) -> float:
    """Return the p of "the values (rows) all have the same mean over seeds (columns)", figures (V, S).

    Seeds that lack a figure are left out whole. NaN below two values or two seeds. Equal figures give 1;
    differences that are the same under every seed have no spread, and p is the smallest that sign flips can
    give.

    >>> a, b = [0.7, 0.8, 0.9], [0.6, 0.6, 0.7]
    >>> round(moves([a, b]), 10) == round(statistics.paired_t(a, b).p, 10)
    True
    """
    given = np.asarray(figures, dtype=float)
    given = given[:, np.isfinite(given).all(axis=0)]
    values, seeds = given.shape
    if values < 2 or seeds < 2:
        return math.nan
    means = given.mean(axis=1, keepdims=True)
    between = seeds * float(np.square(means - means.mean()).sum())
    within = float(np.square(given - means - given.mean(axis=0, keepdims=True) + given.mean()).sum())
    rounding = given.size * (SAME * float(np.abs(given).max())) ** 2
    if within <= rounding:
        return 1.0 if between <= rounding else statistics.smallest_sign_flip_p(seeds)
    return float(special.fdtrc(1, seeds - 1, (seeds - 1) * between / within))


def spearman(x: ArrayLike, y: ArrayLike) -> Correlation:
    """Return the rank correlation of x and y, pairs that lack either left out.

    p is the share of orders of y whose |rho| is as large, up to `EXACT_UP_TO` pairs; above, t = rho sqrt((n -
    2) / (1 - rho^2)) with n - 2 degrees of freedom (Kendall 1948, "Rank correlation methods").

    >>> spearman([1, 2, 3, 4], [10, 20, 40, 30])
    Correlation(rho=0.8, p=0.3333333333333333, n=4)
    """
    first, second = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    both = np.isfinite(first) & np.isfinite(second)
    n = int(both.sum())
    if n < 3 or np.ptp(first[both]) == 0 or np.ptp(second[both]) == 0:
        return Correlation(math.nan, math.nan, n)
    a, b = _standard(_ranks(first[both])), _standard(_ranks(second[both]))
    rho = round(float(a @ b), 12)
    if n <= EXACT_UP_TO:
        every = b[_orders(n)] @ a
        return Correlation(rho, float(np.mean(np.abs(every) >= abs(rho) - 1e-9)), n)
    t = abs(rho) * math.sqrt((n - 2) / (1 - rho**2)) if abs(rho) < 1 else math.inf
    return Correlation(rho, float(2 * special.stdtr(n - 2, -t)), n)


def _ranks(values: Floats) -> Floats:
    ordered = np.sort(values)
    ranks: Floats = (
        np.searchsorted(ordered, values, side="left") + np.searchsorted(ordered, values, side="right") + 1
    ) / 2
    return ranks


def _standard(ranks: Floats) -> Floats:
    centred = ranks - ranks.mean()
    scaled: Floats = centred / math.sqrt(float(centred @ centred))
    return scaled


@cache
def _orders(n: int) -> NDArray[np.int64]:
    return np.array(list(itertools.permutations(range(n))), dtype=np.int64)


__all__ = ["EXACT_UP_TO", "Correlation", "moves", "spearman"]
