"""Figures of noisy labels against hand calculation and scikit-learn; and what scoring makes of a case small
enough to count.
"""

from __future__ import annotations

import doctest
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_score, recall_score

from harness.contracts import HIDDEN, StoredPrediction, Truth
from harness.metrics import noisy_labels as module
from harness.metrics.noisy_labels import clean_selection, memorisation, transition, transition_error
from scenarios.noisy_labels.scoring import (
    METRICS,
    TEST,
    TRAIN,
    VALIDATION,
    Moment,
    accuracies,
    label_metrics,
    moment_of,
    pictures,
)

TRIPLES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40
)


def test_the_examples_run() -> None:
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


# --- what becomes of wrong labels ---------------------------------------------------------------------------


def test_memorised_corrected_and_other_count_the_wrong_labels_alone() -> None:
    """Items 0 to 3 have wrong labels: predicted as the label, as the class, as the class, as neither. Items 4
    and 5 do not count.
    """
    labels, observed = np.array([0, 0, 1, 2, 0, 1]), np.array([1, 2, 0, 0, 0, 1])
    assert memorisation(np.array([1, 0, 1, 1, 2, 2]), labels, observed) == (0.25, 0.5, 0.25)


@given(TRIPLES)
@settings(max_examples=100, deadline=None)
def test_the_fates_of_wrong_labels_sum_to_one_and_label_and_class_change_roles(
    triples: list[tuple[int, int, int]],
) -> None:
    predicted, labels, observed = np.array(triples).T
    fate, turned = memorisation(predicted, labels, observed), memorisation(predicted, observed, labels)
    if (labels == observed).all():
        assert all(math.isnan(share) for share in fate)
    else:
        assert sum(fate) == pytest.approx(1)
        assert (turned.memorised, turned.corrected, turned.other) == (
            fate.corrected,
            fate.memorised,
            fate.other,
        )


# --- selection and suspicion --------------------------------------------------------------------------------


def test_precision_and_recall_of_kept_labels_by_hand() -> None:
    """Of three kept labels two are right; of four right labels two are kept."""
    kept, wrong = np.array([1, 1, 1, 0, 0, 0], dtype=bool), np.array([0, 0, 1, 1, 0, 0], dtype=bool)
    assert tuple(clean_selection(kept, wrong)) == pytest.approx((2 / 3, 1 / 2))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_selection_agrees_with_scikit_learn_and_is_undefined_where_nothing_is_kept_or_right(
    pairs: list[tuple[bool, bool]],
) -> None:
    kept, wrong = np.array(pairs).T
    found = clean_selection(kept, wrong)
    precision, recall = (
        score(~wrong, kept, zero_division=np.nan) for score in (precision_score, recall_score)
    )
    np.testing.assert_allclose(np.array(found), np.array([precision, recall], dtype=float))


# --- transition matrices ------------------------------------------------------------------------------------


def test_the_transition_matrix_counts_and_an_absent_class_keeps_its_label() -> None:
    found = transition(np.array([0, 0, 0, 0, 2]), np.array([0, 0, 1, 2, 0]), 4)
    np.testing.assert_array_equal(found, [[0.5, 0.25, 0.25, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


def test_the_error_of_a_transition_matrix_by_hand() -> None:
    """|0.1| + |-0.1| + |-0.5| + |0.5| = 1.2 over a sum of 2."""
    assert transition_error(
        np.array([[0.9, 0.1], [0.5, 0.5]]), np.array([[0.8, 0.2], [1.0, 0.0]])
    ) == pytest.approx(0.6)


@given(st.integers(2, 12), st.floats(0, 0.9))
@settings(max_examples=50, deadline=None)
def test_taking_every_label_for_right_errs_by_twice_the_rate(classes: int, rate: float) -> None:
    """T^ = I against symmetric T: C rows, each with rate on and off the diagonal."""
    symmetric = np.where(np.eye(classes, dtype=bool), 1 - rate, rate / (classes - 1))
    assert transition_error(np.eye(classes), symmetric) == pytest.approx(2 * rate)


# --- scoring: a case counted by hand ------------------------------------------------------------------------
#
# Four test items, ten training items of which 6, 7, 10, 11 and 13 have wrong labels, four validation items.
# Four epochs, all looked at.

LABELS = np.array([0, 1, 1, 2, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 0, 1, 2, 1])
OBSERVED = np.array([HIDDEN, HIDDEN, HIDDEN, HIDDEN, 0, 0, 1, 2, 1, 1, 0, 2, 2, 1, 0, 2, 2, 1])
PART = np.repeat([TEST, TRAIN, VALIDATION], [4, 10, 4])
TRAINED = [0, 1, 1, 0, 1, 1, 0, 0, 2, 1]
"""At the end 6, 10 and 13 are predicted as their label, 7 as its class, 11 as neither; of the right labels
only 5 is not fitted.
"""

ON_TEST = {1: [0, 1, 1, 2], 2: [0, 1, 0, 2], 3: [0, 0, 0, 2], None: [0, 0, 0, 0]}
"""Right are 4, 3, 2 and 1 of 4."""

ON_VALIDATION = {1: [0, 1, 1, 0], 2: [0, 2, 2, 0], 3: [0, 2, 0, 1], None: [1, 2, 2, 0]}
"""Agreeing with the labels handed over: 1, 3, 3 and 2 of 4, so epoch 2 is the first of the best."""

JUDGED: Mapping[str, list[Any]] = {
    "kept": [True, False, True, False, True, True, False, False, True, True],
    "suspicion": [0.1, 0.7, 0.2, 0.9, 0.2, 0.0, 0.6, 0.8, 0.3, 0.1],
    "label_losses": [0.5, 2.0, 0.25, 3.0, 0.5, 0.0, 1.5, 2.5, 1.0, 0.125],
}
"""Of the six kept labels 4, 8, 9 and 12 are right, and 5 is the right one not kept. Suspicions put 18 of 25
pairs in order.
"""


def _truth(named: Sequence[int] = (3,), part: Any = PART) -> Truth:
    return Truth(labels=LABELS, facts={"part": np.array(part), "observed": OBSERVED}, named_classes=named)


def _answer(step: int | None, **judged: Any) -> StoredPrediction:
    """Return the answer at `step`; what is judged of items other than the training ones is nonsense."""
    arrays: dict[str, Any] = {"classes": np.array([*ON_TEST[step], *TRAINED, *ON_VALIDATION[step]])}
    for name, values in judged.items():
        kind = bool if name == "kept" else np.float16
        arrays[name] = np.array([*[9] * 4, *values, *[9] * 4]).astype(kind)
    return StoredPrediction(stage=0, step=step, ids=np.arange(18), arrays=arrays)


def _moments(truth: Truth) -> list[Moment]:
    return [
        moment_of(truth, answer) for answer in (_answer(1), _answer(2), _answer(3), _answer(None, **JUDGED))
    ]


def test_a_moment_holds_shares_over_the_right_items() -> None:
    assert moment_of(_truth(), _answer(None)).figures == pytest.approx(
        {
            "accuracy": 1 / 4,
            "validation": 2 / 4,
            "right_fitted": 4 / 5,
            "memorised": 3 / 5,
            "corrected": 1 / 5,
            "other": 1 / 5,
        }
    )


def test_test_items_of_classes_still_to_come_do_not_count() -> None:
    """Item 3 is of class 2, which stage 0 does not name yet; at epoch 3 one of the other three is right."""
    assert moment_of(_truth(named=(2, 3)), _answer(3)).figures["accuracy"] == pytest.approx(1 / 3)


def summary(truth: Truth, moments: Sequence[Moment], *, tail: int, epochs: int) -> dict[str, float]:
    """Return every figure of the end."""
    return accuracies(moments, tail, epochs) | label_metrics(truth, moments[-1])


def test_every_figure_of_the_summary_is_the_one_counted_by_hand() -> None:
    """T has rows (.5 .25 .25), (.25 .5 .25), (0 .5 .5), predictions imply (.5 0 .5), (.2 .8 0), (0 0 1): they
    differ by 0.5 + 0.6 + 1.
    """
    truth = _truth()
    assert summary(truth, _moments(truth), tail=2, epochs=4) == pytest.approx(
        {
            "tail_accuracy": (2 / 4 + 1 / 4) / 2,
            "last_accuracy": 1 / 4,
            "chosen_accuracy": 3 / 4,
            "best_accuracy": 1.0,
            "memorised": 3 / 5,
            "corrected": 1 / 5,
            "wrong_auroc": 18 / 25,
            "kept_precision": 4 / 6,
            "kept_recall": 4 / 5,
            "matrix_error": 2.1 / 3,
            "wrong_labels": 5 / 10,
        }
    )


@pytest.mark.parametrize(
    ("tail", "expected"),
    [(1, 1 / 4), (3, (3 + 2 + 1) / 12), (4, (4 + 3 + 2 + 1) / 16), (99, (4 + 3 + 2 + 1) / 16)],
)
def test_the_tail_is_the_last_epochs_the_end_among_them(tail: int, expected: float) -> None:
    truth = _truth()
    assert summary(truth, _moments(truth), tail=tail, epochs=4)["tail_accuracy"] == pytest.approx(expected)


def test_a_summary_names_every_metric() -> None:
    truth = _truth()
    assert {metric.name for metric in METRICS} <= summary(truth, _moments(truth), tail=2, epochs=4).keys()


def test_what_was_not_answered_or_not_held_out_is_undefined() -> None:
    truth = _truth(part=np.where(PART == VALIDATION, TRAIN, PART))
    moments = [moment_of(truth, _answer(step)) for step in (3, None)]
    final = summary(truth, moments, tail=2, epochs=4)
    undefined = {name for name, value in final.items() if math.isnan(value)}
    assert undefined == {"chosen_accuracy", "wrong_auroc", "kept_precision", "kept_recall"}
    assert pictures(truth, moments, {0: 4}).probes["validation"] == []


def test_pictures_hold_the_curves_the_matrices_and_the_losses_by_kind_of_label() -> None:
    truth = _truth()
    seen = pictures(truth, _moments(truth), {0: 4})
    assert seen.probes["accuracy"] == [(0, 1, 1.0), (0, 2, 0.75), (0, 3, 0.5), (0, 4, 0.25)]
    assert seen.probes["validation"] == [(0, 1, 0.25), (0, 2, 0.75), (0, 3, 0.75), (0, 4, 0.5)]
    assert seen.probes["memorised"] == [(0, epoch, 0.6) for epoch in (1, 2, 3, 4)]
    np.testing.assert_allclose(seen.matrices["transition"], np.array([[2, 1, 1], [1, 2, 1], [0, 2, 2]]) / 4)
    np.testing.assert_allclose(
        seen.matrices["implied_transition"], np.array([[5, 0, 5], [2, 8, 0], [0, 0, 10]]) / 10
    )
    losses = seen.histograms["label_losses"]
    np.testing.assert_array_equal(losses["right labels"], [0.5, 2.0, 0.5, 0.0, 1.0])
    np.testing.assert_array_equal(losses["wrong labels"], [0.25, 3.0, 1.5, 2.5, 0.125])
    assert {name for panel in seen.panels.values() for name in panel} <= seen.probes.keys()


@pytest.mark.parametrize("foreign", [-1, 3, 10**12])
def test_a_predicted_class_that_does_not_exist_is_wrong_and_nothing_worse(foreign: int) -> None:
    """The contract asks for whole numbers, not for classes that were named; such predictions tell nothing of
    the transition matrix.
    """
    truth = _truth()
    answer = StoredPrediction(stage=0, step=None, ids=np.arange(18), arrays={"classes": np.full(18, foreign)})
    final = summary(truth, [moment_of(truth, answer)], tail=1, epochs=4)
    assert (final["last_accuracy"], final["memorised"], final["corrected"]) == (0, 0, 0)
    assert final["matrix_error"] == pytest.approx((1 + 1 + 1) / 3), "the identity where nothing is implied"
