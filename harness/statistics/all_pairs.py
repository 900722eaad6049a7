"""All pairs of contenders, compared seed by seed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Literal

from numpy.typing import ArrayLike

from harness.statistics.multiple import holm
from harness.statistics.paired import Comparison, paired_t

Better = Literal["higher", "lower"]


def compare_all(
    figures: Mapping[str, ArrayLike], *, level: float = 0.95
) -> dict[tuple[str, str], Comparison]:
    """Return the paired comparison of every contender with every other, p Holm-corrected over all pairs; both
    directions are there.

    All pairs, because the leader is picked by the same figures: corrected over its own comparisons only, the
    leader of ten equal contenders with ten seeds "beat" another one in 14 % of 4,000 simulated boards where 5
    % is promised; over all pairs, in 3 %.
    """
    pairs = list(itertools.combinations(figures, 2))
    raw = [paired_t(figures[a], figures[b], level=level) for a, b in pairs]
    found = {}
    for (a, b), comparison, p in zip(pairs, raw, holm([comparison.p for comparison in raw]), strict=True):
        difference, low, high, _, count = comparison
        found[a, b] = Comparison(difference, low, high, float(p), count)
        found[b, a] = Comparison(-difference, -high, -low, float(p), count)
    return found


__all__ = ["Better", "compare_all"]
