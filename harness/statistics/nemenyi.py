"""The critical difference of mean ranks, and the groups that it cannot part (Nemenyi 1963; Demsar 2006, whose
diagrams draw them).

    CD = q sqrt(k (k + 1) / (6 N)),   q the level quantile of the studentised range of k contenders with
    infinite freedom, over sqrt(2)

Two contenders whose mean ranks over N blocks differ by CD or more differ. It holds after a Friedman test that
rejects, and takes many
blocks: k = 5 contenders on N = 4 scenarios need mean ranks 3.05 apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from numpy.typing import ArrayLike

from harness.statistics.friedman_ranks import Better, block_ranks, mean_ranks


class RankGroups(NamedTuple):
    """Mean ranks, best first; the critical difference; and the largest groups of neighbours that lie within
    it, which may overlap.
    """

    ranks: dict[str, float]
    critical_difference: float
    groups: list[tuple[str, ...]]
    blocks: int


def critical_difference(contenders: int, blocks: int, *, level: float = 0.95) -> float:
    """Return Nemenyi's critical difference of mean ranks; NaN below two contenders or two blocks.

    >>> round(critical_difference(4, 14), 2)
    1.25
    """
    if contenders < 2 or blocks < 2:
        return math.nan
    from scipy import stats  # takes half a second

    q = float(stats.studentized_range.ppf(level, contenders, math.inf)) / math.sqrt(2)
    return q * math.sqrt(contenders * (contenders + 1) / (6 * blocks))


def rank_groups(
    figures: Mapping[str, ArrayLike], *, better: Better = "higher", level: float = 0.95
) -> RankGroups:
    """Return mean ranks and groups; figures are paired by position, a block that any contender lacks is left
    out.

    Without a critical difference all are in one group.
    """
    ranks = mean_ranks(figures, better=better)
    order = sorted(ranks, key=lambda name: (ranks[name], name))
    blocks = len(block_ranks(figures))
    apart = critical_difference(len(order), blocks, level=level)
    reach = [
        max(
            last for last in range(first, len(order)) if not ranks[order[last]] - ranks[order[first]] >= apart
        )
        for first in range(len(order))
    ]
    groups = [
        tuple(order[first : last + 1])
        for first, last in enumerate(reach)
        if first == 0 or last > reach[first - 1]
    ]
    return RankGroups({name: ranks[name] for name in order}, apart, groups, blocks)


__all__ = ["RankGroups", "critical_difference", "rank_groups"]
