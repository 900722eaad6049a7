"""The places that a test of all pairs leaves open to each contender: from one more than are told to be better
to as many as are not told to be worse.

Two contenders that are told apart never have the same range, and the better one's begins and ends before the
other's; ranges without a place in common belong to contenders that are told apart. Overviews of machine
translation give such ranges (Kocmi et al. 2022, "Findings of the 2022 conference on machine translation").
"""

from __future__ import annotations

from collections.abc import Collection, Sequence


def rank_ranges(order: Sequence[str], better: Collection[tuple[str, str]]) -> dict[str, tuple[int, int]]:
    """Return (first, last) place of every contender, counted from 1.

    Args:
        order: of contenders, best first.
        better: every pair (a, b) of which a is told to be better than b, a before b in `order`. Who is better
            than one that is better than a third counts as better than the third.

    >>> rank_ranges(["x", "y", "z"], [("x", "z")])
    {'x': (1, 2), 'y': (1, 3), 'z': (2, 3)}
    """
    below: dict[str, set[str]] = {}
    for at in reversed(range(len(order))):
        direct = [label for label in order[at + 1 :] if (order[at], label) in better]
        below[order[at]] = set(direct).union(*(below[label] for label in direct))
    return {
        label: (1 + sum(label in worse for worse in below.values()), len(order) - len(below[label]))
        for label in order
    }


__all__ = ["rank_ranges"]
