"""How likely a run of one contender is to beat one of the other (Agarwal et al. 2021, section 4.3, after Mann
and Whitney 1947).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from harness.statistics.series import Floats, Strata, finite_strata


def probability_of_improvement(
    a: Strata, b: Strata, *, better: Literal["higher", "lower"] = "higher"
) -> float:
    """Return the mean over scenarios of  P(x > y) + P(x = y) / 2,  x a run of `a` and y one of `b` on the
    same scenario, over all pairs.

    The runs are not paired: it says how often, not by how much. 0.5 is no difference; NaN where a scenario
    lacks figures of either.

    >>> probability_of_improvement([[0.7, 0.8], [0.5]], [[0.7, 0.6], [0.6]])
    0.4375
    """
    if len(a) != len(b):
        raise ValueError(f"strata come in pairs, got {len(a)} and {len(b)}")
    kept = list(zip(finite_strata(a), finite_strata(b), strict=True))
    if not kept or any(len(first) == 0 or len(second) == 0 for first, second in kept):
        return math.nan
    share = float(np.mean([_wins(first, second) for first, second in kept]))
    return share if better == "higher" else 1 - share


def _wins(first: Floats, second: Floats) -> float:
    """Count by places in the sorted second: those below win, equal ones count half."""
    ordered = np.sort(second)
    below, not_above = (np.searchsorted(ordered, first, side=side) for side in ("left", "right"))
    return float((below + not_above).sum()) / (2 * len(first) * len(second))


__all__ = ["probability_of_improvement"]
