"""AUROC, average precision and F1-max against scikit-learn and hand calculation."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from harness.metrics import detection as module
from harness.metrics.detection import Levels, auroc, average_precision, f1_max, levels

NAN = float("nan")
PAIRS = st.lists(st.tuples(st.integers(-6, 6), st.booleans()), min_size=1, max_size=60)
"""Scores with many ties, and labels."""


def test_the_examples_run() -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@given(PAIRS)
@settings(max_examples=300, deadline=None)
def test_three_figures_are_those_of_scikit_learn_ties_included(pairs: list[tuple[int, bool]]) -> None:
    scores, positive = (
        np.array([pair[0] for pair in pairs], dtype=float),
        np.array([pair[1] for pair in pairs]),
    )
    table = levels(scores, positive)
    if positive.all() or not positive.any():
        assert all(math.isnan(figure(table)) for figure in (auroc, average_precision, f1_max))
        return
    precision, recall, _ = precision_recall_curve(positive, scores)
    with np.errstate(invalid="ignore"):
        f1 = 2 * precision * recall / (precision + recall)
    assert auroc(table) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    assert average_precision(table) == pytest.approx(average_precision_score(positive, scores), abs=1e-12)
    assert f1_max(table) == pytest.approx(np.nanmax(f1), abs=1e-12)


def test_three_figures_by_hand() -> None:
    """From the top: found 1 of 1, 1 of 2, then a tie of one positive and one negative: 2 of 4, then 2 of 5.

    Pairs in order: the first positive is above all 3 negatives, the second above 1 and level with 1: 4.5 of 6.
    Precision at the two steps of recall is 1 and 1/2. F1 at the four levels: 2/3, 2/4, 4/6, 4/7.
    """
    table = levels(np.array([5.0, 4, 3, 3, 1]), np.array([True, False, True, False, False]))
    assert auroc(table) == 4.5 / 6
    assert average_precision(table) == 0.75
    assert f1_max(table) == pytest.approx(2 / 3)


def test_f1_max_is_above_that_of_the_released_code_by_less_than_what_it_adds() -> None:
    """The released code adds 1e-7 to P + R and leaves out the last point, of recall 0."""
    rng = np.random.default_rng(0)
    positive = rng.random(500) < 0.3
    scores = rng.normal(size=500) + positive
    precision, recall, _ = precision_recall_curve(positive, scores)
    released = (2 * precision * recall / (precision + recall + 1e-7))[:-1].max()
    assert 0 < f1_max(levels(scores, positive)) - released < 1e-7


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int64])
def test_a_perfect_and_an_inverted_order(kind: type) -> None:
    scores, positive = np.arange(10).astype(kind), np.arange(10) >= 6
    assert [figure(levels(scores, positive)) for figure in (auroc, average_precision, f1_max)] == [1, 1, 1]
    assert auroc(levels(-scores, positive)) == 0


def test_a_constant_score_is_worth_its_base_rate() -> None:
    table = levels(np.zeros(10), np.arange(10) < 3)
    assert len(table.negative) == 1
    assert auroc(table) == 0.5
    assert average_precision(table) == 0.3
    assert f1_max(table) == pytest.approx(2 * 0.3 / 1.3)


def test_counts_of_many_pixels_do_not_overflow() -> None:
    """10^8 positive and 10^10 negative pixels make 2 x 10^18 pairs counted twice; the largest int64 is 9.2 x
    10^18.
    """
    table = Levels(np.array([10**8, 0]), np.array([5 * 10**9, 5 * 10**9]))
    assert auroc(table) == 0.75


def test_many_half_precision_scores_do_not_lose_counts() -> None:
    """Ranks beyond 2,048 do not fit float16, the format suspicions are stored in."""
    scores = np.random.default_rng(0).random(20_000).astype(np.float16)
    positive = np.random.default_rng(1).random(20_000) < scores
    wide, table = scores.astype(np.float64), levels(scores, positive)
    assert auroc(table) == pytest.approx(roc_auc_score(positive, wide), abs=1e-12)
    assert average_precision(table) == pytest.approx(average_precision_score(positive, wide), abs=1e-12)


@pytest.mark.parametrize("kind", [np.bool_, np.int64, np.float16])
def test_an_average_precision_without_negatives_is_what_the_caller_says(kind: type) -> None:
    """scikit-learn has 1 there: precision is 1 at every threshold. Without positives both miss."""
    scores = np.array([0, 1, 1, 0]).astype(kind)
    every = levels(scores, np.ones(4, dtype=bool))
    assert math.isnan(average_precision(every))
    assert average_precision(every, without_negatives=1.0) == average_precision_score(np.ones(4), scores) == 1
    assert math.isnan(average_precision(levels(scores, np.zeros(4, dtype=bool)), without_negatives=1.0))
    assert math.isnan(auroc(every)) and math.isnan(f1_max(every))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_scores_that_are_nan_are_refused(kind: type) -> None:
    """They have no place in an order: as numbers behind all others, all-NaN scores had an AUROC of 0.5."""
    anomalous = np.array([True, False, True, False])
    for values in (np.full(4, NAN), np.array([0, 1, 2, NAN])):
        with pytest.raises(ValueError, match="NaN cannot be ranked"):
            levels(values.astype(kind), anomalous)
