"""Class-incremental figures against hand calculation, a second implementation, and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.metrics.class_incremental import (
    accuracy_matrix,
    average_accuracy,
    average_incremental_accuracy,
    backward_transfer,
    forgetting,
    forward_transfer,
)

R = np.array([[0.9, 0.1, 0.0], [0.6, 0.8, 0.3], [0.7, 0.5, 1.0]])
MATRICES = st.integers(2, 6).flatmap(lambda n: arrays(np.float64, (n, n), elements=st.floats(0, 1)))


def test_figures_by_hand() -> None:
    assert average_accuracy(R) == pytest.approx((0.7 + 0.5 + 1.0) / 3)
    assert forgetting(R) == pytest.approx(((0.9 - 0.7) + (0.8 - 0.5)) / 2)
    assert backward_transfer(R) == pytest.approx(((0.7 - 0.9) + (0.5 - 0.8)) / 2)
    assert forward_transfer(R, [0.5, 0.05, 0.1]) == pytest.approx(((0.1 - 0.05) + (0.3 - 0.1)) / 2)
    assert average_incremental_accuracy([0.9, 0.7, 0.8]) == pytest.approx(0.8)


def test_the_matrix_counts_hits_per_stage_of_arrival() -> None:
    arrival = np.array([0, 0, 1, 1, 1])
    labels = np.array([0, 1, 2, 2, 3])
    answers = [np.array([0, 0, 0, 0, 0]), np.array([0, 1, 2, 3, 3])]
    matrix = accuracy_matrix([0, 1], answers, [labels] * 2, [arrival] * 2, 2)
    np.testing.assert_allclose(matrix, [[1 / 2, 0], [1, 2 / 3]])


def test_rows_not_reached_are_not_numbers() -> None:
    matrix = accuracy_matrix([0], [np.array([0])], [np.array([0])], [np.array([0])], 2)
    assert np.isnan(matrix[1]).all()


def test_a_single_stage_has_no_past_and_no_future() -> None:
    one = np.array([[0.7]])
    assert np.isnan([forgetting(one), backward_transfer(one), forward_transfer(one, [0.1])]).all()
    assert average_accuracy(one) == 0.7


@given(MATRICES)
@settings(max_examples=60, deadline=None)
def test_forgetting_against_a_loop(matrix: np.ndarray) -> None:
    last = len(matrix) - 1
    total = 0.0
    for j in range(last):
        best = 0.0
        for i in range(j, last):
            best = max(best, matrix[i, j])
        total += best - matrix[last, j]
    assert forgetting(matrix) == pytest.approx(total / last, abs=1e-9)


@given(MATRICES)
@settings(max_examples=60, deadline=None)
def test_forgetting_is_at_least_minus_backward_transfer(matrix: np.ndarray) -> None:
    assert forgetting(matrix) >= -backward_transfer(matrix) - 1e-9


@given(arrays(np.int64, 40, elements=st.integers(0, 5)), st.permutations(range(40)))
@settings(max_examples=30, deadline=None)
def test_the_order_of_items_does_not_matter(predicted: np.ndarray, order: list[int]) -> None:
    labels = np.tile(np.arange(4), 10)
    arrival = labels // 2
    turned = np.array(order)
    first = accuracy_matrix([0], [predicted], [labels], [arrival], 2)
    second = accuracy_matrix([0], [predicted[turned]], [labels[turned]], [arrival[turned]], 2)
    np.testing.assert_allclose(first, second)
