"""Figures as they come: one series, or one for each scenario (strata). What is not finite is left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Strata = Sequence[ArrayLike]
"""One series of figures for each scenario, their lengths may differ."""

SAME = 1e-12
"""Relative size below which a spread is rounding, not variation."""


def finite(values: ArrayLike) -> Floats:
    """Return the finite ones of `values`, float64 (n,)."""
    given: Floats = np.asarray(values, dtype=float).ravel()
    return given[np.isfinite(given)]


def finite_strata(strata: Strata) -> list[Floats]:
    """Return the finite figures of every stratum."""
    return [finite(values) for values in strata]


__all__ = ["SAME", "Floats", "Strata", "finite", "finite_strata"]
