"""The compact letter display of a test of all pairs: two contenders share a letter exactly when the test does
not tell them apart (Piepho 2004, "An algorithm for a letter-based representation of all-pairwise comparisons").

A letter stands for a group whose members the test tells apart from none of the group. Piepho's insert and
absorb finds every such group that cannot be enlarged, and these double with every pair of contenders that
differ from each other alone. Here a group is grown only for two contenders that share none yet (clique growing,
Gramm et al. 2007, "Algorithms for compact letter displays: comparison and evaluation"), so there are at most as
many letters, and never more than pairs. Where each group is a run of neighbours, no display has fewer.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from string import ascii_lowercase

Letters = tuple[str, ...]
"""Those of one contender: a, b, ..., z, a', b', ..."""


def compact_letters(order: Sequence[str], apart: Collection[tuple[str, str]]) -> dict[str, Letters]:
    """Return the letters of every contender; `order` is best first, `apart` holds every pair that differs.

    >>> compact_letters(["a1", "a2", "a3"], [("a1", "a3")])
    {'a1': ('a',), 'a2': ('a', 'b'), 'a3': ('b',)}
    """
    pairs = itertools.combinations(order, 2)
    lacking = {pair for pair in pairs if pair not in apart and pair[::-1] not in apart}
    near = {label: {label} for label in order}
    for first, second in lacking:
        near[first].add(second)
        near[second].add(first)
    groups: list[set[str]] = []
    for first, second in itertools.combinations_with_replacement(order, 2):
        alone = first == second and len(near[first]) == 1
        if alone or (first, second) in lacking:
            group = _grown({first, second}, order, near, lacking)
            groups.append(group)
            lacking -= {pair for pair in lacking if group.issuperset(pair)}
    groups.sort(key=lambda group: [at for at, label in enumerate(order) if label in group])
    return {
        label: tuple(_letter(number) for number, group in enumerate(groups) if label in group)
        for label in order
    }


def _grown(
    group: set[str], order: Sequence[str], near: Mapping[str, set[str]], lacking: Collection[tuple[str, str]]
) -> set[str]:
    """Return the group with all it can take, first who shares no letter yet with most of its members."""

    def worth(label: str) -> int:
        return sum((label, member) in lacking or (member, label) in lacking for member in group)

    while rest := [label for label in order if label not in group and group <= near[label]]:
        group = group | {max(rest, key=worth)}
    return group


def _letter(number: int) -> str:
    round_, at = divmod(number, len(ascii_lowercase))
    return ascii_lowercase[at] + "'" * round_


__all__ = ["Letters", "compact_letters"]
