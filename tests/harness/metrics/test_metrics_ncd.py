"""Figures of novel class discovery against hand calculation, loops and brute force, on the two situations
that set the readings apart.
"""

from __future__ import annotations

import doctest
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.metrics import ncd as module
from harness.metrics.discovery import contingency, match
from harness.metrics.ncd import balance, empty_rows, leakage, own_matching, rows_by_class, split, strict_match

PAIRS = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 5), min_size=n, max_size=n),
        st.lists(st.integers(0, 4), min_size=n, max_size=n),
    )
)


def _items(table: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows answered and classes such that table[row][class] items meet."""
    counts = np.array(table)
    rows, classes = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    return rows, classes


def test_the_examples_run() -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@given(PAIRS)
@settings(max_examples=100, deadline=None)
def test_the_contingency_matrix_is_that_of_a_loop(pair: tuple[list[int], list[int]]) -> None:
    predicted, classes = map(np.array, pair)
    counted = np.zeros((predicted.max() + 1, 5), dtype=int)
    for row, label in zip(predicted, classes, strict=True):
        counted[row, label] += 1
    np.testing.assert_array_equal(contingency(predicted, classes, n_classes=5), counted)


# --- the two situations -------------------------------------------------------------------------------------

SWAPPED = [[1, 8, 0, 0], [9, 1, 0, 0], [0, 1, 9, 2], [0, 0, 1, 8]]
"""Known classes 0 and 1 (10 items each) have changed places; novel classes 2 and 3 are found with 9 and 8 of
10.
"""

HIDDEN = [[5, 0, 0, 0], [0, 10, 0, 7], [0, 0, 9, 1], [5, 0, 1, 2]]
"""Most of novel class 3 (7 of 10) sits in the row of known class 1, half of known class 0 in the second novel
row.
"""


def test_two_known_classes_that_changed_places() -> None:
    """v2 pairs rows 1-0, 0-1, 2-2, 3-3 (9 + 8 + 9 + 8 of 40); v1 and v3 count known classes by identity (1 +
    1 of 20).
    """
    rows, classes = _items(SWAPPED)
    assert split(match(rows, classes), 2) == (34 / 40, 17 / 20, 17 / 20)
    assert split(strict_match(rows, classes, 2), 2) == (19 / 40, 2 / 20, 17 / 20)
    assert own_matching(rows, classes, classes >= 2) == 17 / 20


def test_a_novel_class_hidden_in_a_known_row() -> None:
    """v2 keeps row 1 for class 1 (10 > 7), so that class 3 gets row 3 with 2; v1 lets class 3 have row 1 with
    7; v3 has no choice.
    """
    rows, classes = _items(HIDDEN)
    assert split(match(rows, classes), 2) == (26 / 40, 15 / 20, 11 / 20)
    assert split(strict_match(rows, classes, 2), 2) == (26 / 40, 15 / 20, 11 / 20)
    assert own_matching(rows, classes, classes >= 2) == 16 / 20
    assert leakage(rows, classes, 2) == (7 / 20, 5 / 20)


def test_a_novel_class_that_takes_a_known_row_for_itself() -> None:
    """With 3 items of known class 1 against 8 of novel class 3 in row 1, v2 gives the row to class 3, and row
    3 to class 1 (7).
    """
    rows, classes = _items([[10, 0, 0, 0], [0, 3, 0, 8], [0, 0, 10, 0], [0, 7, 0, 2]])
    assert split(match(rows, classes), 2) == (35 / 40, 17 / 20, 18 / 20)
    assert split(strict_match(rows, classes, 2), 2) == (25 / 40, 13 / 20, 12 / 20)
    assert own_matching(rows, classes, classes >= 2) == 18 / 20
    np.testing.assert_array_equal(match(rows, classes).row, [0, 3, 2, 1])
    np.testing.assert_array_equal(strict_match(rows, classes, 2).row, [0, 1, 2, 3])


def test_ties_go_to_the_first_class_and_to_the_row_of_its_number() -> None:
    """Rows 2 and 3 hold 4 and 6 of class 2 and of class 3: class 2 gets the 6, so class 3 the 4. Row 4 is
    class 4's by number.
    """
    rows, classes = _items(
        [[5, 0, 0, 0, 0], [0, 5, 0, 0, 0], [0, 0, 4, 4, 0], [0, 0, 6, 6, 0], [0, 0, 0, 0, 3], [0, 0, 0, 0, 3]]
    )
    for names in ([0, 1, 2, 3, 4, 5], [0, 1, 3, 2, 4, 5], [0, 1, 5, 4, 3, 2]):
        assert strict_match(np.array(names)[rows], classes, 2).matched.tolist() == [5, 5, 6, 4, 3]
    assert strict_match(rows, classes, 2).row.tolist() == [0, 1, 3, 2, 4]


# --- identities and edges -----------------------------------------------------------------------------------


@given(PAIRS, st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_no_other_matching_of_novel_rows_finds_more(pair: tuple[list[int], list[int]], known: int) -> None:
    predicted, classes = map(np.array, pair)
    table = np.zeros((6, 6), dtype=int)
    counted = contingency(predicted, classes, n_classes=5)
    table[: len(counted), :5] = counted
    novel = list(range(known, 6))
    best = max(
        sum(table[row, column] for row, column in zip(order, novel, strict=True))
        for order in itertools.permutations(novel)
    )
    agreement = strict_match(predicted, classes, known, n_classes=5)
    assert agreement.matched.sum() == np.trace(table[:known, :known]) + best
    assert agreement.counts.sum() == len(classes)


@given(PAIRS, st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_the_strict_reading_is_never_above_the_joint_one(
    pair: tuple[list[int], list[int]], known: int
) -> None:
    predicted, classes = map(np.array, pair)
    strict, joint = (
        strict_match(predicted, classes, known, n_classes=5),
        match(predicted, classes, n_classes=5),
    )
    assert strict.accuracy() <= joint.accuracy()
    novel = classes >= known
    if novel.any():
        assert split(strict, known).novel <= own_matching(predicted, classes, novel) + 1e-12


def test_surplus_rows_and_surplus_classes_are_errors() -> None:
    """Known class 0; novel class 1 in rows 1 and 2 (3 and 2 items): 3 count. Novel classes 1 and 2 in row 1:
    the larger counts.
    """
    rows, classes = _items([[4, 0], [0, 3], [0, 2]])
    assert split(strict_match(rows, classes, 1), 1) == (7 / 9, 1.0, 3 / 5)
    rows, classes = _items([[4, 0, 0], [0, 3, 2]])
    assert split(strict_match(rows, classes, 1), 1) == (7 / 9, 1.0, 3 / 5)
    np.testing.assert_array_equal(strict_match(rows, classes, 1).row, [0, 1, -1])


def test_a_learner_that_never_leaves_the_first_known_row() -> None:
    agreement = strict_match(np.zeros(6, dtype=int), np.array([0, 0, 1, 2, 2, 3]), 2)
    assert split(agreement, 2) == (2 / 6, 2 / 3, 0.0)
    np.testing.assert_array_equal(agreement.row, [0, -1, -1, -1])


def test_a_group_without_items_has_no_accuracy() -> None:
    parts = split(strict_match(np.array([0, 1]), np.array([0, 1]), 2, n_classes=3), 2)
    assert parts[:2] == (1.0, 1.0)
    assert math.isnan(parts.novel)
    assert math.isnan(own_matching(np.array([0]), np.array([0]), np.array([False])))
    assert all(math.isnan(share) for share in leakage(np.zeros(0, dtype=int), np.zeros(0, dtype=int), 1))


@pytest.mark.parametrize(
    ("rows", "n_novel", "entropy", "empty"),
    [
        ([0, 1, 2, 3], 4, 1.0, 0),
        ([2, 2, 2], 4, 0.0, 3),
        ([0, 0, 3, 3], 4, 0.5, 2),
        ([0, 0, 0, 1], 2, (0.75 * math.log(4 / 3) + 0.25 * math.log(4)) / math.log(2), 0),
        ([0, 1, 2, 3], 2, 2.0, 0),
    ],
)
def test_balance_and_empty_rows_by_hand(rows: list[int], n_novel: int, entropy: float, empty: int) -> None:
    assert balance(np.array(rows), n_novel) == pytest.approx(entropy)
    assert empty_rows(np.array(rows), n_novel) == empty


def test_nothing_has_no_balance() -> None:
    assert math.isnan(balance(np.zeros(0, dtype=int), 3))


def test_the_picture_puts_the_row_of_a_class_below_it() -> None:
    """Row 2 is class 0's, row 0 class 1's, no row is left for class 2; row 3 is nobody's and comes behind,
    row 1 was never answered.
    """
    rows, classes = _items([[1, 6, 3], [0, 0, 0], [7, 2, 0]])
    np.testing.assert_allclose(
        rows_by_class(rows, classes, 3), np.array([[7 / 8, 1 / 8, 0], [2 / 8, 6 / 8, 0], [0, 1, 0]])
    )
    rows, classes = _items([[1, 6], [0, 0], [7, 0], [0, 2]])
    np.testing.assert_allclose(
        rows_by_class(rows, classes, 2), np.array([[7 / 8, 1 / 8, 0], [0, 6 / 8, 2 / 8]])
    )


def test_the_picture_of_a_class_without_items_is_undefined() -> None:
    np.testing.assert_array_equal(
        rows_by_class(np.array([0, 0]), np.array([1, 1]), 2), [[np.nan, np.nan], [0, 1]]
    )
