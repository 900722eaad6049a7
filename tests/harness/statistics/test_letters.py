"""Letters and places say what a test of all pairs says, no more and no less: whatever pairs it tells apart."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Set

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.statistics import compact_letters, rank_ranges

Pairs = Set[tuple[str, str]]


@st.composite
def worlds(draw: st.DrawFn, most: int = 9) -> tuple[list[str], Pairs]:
    """Return contenders in order and any set of pairs that differ, the better one first."""
    order = [f"c{at}" for at in range(draw(st.integers(0, most)))]
    pairs = list(itertools.combinations(order, 2))
    return order, set(draw(st.lists(st.sampled_from(pairs), unique=True))) if pairs else set()


@st.composite
def runs_of_neighbours(draw: st.DrawFn) -> tuple[list[str], Pairs, int]:
    """Return contenders of which each reaches down to one further on, as with one spread for all, with the
    number of runs that no other run contains.
    """
    order = [f"c{at}" for at in range(draw(st.integers(1, 9)))]
    reach = [draw(st.integers(at, len(order) - 1)) for at in range(len(order))]
    reach = list(itertools.accumulate(reach, max))
    apart = {(order[at], other) for at, last in enumerate(reach) for other in order[last + 1 :]}
    return order, apart, len(set(reach))


def _share(letters: dict[str, tuple[str, ...]], first: str, second: str) -> bool:
    return bool(set(letters[first]) & set(letters[second]))


def _insert_and_absorb(order: Iterable[str], apart: Pairs) -> set[frozenset[str]]:
    """Return Piepho's columns: each that holds a pair apart is parted in two, then those within others go."""
    columns = {frozenset(order)}
    for first, second in apart:
        for column in [column for column in columns if {first, second} <= column]:
            columns = columns - {column} | {column - {first}, column - {second}}
        columns = {column for column in columns if not any(column < other for other in columns)}
    return columns


def _fewest(order: list[str], apart: Pairs) -> int:
    """Return how many groups any display needs, by trying all sets of groups that cannot be enlarged."""
    together = {frozenset(pair) for pair in itertools.combinations(order, 2) if pair not in apart}
    together |= {frozenset([label]) for label in order}
    columns = _insert_and_absorb(order, apart)
    return next(
        size
        for size in range(len(columns) + 1)
        for chosen in itertools.combinations(columns, size)
        if all(any(pair <= column for column in chosen) for pair in together)
    )


# --- letters ------------------------------------------------------------------------------------------------


@given(worlds())
def test_two_share_a_letter_exactly_when_they_are_not_told_apart(world: tuple[list[str], Pairs]) -> None:
    order, apart = world
    letters = compact_letters(order, apart)
    assert list(letters) == order
    assert all(letters.values())
    for first, second in itertools.combinations(order, 2):
        assert _share(letters, first, second) is ((first, second) not in apart)


@given(worlds())
def test_every_letter_is_one_of_piephos_columns(world: tuple[list[str], Pairs]) -> None:
    order, apart = world
    letters = compact_letters(order, apart)
    used = {letter for own in letters.values() for letter in own}
    groups = {frozenset(label for label in order if letter in letters[label]) for letter in used}
    assert len(groups) == len(used)
    assert groups <= _insert_and_absorb(order, apart)


@given(runs_of_neighbours())
def test_runs_of_neighbours_take_the_fewest_letters_and_they_go_down_the_list(
    world: tuple[list[str], Pairs, int],
) -> None:
    order, apart, fewest = world
    letters = compact_letters(order, apart)
    used = sorted({letter for own in letters.values() for letter in own})
    assert len(used) == fewest == _fewest(order, apart)
    assert used == list("abcdefghi"[:fewest])
    assert [own[0] for own in letters.values()] == sorted(own[0] for own in letters.values())


@pytest.mark.parametrize("size", [2, 3, 4])
def test_small_worlds_take_the_fewest_letters(size: int) -> None:
    """All 64 tests of four contenders, and all smaller ones."""
    order = [f"c{at}" for at in range(size)]
    pairs = list(itertools.combinations(order, 2))
    for chosen in itertools.product([False, True], repeat=len(pairs)):
        apart = set(itertools.compress(pairs, chosen))
        used = {letter for own in compact_letters(order, apart).values() for letter in own}
        assert len(used) == _fewest(order, apart)


def test_the_display_of_four_by_hand() -> None:
    """w is above y and z, x above z: {w, x}, {x, y}, {y, z}."""
    apart = {("w", "y"), ("w", "z"), ("x", "z")}
    assert compact_letters(["w", "x", "y", "z"], apart) == {
        "w": ("a",),
        "x": ("a", "b"),
        "y": ("b", "c"),
        "z": ("c",),
    }


def test_a_direction_makes_no_difference_and_letters_go_on_after_z() -> None:
    order = [f"c{at:02}" for at in range(30)]
    everybody = set(itertools.combinations(order, 2))
    letters = compact_letters(order, everybody)
    assert letters == compact_letters(order, {(second, first) for first, second in everybody})
    assert [letters[label] for label in order[24:28]] == [("y",), ("z",), ("a'",), ("b'",)]


def test_pairs_that_differ_alone_take_few_letters() -> None:
    """Thirty such pairs have 2^30 groups that cannot be enlarged."""
    order = [f"c{at:02}" for at in range(60)]
    apart = set(zip(order[::2], order[1::2], strict=True))
    letters = compact_letters(order, apart)
    assert len({letter for own in letters.values() for letter in own}) < 20
    for pair in itertools.combinations(order, 2):
        assert _share(letters, *pair) is (pair not in apart)


# --- places -------------------------------------------------------------------------------------------------


def _implied(order: list[str], better: Pairs) -> Pairs:
    """Return the pairs with those that follow from two others, until nothing follows."""
    found = set(better)
    for middle, first, second in itertools.product(order, repeat=3):
        if (first, middle) in found and (middle, second) in found:
            found.add((first, second))
    return found


@given(worlds())
def test_nobody_has_the_place_of_one_it_differs_from(world: tuple[list[str], Pairs]) -> None:
    order, better = world
    ranges = rank_ranges(order, better)
    for first, second in itertools.combinations(order, 2):
        is_apart = (first, second) in _implied(order, better)
        (top, bottom), (next_top, next_bottom) = ranges[first], ranges[second]
        if is_apart:
            assert top < next_top
            assert bottom < next_bottom
        if bottom < next_top or next_bottom < top:
            assert is_apart


@given(worlds(most=6))
def test_a_range_is_the_places_of_all_orders_that_the_test_allows(world: tuple[list[str], Pairs]) -> None:
    order, better = world
    allowed = [
        found
        for found in itertools.permutations(order)
        if all(found.index(first) < found.index(second) for first, second in better)
    ]
    for label, (first, last) in rank_ranges(order, better).items():
        places = {found.index(label) + 1 for found in allowed}
        assert (min(places), max(places)) == (first, last)
