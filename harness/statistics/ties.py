"""All pairs of contenders, and the groups that the figures cannot part."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Literal

from numpy.typing import ArrayLike

from harness.statistics.intervals import t_interval
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


def tie_groups(
    figures: Mapping[str, ArrayLike], *, better: Better = "higher", level: float = 0.95
) -> list[tuple[str, ...]]:
    """Return groups of contenders that the figures cannot tell apart, best group first, best mean first
    within a group.

    The contender with the best mean leads the first group, which reaches down to the last one that cannot be
    told from the leader (corrected p above 1 - level, or no p at all). The next one leads the next group.
    Contenders without a figure come last, in one group.

    >>> tie_groups({"a": [0.90, 0.91, 0.92, 0.93], "b": [0.10, 0.12, 0.11, 0.13], "c": [0.90, 0.92, 0.91, 0.93]})
    [('a', 'c'), ('b',)]
    """
    means = {name: t_interval(values).mean for name, values in figures.items()}
    sign = -1 if better == "higher" else 1
    order = sorted(
        (name for name in means if not math.isnan(means[name])),
        key=lambda name: (sign * round(means[name], 12), name),
    )
    comparisons = compare_all({name: figures[name] for name in order}, level=level)
    groups = []
    while order:
        leader = order[0]
        tied = [
            place
            for place, name in enumerate(order)
            if place == 0 or not comparisons[leader, name].p <= 1 - level
        ]
        groups.append(tuple(order[: tied[-1] + 1]))
        order = order[tied[-1] + 1 :]
    without = tuple(sorted(name for name in means if math.isnan(means[name])))
    return [*groups, without] if without else groups


__all__ = ["Better", "compare_all", "tie_groups"]
