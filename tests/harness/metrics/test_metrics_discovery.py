"""Discovery metrics against hand calculation, brute force over all assignments, and the identities that tie
the groups together.
"""

from __future__ import annotations

import doctest
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.metrics import discovery as module
from harness.metrics.discovery import (
    Groups,
    by_group,
    contingency,
    discovery,
    forgetting_of_initial,
    forgetting_of_seen,
    match,
    new_taken_for_old,
    optimal_rows,
    probability_gap,
)

PAIRS = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 4), min_size=n, max_size=n),
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
    )
)


def test_the_examples_run() -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_the_contingency_matrix_counts_pairs() -> None:
    matrix = contingency(np.array([0, 0, 2, 1]), np.array([1, 1, 0, 1]), n_classes=3)
    np.testing.assert_array_equal(matrix, [[0, 2, 0], [0, 1, 0], [1, 0, 0]])


@given(PAIRS)
@settings(max_examples=150, deadline=None)
def test_no_other_assignment_matches_more(pair: tuple[list[int], list[int]]) -> None:
    predicted, classes = map(np.array, pair)
    matrix = contingency(predicted, classes)
    size = max(matrix.shape)
    padded = np.zeros((size, size), dtype=int)
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    best = max(
        sum(padded[row, column] for column, row in enumerate(order))
        for order in itertools.permutations(range(size))
    )
    assert match(predicted, classes).matched.sum() == best


@given(PAIRS, st.lists(st.integers(0, 2), min_size=4, max_size=4))
@settings(max_examples=150, deadline=None)
def test_group_accuracies_weighted_by_their_items_make_the_whole(
    pair: tuple[list[int], list[int]], stages: list[int]
) -> None:
    """All N = Old N_old + New N_new = Init N_init + Novel N_novel, at the last stage, where every class is
    revealed.
    """
    predicted, classes = map(np.array, pair)
    arrival = np.array(stages)
    agreement = match(predicted, classes, n_classes=4)
    groups = by_group(agreement, arrival, 2)
    items = {
        "old": agreement.counts[arrival < 2].sum(),
        "new": agreement.counts[arrival == 2].sum(),
        "initial": agreement.counts[arrival == 0].sum(),
        "novel": agreement.counts[arrival > 0].sum(),
    }
    share = {name: 0.0 if not items[name] else getattr(groups, name) * items[name] for name in items}
    assert share["old"] + share["new"] == pytest.approx(groups.everything * len(classes))
    assert share["initial"] + share["novel"] == pytest.approx(groups.everything * len(classes))


@given(PAIRS, st.permutations(range(5)))
@settings(max_examples=200, deadline=None)
def test_renaming_rows_changes_nothing(pair: tuple[list[int], list[int]], names: list[int]) -> None:
    """Nor does it move accuracy from one class to another where several assignments are optimal."""
    predicted, classes = map(np.array, pair)
    renamed, plain = match(np.array(names)[predicted], classes), match(predicted, classes)
    np.testing.assert_array_equal(renamed.matched, plain.matched)


@pytest.mark.parametrize(
    ("matrix", "rows"),
    [
        ([[1, 1], [1, 1]], [0, 1]),  # the rows of the same numbers
        ([[2, 3], [1, 2]], [0, 1]),  # 2 + 2 or 1 + 3: class 0 has most in row 0
        ([[2, 1], [3, 2]], [1, 0]),  # 2 + 2 or 3 + 1: class 0 has most in row 1
        (
            [[4, 0], [4, 0], [0, 0]],
            [0, 1],
        ),  # nothing of class 1 anywhere: the row of its number, and row 0 for class 0
        ([[0, 3], [0, 3], [0, 3]], [0, 1]),
        ([[3, 0], [0, 0], [3, 0]], [0, 1]),
        ([[0, 5, 5]], [-1, 0, -1]),  # a single row: the first of the classes it may go to
        (
            [[0, 0, 5], [0, 0, 5]],
            [0, -1, 1],
        ),  # either row could have class 2; class 0 then takes the row of its number
        (
            [[0, 2, 2], [2, 0, 2], [2, 2, 0]],
            [1, 2, 0],
        ),  # two rings of 2 + 2 + 2; neither has an equal number, row 1 is before row 2
    ],
)
def test_which_of_several_optima_counts(matrix: list[list[int]], rows: list[int]) -> None:
    assert optimal_rows(np.array(matrix)).tolist() == rows


@given(
    st.integers(1, 5).flatmap(
        lambda rows: st.lists(
            st.lists(st.integers(0, 3), min_size=rows, max_size=rows), min_size=1, max_size=4
        )
    )
)
@settings(max_examples=200, deadline=None)
def test_ties_are_broken_as_by_a_look_at_every_assignment(columns: list[list[int]]) -> None:
    matrix = np.array(columns).T
    rows, classes = matrix.shape

    def worth(order: tuple[int, ...]) -> tuple[int, list[int], list[bool], list[int]]:
        matched = [int(matrix[row, column]) if row < rows else 0 for column, row in enumerate(order)]
        return (
            sum(matched),
            matched,
            [row == column < rows for column, row in enumerate(order)],
            [-row for row in order],
        )

    best = max(itertools.permutations(range(max(rows, classes)), classes), key=worth)
    assert optimal_rows(matrix).tolist() == [row if row < rows else -1 for row in best]


def test_accuracies_of_groups_do_not_depend_on_how_rows_are_numbered() -> None:
    """Two old classes of 10 and a new one of 10: rows 0 and 1 could each stand for class 1 or for class 2, 17
    matched either way.

    Row 0: 4 of class 1 and 4 of class 2; row 1: 6 and 6. With row 1 for class 1 old is 13 / 20 and new 4 /
    10, else 11 / 20 and 6 / 10.
    """
    predicted, classes = (
        np.repeat([2, 0, 1, 0, 1, 0], [7, 4, 6, 4, 6, 3]),
        np.repeat([0, 1, 1, 2, 2, 0], [7, 4, 6, 4, 6, 3]),
    )
    for names in itertools.permutations(range(3)):
        groups = by_group(match(np.array(names)[predicted], classes), np.array([0, 0, 1]), 1)
        assert (groups.everything, groups.old, groups.new) == (17 / 30, 13 / 20, 4 / 10)


def test_a_negative_number_is_no_row_and_so_no_old_one() -> None:
    """Of four new items one got an old row, two a new one, and one none; all of them clusters of negative
    numbers is no old row at all.
    """
    is_new = np.array([True, True, True, True, False])
    assert new_taken_for_old(np.array([1, 2, 3, -1, 0]), is_new, 2) == 0.25
    assert new_taken_for_old(np.array([-1, -2, -1, -2, 0]), is_new, 2) == 0.0


def test_surplus_rows_and_surplus_classes_are_errors() -> None:
    """Class 0 is split over rows 0 and 1 (3 and 2 items): 3 count. Two classes in one row: the larger counts."""
    split = match(np.array([0, 0, 0, 1, 1]), np.zeros(5, dtype=int))
    assert (split.accuracy(), split.row.tolist()) == (0.6, [0])
    merged = match(np.zeros(5, dtype=int), np.array([0, 0, 0, 1, 1]))
    assert (merged.accuracy(), merged.row.tolist()) == (0.6, [0, -1])


def test_a_missing_group_has_no_accuracy() -> None:
    agreement = match(np.array([0, 0, 1]), np.array([0, 0, 1]), n_classes=3)
    groups = by_group(agreement, np.array([0, 0, 1]), 1)
    assert (groups.everything, groups.old) == (1.0, 1.0)
    assert math.isnan(groups.new)
    assert math.isnan(agreement.per_class()[2])


def test_balanced_and_hardest_by_hand() -> None:
    """Class 0: 3 of 4, class 1: 1 of 1. Items: 4/5. Classes: (3/4 + 1) / 2. Hardest: 3/4."""
    agreement = match(np.array([0, 0, 0, 2, 1]), np.array([0, 0, 0, 0, 1]))
    assert agreement.accuracy() == 0.8
    assert agreement.balanced_accuracy() == 0.875
    assert agreement.hardest() == 0.75
    assert math.isnan(agreement.hardest(np.array([False, False])))


def _stage(initial: float, old: float = math.nan, new: float = math.nan) -> Groups:
    return Groups(everything=math.nan, old=old, new=new, initial=initial, novel=math.nan)


def test_the_two_definitions_of_forgetting_differ() -> None:
    stages = [_stage(0.9), _stage(0.8, old=0.8, new=0.5), _stage(0.85, old=0.6, new=0.7)]
    assert forgetting_of_initial(stages) == pytest.approx(0.1)
    assert forgetting_of_seen(stages) == pytest.approx(0.3)
    assert math.isnan(forgetting_of_initial(stages[:1]))


def test_discovery_leaves_out_stages_without_novelty() -> None:
    mean, last = discovery([_stage(0.9), _stage(0.9, new=0.5), _stage(0.9, new=0.7), _stage(0.9)])
    assert (mean, last) == (pytest.approx(0.6), 0.7)
    assert all(math.isnan(value) for value in discovery([_stage(0.9)]))


def test_old_and_new_bias_by_hand() -> None:
    assert new_taken_for_old(
        np.array([0, 3, 1, 2]), np.array([True, True, True, False]), old_rows=2
    ) == pytest.approx(2 / 3)
    assert math.isnan(new_taken_for_old(np.array([0]), np.array([False]), old_rows=1))
    assert probability_gap(np.array([[0.7, 0.3], [0.2, 0.8]]), old_rows=1) == pytest.approx(-0.1)
