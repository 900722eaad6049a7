"""Figures of late generalisation against hand calculation, loops, closed forms and scikit-learn."""

from __future__ import annotations

import cmath
import doctest
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from harness.metrics import grokking as module
from harness.metrics.grokking import (
    HEALTH,
    PHASES,
    PUBLISHED_PHASES,
    Fates,
    dead_neurons,
    fates,
    first_held,
    has_forgotten,
    ipr,
    mean_over_steps,
    neuron_ipr,
    painless_drop,
    phase,
    pruned_predictions,
    published_phase,
    smallest,
    time_of_inversion,
)

NAN = float("nan")
SHARES = st.floats(0, 1, allow_nan=False)


def test_the_examples_run() -> None:
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


def test_health_has_six_places_with_names_of_their_own() -> None:
    assert len(set(HEALTH)) == len(HEALTH) == 6


# --- fates --------------------------------------------------------------------------------------------------


def test_a_row_that_was_chosen_but_kept_its_label_is_neither_clean_nor_wrong() -> None:
    """Rows: clean right, clean missed, wrong memorised, wrong recovered, wrong as a third class, chosen but
    right, two test rows.
    """
    labels, given_ = np.array([0, 1, 0, 1, 2, 0, 1, 2]), np.array([0, 1, 1, 2, 0, 0, -1, -1])
    predicted = np.array([0, 0, 1, 1, 1, 0, 1, 0])
    train = np.array([1, 1, 1, 1, 1, 1, 0, 0], dtype=bool)
    corrupted, wrong = (
        np.array(rows, dtype=bool) for rows in ([0, 0, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 0, 0, 0])
    )
    found = fates(predicted, labels, given_, train=train, corrupted=corrupted, wrong=wrong)
    assert found == pytest.approx(
        Fates(train=3 / 6, clean=1 / 2, memorised=1 / 3, recovered=1 / 3, test=1 / 2)
    )


def test_without_wrong_labels_nothing_is_memorised_or_recovered_and_that_is_not_zero() -> None:
    none = np.zeros(3, dtype=bool)
    found = fates(
        np.array([0, 1, 2]),
        np.array([0, 1, 2]),
        np.array([0, 1, -1]),
        train=np.array([1, 1, 0], dtype=bool),
        corrupted=none,
        wrong=none,
    )
    assert math.isnan(found.memorised)
    assert math.isnan(found.recovered)
    assert (found.train, found.clean, found.test) == (1, 1, 1)


# --- times --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([0, 0.99, 1, 1, 0], 10),
        ([1, 0.5, 1, 1, 1], 15),  # a slingshot: crossed at 5, lost, and held from 15 on
        ([0, 0, 0, 1, 1], NAN),  # crossed too late to be seen holding
        ([1, 1, 0, 1, 1], NAN),
        ([1, 1, 1], 5),
        ([1, 1], NAN),
        ([], NAN),
    ],
)
def test_a_time_is_the_first_look_that_holds_at_the_next_two(shares: list[float], expected: float) -> None:
    steps = 5 * np.arange(1, len(shares) + 1)
    assert first_held(steps, np.array(shares) >= 0.99) == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_holding_agrees_with_a_loop(reached: list[bool], holding: int) -> None:
    steps = [7 * place + 3 for place in range(len(reached))]
    expected = next(
        (steps[at] for at in range(len(reached) - holding + 1) if all(reached[at : at + holding])), NAN
    )
    assert first_held(steps, reached, holding=holding) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("memorised", "expected"),
    [
        ([0.02, 0.95, 0.5, 0.05, 0.01, 0.0], 40),
        ([0.02, 0.01, 0.0, 0.0, 0.0, 0.0], NAN),  # never memorised, so nothing was unlearned
        ([0.95, 0.04, 0.2, 0.04, 0.04, 0.04], 40),  # came back once
        ([0.89, 0.0, 0.0, 0.0, 0.0, 0.0], NAN),
        ([NAN] * 6, NAN),  # no wrong labels
        ([], NAN),
    ],
)
def test_inversion_needs_memory_first_and_three_looks_without_it(
    memorised: list[float], expected: float
) -> None:
    assert time_of_inversion(10 * np.arange(1, len(memorised) + 1), memorised) == pytest.approx(
        expected, nan_ok=True
    )


def test_the_mean_over_steps_weighs_a_look_by_the_steps_it_stands_for() -> None:
    """0.2 for steps 1 to 10, 0.6 for 11 to 20, 1 for 21 to 40."""
    assert mean_over_steps([10, 20, 40], [0.2, 0.6, 1.0]) == pytest.approx(
        (10 * 0.2 + 10 * 0.6 + 20 * 1.0) / 40
    )
    assert mean_over_steps([5, 10, 15], [0.1, 0.4, 1.0]) == pytest.approx(0.5), (
        "evenly spaced looks: the plain mean"
    )
    assert math.isnan(mean_over_steps([], []))


def test_forgetting_is_having_known() -> None:
    assert has_forgotten([0.1, 0.9, 0.89])
    assert not has_forgotten([0.1, 0.95, 0.9])
    assert not has_forgotten([0.1, 0.89, 0.5])
    assert not has_forgotten([])


# --- phases -------------------------------------------------------------------------------------------------

# (corruption, train, clean, test, memorised, forgot) -> (ours, published). The first block are outcomes of
# the released notebook and of
# runs at p = 97; the second runs at p = 43; the third the defects of the published rule.
OUTCOMES: list[tuple[tuple[Any, ...], tuple[str, str]]] = [
    ((0.0, 1.0, 1.0, 1.0, NAN, False), ("generalised", "coexistence")),
    ((0.2, 0.802, 1.0, 1.0, 0.0, False), ("full_inversion", "full_inversion")),
    ((0.35, 0.977, 1.0, 0.984, 0.93, False), ("coexistence", "coexistence")),
    ((0.35, 0.786, 1.0, 1.0, 0.38, False), ("partial_inversion", "partial_inversion")),
    ((0.35, 0.654, 1.0, 1.0, 0.0, False), ("full_inversion", "full_inversion")),
    ((0.35, 0.009, 0.01, 0.011, 0.01, True), ("forgetting", "forgetting_or_confusion")),
    ((0.35, 0.834, 1.0, 0.999, 0.52, False), ("partial_inversion", "partial_inversion")),
    ((0.35, 0.672, 1.0, 1.0, 0.05, False), ("full_inversion", "full_inversion")),
    ((0.2, 0.996, 1.0, 0.965, 0.98, False), ("coexistence", "coexistence")),
    ((0.2, 0.88, 1.0, 1.0, 0.4, False), ("partial_inversion", "partial_inversion")),
    ((0.3, 1.0, 1.0, 0.87, 0.998, False), ("memorisation", "memorisation")),
    ((0.3, 0.702, 1.0, 1.0, 0.005, False), ("full_inversion", "full_inversion")),
    ((0.2, 0.24, 0.27, 0.14, 0.07, False), ("confusion", "forgetting_or_confusion")),
    ((0.0, 1.0, 1.0, 0.3, NAN, False), ("memorisation", "memorisation")),
    ((0.0, 0.5, 0.5, 0.3, NAN, True), ("forgetting", "forgetting_or_confusion")),
    ((0.1, 0.903, 1.0, 1.0, 0.01, False), ("full_inversion", "coexistence")),
    ((0.15, 0.899, 1.0, 1.0, 0.33, False), ("partial_inversion", "full_inversion")),
    ((0.2, 0.95, 0.99, 0.85, 0.8, False), ("confusion", "memorisation")),
    ((0.35, 0.70, 1.0, 0.95, 0.2, False), ("partial_inversion", "partial_inversion")),
]


@pytest.mark.parametrize(("outcome", "expected"), OUTCOMES)
def test_phases_are_those_of_the_tables_and_ours_sees_what_the_published_rule_cannot(
    outcome: tuple[Any, ...], expected: tuple[str, str]
) -> None:
    corruption, train, clean, test, memorised, forgot = outcome
    last = Fates(train=train, clean=clean, memorised=memorised, recovered=NAN, test=test)
    assert (phase(last, forgotten=forgot), published_phase(train, test, corruption)) == expected


@given(SHARES, SHARES, st.one_of(SHARES, st.just(NAN)), SHARES, st.booleans(), st.floats(0, 0.95))
@settings(max_examples=300, deadline=None)
def test_every_outcome_has_one_phase_and_inversion_is_what_generalises(
    train: float, clean: float, memorised: float, test: float, forgot: bool, corruption: float
) -> None:
    ours = phase(Fates(train, clean, memorised, NAN, test), forgotten=forgot)
    theirs = published_phase(train, test, corruption)
    assert ours in PHASES
    assert theirs in PUBLISHED_PHASES
    generalising = {"generalised", "coexistence", "partial_inversion", "full_inversion"}
    assert (ours in generalising) == (theirs in generalising) == (test >= 0.9)


# --- spectra ------------------------------------------------------------------------------------------------


def _ipr_by_sums(row: Any) -> float:
    size = len(row)
    spectrum = [
        abs(sum(value * cmath.exp(-2j * cmath.pi * j * t / size) for t, value in enumerate(row)))
        for j in range(size // 2 + 1)
    ]
    return float(sum(x**4 for x in spectrum) / sum(x**2 for x in spectrum) ** 2)


@pytest.mark.parametrize("size", [7, 8, 43, 97])
def test_the_ratio_is_that_of_the_sums_that_define_the_transform(size: int) -> None:
    row = np.random.default_rng(size).normal(size=size)
    assert ipr(row) == pytest.approx(_ipr_by_sums(row))


def test_one_frequency_has_ratio_one_a_single_entry_the_least_and_zeros_none() -> None:
    p = 97
    for frequency in (0, 1, 20, 48):
        assert ipr(3 * np.cos(2 * np.pi * frequency * np.arange(p) / p + 0.4)) == pytest.approx(1)
    assert ipr(np.eye(p)[5]) == pytest.approx(1 / 49)
    assert ipr(np.zeros(p)) == 0


def test_gaussian_rows_have_the_ratio_of_an_untrained_network() -> None:
    """About 0.040 at p = 97."""
    assert ipr(np.random.default_rng(0).normal(size=(2000, 97))).mean() == pytest.approx(0.0403, abs=5e-4)


@given(
    arrays.arrays(np.float64, st.integers(2, 20), elements=st.floats(-1, 1)),
    st.sampled_from([1e-30, 1e-11, 7.0, -1e20]),
)
@settings(max_examples=100, deadline=None)
def test_the_ratio_does_not_depend_on_size_and_lies_between_its_bounds(row: Any, scale: float) -> None:
    row = np.where(np.abs(row) < 1e-6, 0, row)
    found = float(ipr(row))
    assert ipr(scale * row) == pytest.approx(found)
    assert found == 0 if not row.any() else 1 / (len(row) // 2 + 1) - 1e-12 <= found <= 1 + 1e-12


def test_weights_decayed_to_the_edge_of_float32_keep_their_ratio() -> None:
    row = np.cos(2 * np.pi * 2 * np.arange(11) / 11).astype(np.float32)
    assert ipr(np.float32(1e-36) * row) == pytest.approx(1, abs=1e-4)


def test_a_neuron_has_the_mean_of_its_three_rows_and_zeros_make_it_dead() -> None:
    p, rng = 11, np.random.default_rng(1)
    weights = rng.normal(size=(3, 4, p))
    weights[0, 0] = np.cos(2 * np.pi * np.arange(p) / p)
    weights[2, 1] = 0
    weights[:, 2] = 0
    expected = [
        np.mean(
            [_ipr_by_sums(weights[part, neuron]) if weights[part, neuron].any() else 0 for part in range(3)]
        )
        for neuron in range(4)
    ]
    np.testing.assert_allclose(neuron_ipr(weights), expected)
    assert dead_neurons(weights).tolist() == [False, True, True, False]
    np.testing.assert_allclose(neuron_ipr(np.stack([weights, 2 * weights])), [expected, expected])


# --- pruning ------------------------------------------------------------------------------------------------


def _grid(p: int) -> Any:
    return np.stack(np.divmod(np.arange(p * p), p), axis=1)


def _closed_form(p: int, width: int, seed: int = 0) -> Any:
    """Gromov 2023: every neuron one frequency, phases of W the sums of those of U and V; f tends to 1 where q
    = x + y.
    """
    rng = np.random.default_rng(seed)
    frequency, u, v = rng.permutation(width)[:, None], *rng.uniform(-np.pi, np.pi, size=(2, width, 1))
    angles = 2 * np.pi * frequency * np.arange(p) / p
    return np.stack([np.cos(angles + u), np.cos(angles + v), np.cos(angles + u + v)]) * (2 / width) ** (1 / 3)


def test_pruning_agrees_with_removing_neurons_one_by_one() -> None:
    p, width = 5, 8
    rng = np.random.default_rng(2)
    weights, order = rng.normal(size=(3, width, p)).astype(np.float32), rng.permutation(width)
    levels = np.array([0, 0.25, 0.3, 0.75, 1])
    found = pruned_predictions(weights, _grid(p), order, levels)
    for row, gone in zip(found, [0, 2, 2, 6, 8], strict=True):
        kept = [neuron for neuron in range(width) if neuron not in order[:gone]]
        u, v, w = weights.astype(np.float64)
        for (x, y), predicted in zip(_grid(p), row, strict=True):
            logits = [sum(w[k, q] * (u[k, x] + v[k, y]) ** 2 for k in kept) for q in range(p)]
            assert predicted == int(np.argmax(logits))
    assert not found[-1].any(), "without neurons every logit is 0, and class 0 is answered"


def test_the_closed_form_answers_every_sum_has_ratio_one_and_needs_not_all_its_neurons() -> None:
    p, width = 23, 400
    weights = _closed_form(p, width)
    true = _grid(p).sum(axis=1) % p
    assert neuron_ipr(weights) == pytest.approx(np.ones(width))
    predicted = pruned_predictions(weights, _grid(p), np.arange(width), np.array([0, 0.5, 0.99]))
    shares = (predicted == true).mean(axis=1)
    assert shares[0] == shares[1] == 1
    assert shares[2] < 0.7


def test_a_painless_drop_stops_counting_where_the_test_suffers() -> None:
    """Memorised falls by 0.6 while the test loses a point; where it falls to 0 the test is lost."""
    assert painless_drop([0.9, 0.5, 0.3, 0.1, 0.0], [0.98, 0.99, 0.9701, 0.96, 0.5]) == pytest.approx(0.6)
    assert painless_drop([0.9, 0.95], [1.0, 0.2]) == 0
    assert math.isnan(painless_drop([NAN, NAN], [1.0, 1.0]))


# --- finding wrong labels -----------------------------------------------------------------------------------


def test_the_smallest_losses_are_as_many_as_asked_and_ties_go_by_row() -> None:
    assert smallest(np.array([0.3, 0.1, 0.2, 0.1, 0.2]), 3).tolist() == [False, True, True, True, False]
    assert not smallest(np.array([0.3, 0.1]), 0).any()
