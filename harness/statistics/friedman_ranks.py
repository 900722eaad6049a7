"""Friedman's test: do several contenders rank alike over blocks, one figure each per block (Friedman 1937)? A
block is a scenario.

Within every block the contenders are ranked, 1 the best, ties sharing the mean. With N blocks, k contenders
and mean ranks R_j,

    chi^2 = 12 N / (k (k + 1)) sum (R_j - (k + 1) / 2)^2 / C,   C = 1 - sum over ties (t^3 - t) / (N (k^3 -
    k)),   k - 1 degrees of freedom F = (N - 1) chi^2 / (N (k - 1) - chi^2),                    k - 1 and (k -
    1)(N - 1) degrees of freedom

The second is less conservative (Iman and Davenport 1980; Demsar 2006 prefers it).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from harness.statistics.series import Floats

Better = Literal["higher", "lower"]


class Friedman(NamedTuple):
    """Both statistics with their p; NaN below two contenders or two whole `blocks`."""

    chi2: float
    p: float
    f: float
    f_p: float
    blocks: int


def friedman(figures: Mapping[str, ArrayLike]) -> Friedman:
    """Test whether all contenders rank alike; figures are paired by position, and a block that any of them
    lacks is left out whole.

    Nothing but ties gives chi^2 = 0 and p = 1. The same order in every block gives F = inf and p = 0.

    >>> found = friedman({"a": [0.9, 0.8, 0.7, 0.9], "b": [0.8, 0.7, 0.6, 0.7], "c": [0.7, 0.6, 0.5, 0.8]})
    >>> found.chi2, round(found.p, 4), found.f, round(found.f_p, 4)
    (6.5, 0.0388, 13.0, 0.0066)
    """
    ranks = block_ranks(figures)
    n, k = ranks.shape
    if n < 2 or k < 2:
        return Friedman(math.nan, math.nan, math.nan, math.nan, n)
    spread = float(np.square(ranks - (k + 1) / 2).sum())
    if spread == 0:
        return Friedman(0.0, 1.0, 0.0, 1.0, n)
    # the same as with C: the ranks' own variance takes the place of k (k + 1) / 12
    chi2 = (k - 1) * n * n * float(np.square(ranks.mean(axis=0) - (k + 1) / 2).sum()) / spread
    rest = n * (k - 1) - chi2
    f = (n - 1) * chi2 / rest if rest > 1e-9 * n else math.inf
    f_p = float(special.fdtrc(k - 1, (k - 1) * (n - 1), f)) if math.isfinite(f) else 0.0
    return Friedman(chi2, float(special.chdtrc(k - 1, chi2)), f, f_p, n)


def mean_ranks(figures: Mapping[str, ArrayLike], *, better: Better = "higher") -> dict[str, float]:
    """Return the mean rank of every contender over the blocks that all of them have, 1 the best; NaN without
    such a block.
    """
    ranks = block_ranks(figures, better=better)
    means = ranks.mean(axis=0) if len(ranks) else np.full(ranks.shape[1], math.nan)
    return dict(zip(figures, means.tolist(), strict=True))


def block_ranks(figures: Mapping[str, ArrayLike], *, better: Better = "higher") -> Floats:
    """Return the ranks within every whole block, float64 (blocks, contenders), ties sharing their mean."""
    columns = [np.asarray(values, dtype=float).ravel() for values in figures.values()]
    if len({len(column) for column in columns}) > 1:
        raise ValueError(
            f"blocks need series of the same length, got {', '.join(str(len(column)) for column in columns)}"
        )
    table = np.stack(columns, axis=1) if columns else np.zeros((0, 0))
    table = table[np.isfinite(table).all(axis=1)] * (-1 if better == "higher" else 1)
    below = (table[:, None, :] < table[:, :, None]).sum(axis=2)
    not_above = (table[:, None, :] <= table[:, :, None]).sum(axis=2)
    return np.asarray((below + not_above + 1) / 2)


__all__ = ["Friedman", "block_ranks", "friedman", "mean_ranks"]
