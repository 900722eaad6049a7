"""Figures of `harness.statistics` against tables, scipy, enumeration and simulation; and what it says when
nothing can be said.
"""

from __future__ import annotations

import doctest
import importlib
import itertools
import math
import pkgutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from harness import statistics
from harness.statistics import (
    compare_all,
    holm,
    kaplan_meier_median,
    minimum_detectable_difference,
    paired_t,
    pooled_sd,
    sign_flip,
    smallest_sign_flip_p,
    t_interval,
    times_reached,
)

FIGURES = st.floats(-100, 100).map(lambda value: round(value, 3))
SERIES = st.integers(2, 12).flatmap(
    lambda n: st.tuples(arrays(float, n, elements=FIGURES), arrays(float, n, elements=FIGURES))
)
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(statistics.__path__)])
def test_the_examples_in_the_docstrings_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"harness.statistics.{name}")).failed == 0


# --- intervals ----------------------------------------------------------------------------------------------


def test_the_interval_is_the_textbook_one() -> None:
    """Mean 72, s = 2, n = 3, t(0.975, 2) = 4.3027: 72 +/- 4.3027 * 2 / sqrt(3)."""
    interval = t_interval([70.0, 72.0, 74.0])
    assert interval.mean == 72.0
    assert interval.half_width == pytest.approx(4.302653 * 2 / math.sqrt(3), rel=1e-6)


@given(SERIES)
def test_the_interval_is_scipys(series: tuple[np.ndarray, np.ndarray]) -> None:
    values = series[0]
    if np.ptp(values) == 0:
        return
    low, high = stats.t.interval(0.9, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
    assert t_interval(values, level=0.9)[1:3] == pytest.approx((low, high))


def test_an_interval_needs_two_figures() -> None:
    assert t_interval([0.7])[0] == 0.7
    assert np.isnan(t_interval([0.7])[1:3]).all()
    assert t_interval([0.7]).n == 1
    assert np.isnan(t_interval([])[:3]).all()
    assert t_interval([]).n == 0


def test_equal_figures_have_an_interval_of_width_zero() -> None:
    assert t_interval([0.1] * 7)[1:3] == (pytest.approx(0.1),) * 2
    assert t_interval([0.1] * 7).half_width == 0.0


def test_figures_that_are_not_finite_are_left_out_and_not_counted() -> None:
    assert t_interval([1.0, math.nan, 3.0, math.inf]) == t_interval([1.0, 3.0])


def test_the_interval_covers_as_promised_with_three_seeds() -> None:
    rng = np.random.default_rng(0)
    covered = [interval.low <= 0 <= interval.high for interval in map(t_interval, rng.normal(size=(4000, 3)))]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors


# --- paired comparison --------------------------------------------------------------------------------------


@given(SERIES)
def test_the_paired_test_is_scipys(series: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = series
    if np.ptp(a - b) < 1e-6:
        return
    expected = stats.ttest_rel(a, b)
    low, high = expected.confidence_interval(0.95)
    assert paired_t(a, b)[:4] == pytest.approx(
        (np.mean(a - b), low, high, expected.pvalue), rel=1e-6, abs=1e-9
    )


@given(SERIES, st.randoms())
def test_the_order_of_seeds_changes_nothing(series: tuple[np.ndarray, np.ndarray], random: object) -> None:
    a, b = series
    order = list(range(len(a)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert paired_t(a[order], b[order]) == pytest.approx(paired_t(a, b), rel=1e-6, abs=1e-9)


@given(SERIES, st.floats(-10, 10))
def test_shifting_both_changes_nothing_and_swapping_turns_the_sign(
    series: tuple[np.ndarray, np.ndarray], shift: float
) -> None:
    a, b = series
    if 0 < np.ptp(a - b) < 1e-6:
        return
    once = paired_t(a, b)
    assert paired_t(a + shift, b + shift) == pytest.approx(once, rel=1e-5, abs=1e-8)
    back = paired_t(b, a)
    assert (back.difference, back.low, back.high, back.p) == pytest.approx(
        (-once.difference, -once.high, -once.low, once.p)
    )


def test_equal_series_differ_by_nothing_with_p_one() -> None:
    assert paired_t([0.7, 0.8, 0.9], [0.7, 0.8, 0.9]) == (0.0, 0.0, 0.0, 1.0, 3)
    assert paired_t([0.1 + 0.2, 0.5], [0.3, 0.5]).p == 1.0  # 0.1 + 0.2 is 0.3 but for rounding


@pytest.mark.parametrize(("pairs", "p"), [(2, 0.5), (5, 0.0625), (6, 0.03125)])
def test_a_constant_difference_is_as_certain_as_sign_flips_allow(pairs: int, p: float) -> None:
    """Accuracies on a small test set repeat; t would call two equal differences infinitely certain."""
    compared = paired_t(np.linspace(0.5, 0.9, pairs) + 0.02, np.linspace(0.5, 0.9, pairs))
    assert compared == (pytest.approx(0.02), pytest.approx(0.02), pytest.approx(0.02), p, pairs)
    assert p == sign_flip(np.full(pairs, 0.02))


def test_one_pair_cannot_decide() -> None:
    compared = paired_t([0.9], [0.1])
    assert compared.difference == pytest.approx(0.8)
    assert np.isnan([compared.low, compared.high, compared.p]).all()
    assert compared.pairs == 1
    assert paired_t([], []).pairs == 0
    assert np.isnan(paired_t([], [])[:4]).all()


def test_a_pair_with_a_gap_is_left_out_whole() -> None:
    assert paired_t([1.0, math.nan, 3.0, 5.0], [0.0, 9.0, math.nan, 2.0]) == paired_t([1.0, 5.0], [0.0, 2.0])


def test_series_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"same length, got shapes \(2,\) and \(3,\)"):
        paired_t([1, 2], [1, 2, 3])


# --- Holm ---------------------------------------------------------------------------------------------------


def test_holm_is_the_textbook_example() -> None:
    """Wright 1992, "Adjusted p-values for simultaneous inference": p = 0.01, 0.02, 0.03, 0.04 give 0.04,
    0.06, 0.06, 0.06.
    """
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


@given(P_VALUES)
def test_holm_is_monotone_lies_between_p_and_bonferroni_and_knows_no_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(
        (x <= y)
        for (p, x), (q, y) in itertools.product(zip(p_values, adjusted, strict=True), repeat=2)
        if p < q
    )
    assert (np.array(p_values) <= adjusted).all()
    assert (adjusted <= np.minimum(1, len(p_values) * np.array(p_values))).all()
    assert holm(p_values[::-1])[::-1].tolist() == adjusted.tolist()


def test_a_comparison_that_was_not_possible_does_not_count() -> None:
    assert holm([0.01, math.nan, 0.03])[[0, 2]].tolist() == holm([0.01, 0.03]).tolist()
    assert np.isnan(holm([0.01, math.nan, 0.03])[1])
    assert holm([]).size == 0


# --- sign flips ---------------------------------------------------------------------------------------------


@given(st.lists(FIGURES, min_size=1, max_size=7))
def test_sign_flips_are_counted_exactly(differences: list[float]) -> None:
    signs = np.array(list(itertools.product([-1, 1], repeat=len(differences))))
    sums = np.abs(signs @ np.array(differences))
    expected = np.mean(sums >= abs(sum(differences)) - 1e-9)
    assert sign_flip(differences) == pytest.approx(expected)


def test_sixteen_pairs_are_exact_and_more_are_drawn() -> None:
    rng = np.random.default_rng(1)
    differences = rng.normal(0.6, 1, size=16)
    exact = sign_flip(differences)
    drawn = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=9999, rng=rng
    ).pvalue
    assert exact == pytest.approx(drawn, abs=0.01)
    more = rng.normal(0.4, 1, size=30)
    with pytest.raises(ValueError, match="give rng"):
        sign_flip(more)
    by_normal = 2 * stats.norm.sf(abs(more.sum()) / math.sqrt(np.square(more).sum()))
    assert sign_flip(more, rng=np.random.default_rng(2)) == pytest.approx(by_normal, abs=0.01)
    assert sign_flip(more, rng=np.random.default_rng(2)) == sign_flip(more, rng=np.random.default_rng(2))


def test_sign_flips_without_a_difference_or_without_pairs() -> None:
    assert sign_flip([0.0, 0.0, 0.0]) == 1.0
    assert math.isnan(sign_flip([]))
    assert sign_flip([0.3]) == 1.0


def test_six_pairs_are_the_first_below_five_per_cent() -> None:
    reachable = [smallest_sign_flip_p(pairs) for pairs in range(1, 8)]
    assert [p < 0.05 for p in reachable] == [False] * 5 + [True] * 2
    assert reachable == [sign_flip(np.ones(pairs)) for pairs in range(1, 8)]
    assert math.isnan(smallest_sign_flip_p(0))


# --- detectable difference ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "level"), [(2, 0.95), (3, 0.95), (5, 0.99), (5, 1 - 0.05 / 45), (10, 0.95)]
)
def test_the_detectable_difference_is_found_with_the_promised_power(pairs: int, level: float) -> None:
    rng = np.random.default_rng(0)
    true = minimum_detectable_difference(2.0, pairs, level=level)
    draws = rng.normal(true, 2.0, size=(40_000, pairs))
    t = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / math.sqrt(pairs))
    found = 2 * stats.t.sf(np.abs(t), pairs - 1) < 1 - level
    assert found.mean() == pytest.approx(0.8, abs=0.008)


def test_the_detectable_difference_is_that_of_the_power_tables() -> None:
    """Cohen's d = 1 with 10 pairs has power 0.803 at two-sided 5 % (G*Power 3.1, paired t-test)."""
    assert minimum_detectable_difference(1.0, 10, power=0.803) == pytest.approx(1.0, abs=1e-3)


def test_more_pairs_detect_less_and_degenerate_cases_are_defined() -> None:
    sizes = [minimum_detectable_difference(1.0, pairs) for pairs in (2, 3, 5, 10, 100)]
    assert sizes == sorted(sizes, reverse=True)
    assert minimum_detectable_difference(0.0, 5) == 0.0
    assert math.isnan(minimum_detectable_difference(1.0, 1))
    assert math.isnan(minimum_detectable_difference(math.nan, 5))


def test_the_pooled_spread_weighs_by_degrees_of_freedom() -> None:
    assert pooled_sd([[1.0, 3.0], [0.0, 1.0, 2.0]]) == pytest.approx(math.sqrt((2.0 + 2.0) / 3))
    assert pooled_sd([[1.0, 3.0], [5.0]]) == pytest.approx(math.sqrt(2.0))
    assert math.isnan(pooled_sd([[1.0], []]))


# --- times that may not be reached --------------------------------------------------------------------------


def _by_product_limit(times: list[float], end: float) -> float:
    """Go through every moment at which anything happens and multiply the shares that go on waiting."""
    waiting = 1.0
    for moment in sorted({time for time in times if not math.isnan(time)}):
        at_risk = sum(
            math.isnan(time) or time >= moment for time in times
        )  # those not reached wait until the end
        reached = sum(time == moment for time in times)
        waiting *= 1 - reached / at_risk
        assert moment <= end
        if waiting <= 0.5 + 1e-12:
            return moment
    return math.nan


@pytest.mark.parametrize(
    ("times", "median"),
    [
        ([100.0, 200.0, 300.0], 200.0),  # S = 2/3, 1/3
        ([100.0, 200.0, 300.0, 400.0], 200.0),  # S = 3/4, 1/2: reached exactly
        ([100.0, 200.0, math.nan, math.nan], 200.0),  # S = 3/4, 1/2
        ([100.0, 200.0, math.nan, math.nan, math.nan], math.nan),  # S = 4/5, 3/5
        (
            [300.0, math.nan, 100.0, math.nan, 200.0],
            300.0,
        ),  # S = 4/5, 3/5, 2/5; the mean of those that reached it would be 200
        ([100.0, 100.0, math.nan], 100.0),  # S = 1/3
        ([math.nan], math.nan),
        ([5.0], 5.0),
        ([], math.nan),
    ],
)
def test_the_median_time_by_hand(times: list[float], median: float) -> None:
    assert kaplan_meier_median(times) == pytest.approx(median, nan_ok=True)


@given(st.lists(st.one_of(st.just(math.nan), st.integers(1, 12).map(float)), max_size=15))
def test_the_median_time_is_that_of_the_product_limit(times: list[float]) -> None:
    median = kaplan_meier_median(times)
    assert median == pytest.approx(_by_product_limit(times, 12.0), nan_ok=True)
    assert times_reached(times) == (
        pytest.approx(median, nan_ok=True),
        sum(not math.isnan(time) for time in times),
        len(times),
    )


@given(st.lists(st.integers(1, 50).map(float), min_size=1, max_size=15), st.integers(1, 50))
def test_a_longer_budget_never_makes_the_median_later(times: list[float], budget: int) -> None:
    """What is not reached by `budget` is later than all that is: the median is the true lower one, or
    unknown.
    """
    cut = [time if time <= budget else math.nan for time in times]
    true = sorted(times)[(len(times) + 1) // 2 - 1]
    assert kaplan_meier_median(cut) == pytest.approx(true if true <= budget else math.nan, nan_ok=True)


# --- all pairs ----------------------------------------------------------------------------------------------


def test_comparisons_turn_round_and_are_corrected_over_all_pairs() -> None:
    figures = {"a": [0.9, 0.8, 0.85], "b": [0.5, 0.55, 0.45], "c": [0.1, 0.4, 0.3]}
    compared = compare_all(figures)
    raw = [paired_t(figures[x], figures[y]).p for x, y in (("a", "b"), ("a", "c"), ("b", "c"))]
    assert [compared["a", "b"].p, compared["a", "c"].p, compared["b", "c"].p] == pytest.approx(
        holm(raw).tolist()
    )
    once, back = compared["a", "b"], compared["b", "a"]
    assert (back.difference, back.low, back.high, back.p) == (-once.difference, -once.high, -once.low, once.p)


def test_equal_contenders_are_told_apart_more_rarely_than_promised() -> None:
    """Ten equal contenders, ten seeds: a leader that "beats" another one in at most 5 % of boards, although
    it was picked for leading.
    """
    rng = np.random.default_rng(0)
    beaten = 0
    for _ in range(300):
        figures = {str(name): row for name, row in enumerate(rng.normal(size=(10, 10)))}
        beaten += any(comparison.p <= 0.05 for comparison in compare_all(figures).values())
    assert beaten / 300 <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / 300)
