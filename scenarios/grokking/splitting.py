"""Which pairs are trained on: a prefix of one permutation, so that a larger share of the same seed contains
the smaller one.
"""

from __future__ import annotations

import numpy as np

from harness import seeds
from harness.contracts import IntArray
from scenarios.grokking.operations import Table


def train_rows(table: Table, fraction: float, *, by_orbit: bool, seed: int) -> IntArray:
    """Return the rows of `table` to train on, in the order they were drawn: floor(fraction n) of them.

    By orbit, (x, y) and (y, x) are drawn together, and one that would be left alone at the end is left out.
    """
    order = seeds.stream("split", seed=seed).permutation(len(table.ids)).astype(np.int64)
    size = floored(fraction, len(order))
    return whole_groups(order, table.mirrors, size) if by_orbit else order[:size]


def whole_groups(order: IntArray, groups: IntArray, size: int) -> IntArray:
    """Return at most `size` of the rows in `order`, whole groups only.

    Groups come in the order of their smallest row's place in `order`.

    >>> whole_groups(np.array([2, 0, 1, 3]), np.array([7, 7, 9, 9]), 3).tolist()
    [2, 3]
    """
    members = groups[order]
    _, first, which = np.unique(members, return_index=True, return_inverse=True)
    together = order[np.lexsort((np.arange(len(order)), first[which]))]
    size = min(size, len(together))
    while 0 < size < len(together) and groups[together[size - 1]] == groups[together[size]]:
        size -= 1
    return together[:size]


def floored(share: float, total: int) -> int:
    """Return floor(share total), where 0.29 of 100 is 29 although the float nearest to 0.29 times 100 lies
    below it.
    """
    return int(share * total + 1e-9)
