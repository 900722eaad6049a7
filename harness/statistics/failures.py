"""Failures that count: a cell without a figure gets the worst valid one, so that failing is never better than
doing badly.

Left-out failures flatter whoever fails on what is hard. The worst value is stated by the caller (0 for an
accuracy), never taken from the figures, and the result says how often it was put in.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from harness.statistics.series import Floats


class Filled(NamedTuple):
    """All figures, float64 (n,); `filled` of them were missing and are `worst` instead."""

    values: Floats
    worst: float
    filled: int

    @property
    def said(self) -> str:
        """What was done, in words; empty where nothing was."""
        return (
            f"{self.filled} of {len(self.values)} cells without a figure count as {self.worst:g}"
            if self.filled
            else ""
        )


def failures_as(values: ArrayLike, worst: float) -> Filled:
    """Return `values` with everything that is not finite replaced by `worst`.

    >>> filled = failures_as([0.7, float("nan"), 0.9], 0.0)
    >>> filled.values.tolist(), filled.said
    ([0.7, 0.0, 0.9], '1 of 3 cells without a figure count as 0')
    """
    if not np.isfinite(worst):
        raise ValueError(f"the worst value must be a number, got {worst}")
    given = np.asarray(values, dtype=float).ravel()
    missing = ~np.isfinite(given)
    return Filled(np.where(missing, worst, given), float(worst), int(missing.sum()))


__all__ = ["Filled", "failures_as"]
