"""Figures over several scenarios: against scipy, the definitions that rliable publishes written as loops,
hand values and enumeration.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from harness.statistics import (
    detectable_within_strata,
    failures_as,
    fewest_pairs,
    iqm,
    minimum_detectable_difference,
    optimality_gap,
    paired_differences,
    paired_t,
    percentile_bootstrap,
    performance_profile,
    pooled_paired_t,
    pooled_t,
    pooled_t_each,
    probability_of_improvement,
    sign_flip,
    sign_flip_within_strata,
    smallest_sign_flip_p,
    studentised_bootstrap,
    t_interval,
    two_one_sided,
    two_one_sided_within_strata,
)
from harness.statistics.aggregates import interquartile_mean

FIGURES = st.integers(0, 20).map(lambda value: value / 20)  # many ties, as accuracies on small test sets have
STRATA = st.lists(
    st.integers(1, 6).flatmap(lambda n: arrays(float, n, elements=FIGURES)), min_size=1, max_size=4
)
RNG = np.random.default_rng(0)
UNEQUAL = [RNG.normal(0.3, spread, size) for spread, size in ((0.1, 5), (0.4, 5), (0.2, 7))]


# --- pooled t -----------------------------------------------------------------------------------------------


def test_two_strata_are_welchs_test() -> None:
    """The mean over two strata of opposite sign is half their difference; scipy has Welch's p and interval of
    that.
    """
    first, second = UNEQUAL[:2]
    expected = stats.ttest_ind(first, second, equal_var=False)
    low, high = expected.confidence_interval(0.95)
    assert pooled_t([first, -second])[:3] == pytest.approx(
        ((first.mean() - second.mean()) / 2, low / 2, high / 2)
    )
    compared = pooled_paired_t([first, -second], [np.zeros(5), np.zeros(5)])
    assert compared.p == pytest.approx(expected.pvalue)
    assert compared.pairs == 10


def test_one_stratum_is_students_interval_and_test() -> None:
    assert pooled_t([UNEQUAL[0]]) == pytest.approx(t_interval(UNEQUAL[0]))
    assert pooled_t_each([UNEQUAL[0]])[0] == pytest.approx(t_interval(UNEQUAL[0]))
    other = np.linspace(0, 0.2, 5)
    assert pooled_paired_t([UNEQUAL[0]], [other]) == pytest.approx(paired_t(UNEQUAL[0], other))


def test_one_spread_for_all_is_that_of_the_analysis_of_variance() -> None:
    """By hand: s^2 = sum of squares within / sum (n - 1), t with that many degrees of freedom."""
    within = sum(float(np.square(values - values.mean()).sum()) for values in UNEQUAL)
    freedom = sum(len(values) - 1 for values in UNEQUAL)
    for values, interval in zip(UNEQUAL, pooled_t_each(UNEQUAL), strict=True):
        half = stats.t.ppf(0.975, freedom) * math.sqrt(within / freedom / len(values))
        assert interval == pytest.approx(
            (values.mean(), values.mean() - half, values.mean() + half, len(values))
        )


def test_a_stratum_that_is_empty_or_single_leaves_things_open() -> None:
    assert np.isnan(pooled_t([[0.1, 0.2], []])[:3]).all()
    assert pooled_t([[0.1, 0.2], [0.3]]).mean == pytest.approx(0.225)
    assert np.isnan(pooled_t([[0.1, 0.2], [0.3]])[1:3]).all()
    assert np.isnan(pooled_t([])[:3]).all()
    borrowed = pooled_t_each([[0.1, 0.2], [0.3], []])
    assert borrowed[1].half_width == pytest.approx(stats.t.ppf(0.975, 1) * np.std([0.1, 0.2], ddof=1))
    assert np.isnan(borrowed[2][:3]).all()
    assert np.isnan(pooled_t_each([[0.1], [0.3]])[0][1:3]).all()
    assert math.isnan(pooled_paired_t([[0.1], [0.3]], [[0.2], [0.1]]).p)
    with pytest.raises(ValueError, match="strata come in pairs, got 1 and 2"):
        pooled_paired_t([[0.1]], [[0.1], [0.2]])


def test_strata_without_a_spread_are_as_certain_as_sign_flips_allow() -> None:
    same = pooled_paired_t([[0.5, 0.6], [0.7, 0.8]], [[0.4, 0.5], [0.5, 0.6]])
    assert same == (pytest.approx(0.15), pytest.approx(0.15), pytest.approx(0.15), 2 / 2**4, 4)
    assert pooled_paired_t([[0.5, 0.6]], [[0.5, 0.6]]).p == 1.0


def test_a_pair_with_a_gap_is_left_out_of_its_stratum() -> None:
    with_gap = pooled_paired_t([[0.5, math.nan, 0.7], [0.1, 0.2]], [[0.4, 0.5, 0.5], [0.3, 0.3]])
    assert with_gap == pooled_paired_t([[0.5, 0.7], [0.1, 0.2]], [[0.4, 0.5], [0.3, 0.3]])
    assert paired_differences([0.5, math.nan], [0.25, 1.0]).tolist() == [0.25]


# --- sign flips ---------------------------------------------------------------------------------------------


@given(
    st.lists(arrays(float, 2, elements=FIGURES), min_size=1, max_size=2), arrays(float, 3, elements=FIGURES)
)
def test_flips_within_strata_are_counted_exactly(strata: list[np.ndarray], last: np.ndarray) -> None:
    strata = [*(values - 0.4 for values in strata), last - 0.4]

    def mean(signs: tuple[int, ...]) -> float:
        left = iter(signs)
        return float(np.mean([np.mean([next(left) * value for value in values]) for values in strata]))

    patterns = list(itertools.product([1, -1], repeat=sum(map(len, strata))))
    expected = np.mean([abs(mean(signs)) >= abs(mean(patterns[0])) - 1e-9 for signs in patterns])
    assert sign_flip_within_strata(strata) == pytest.approx(expected)


def test_flips_within_equal_strata_are_flips_of_all_and_an_empty_one_leaves_it_open() -> None:
    differences = np.array([0.3, -0.1, 0.2, 0.4, 0.5, -0.2])
    assert sign_flip_within_strata([differences[:3], differences[3:]]) == sign_flip(differences)
    assert math.isnan(sign_flip_within_strata([differences, []]))
    assert math.isnan(sign_flip_within_strata([]))


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95, 0.99, 0.999])
def test_the_fewest_pairs_are_the_first_that_reach_the_level(level: float) -> None:
    fewest = fewest_pairs(level)
    assert smallest_sign_flip_p(fewest) <= 1 - level < smallest_sign_flip_p(fewest - 1)
    assert (fewest_pairs(), fewest_pairs(0.9)) == (6, 5)


# --- single figures: rliable's published definitions --------------------------------------------------------


@given(STRATA)
def test_the_interquartile_mean_is_scipys_trimmed_mean_of_all_runs(strata: list[np.ndarray]) -> None:
    assert iqm(strata) == pytest.approx(stats.trim_mean(np.concatenate(strata), 0.25))


@given(STRATA, STRATA)
def test_the_probability_of_improvement_counts_all_pairs_of_runs(
    a: list[np.ndarray], b: list[np.ndarray]
) -> None:
    a, b = a[: len(b)], b[: len(a)]
    shares = []
    for first, second in zip(a, b, strict=True):
        wins = [1.0 if x > y else 0.5 if x == y else 0.0 for x in first for y in second]
        shares.append(sum(wins) / len(wins))
        by_scipy = stats.mannwhitneyu(first, second, alternative="greater").statistic / (
            len(first) * len(second)
        )
        assert shares[-1] == pytest.approx(by_scipy)
    assert probability_of_improvement(a, b) == pytest.approx(np.mean(shares))
    assert probability_of_improvement(b, a) == pytest.approx(1 - np.mean(shares))
    assert probability_of_improvement(a, b, better="lower") == pytest.approx(1 - np.mean(shares))


@given(STRATA, st.floats(0.1, 1.2))
def test_the_optimality_gap_counts_what_falls_short(strata: list[np.ndarray], gamma: float) -> None:
    expected = np.mean([np.mean([max(0.0, gamma - value) for value in values]) for values in strata])
    assert optimality_gap(strata, gamma=gamma) == pytest.approx(expected)


@given(STRATA)
def test_a_profile_counts_runs_above_and_falls(strata: list[np.ndarray]) -> None:
    taus = np.linspace(-0.1, 1.1, 25)
    profile = performance_profile(strata, taus)
    expected = [np.mean([np.mean([value > tau for value in values]) for values in strata]) for tau in taus]
    assert profile.share == pytest.approx(expected)
    assert (np.diff(profile.share) <= 1e-12).all()
    assert (profile.low <= profile.share + 1e-12).all()
    assert (profile.high >= profile.share - 1e-12).all()
    assert profile.n == sum(map(len, strata))


def test_the_band_of_a_profile_is_wilsons() -> None:
    runs = np.arange(12) / 12
    profile = performance_profile([runs[:6], runs[6:]], [0.55])
    expected = stats.binomtest(5, 12).proportion_ci(0.95, method="wilson")
    assert profile.share.tolist() == pytest.approx([5 / 12])
    assert (profile.low[0], profile.high[0]) == pytest.approx((expected.low, expected.high))


def test_what_has_no_figure_is_unknown() -> None:
    assert math.isnan(iqm([[], [math.nan]]))
    assert math.isnan(optimality_gap([[0.5], []]))
    assert math.isnan(probability_of_improvement([[0.5], [0.4]], [[0.5], [math.nan]]))
    assert np.isnan(performance_profile([[0.5], []], [0.1, 0.2]).share).all()
    assert iqm([[0.5, math.nan], [0.7]]) == pytest.approx(0.6)
    with pytest.raises(ValueError, match="strata come in pairs"):
        probability_of_improvement([[0.5]], [])


# --- bootstraps ---------------------------------------------------------------------------------------------


def test_three_figures_have_the_percentiles_of_all_27_draws() -> None:
    values = np.array([0.1, 0.4, 0.9])
    every = [np.mean(draw) for draw in itertools.product(values, repeat=3)]
    expected = np.quantile(every, [0.1, 0.9], method="inverted_cdf")
    found = percentile_bootstrap([values], rng=np.random.default_rng(0), draws=20_000, level=0.8)
    assert found == (pytest.approx(values.mean()), pytest.approx(expected[0]), pytest.approx(expected[1]), 3)


def test_the_percentile_bootstrap_is_scipys() -> None:
    values = RNG.normal(size=30)
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1)
    )
    found = percentile_bootstrap([values], rng=np.random.default_rng(2), draws=20_000)
    assert found[1:3] == pytest.approx(tuple(expected.confidence_interval), abs=0.01)


def test_the_studentised_bootstrap_by_a_loop() -> None:
    strata = [RNG.normal(size=6), RNG.normal(2, 3, size=8)]
    picking = np.random.default_rng(5)
    picked = [picking.integers(0, len(values), size=(400, len(values))) for values in strata]

    def mean_and_error(series: list[np.ndarray]) -> tuple[float, float]:
        variances = [stats.sem(values) ** 2 for values in series]
        return float(np.mean([values.mean() for values in series])), math.sqrt(sum(variances)) / len(series)

    mean, error = mean_and_error(strata)
    t = []
    for draw in range(400):
        again, own = mean_and_error([values[rows[draw]] for values, rows in zip(strata, picked, strict=True)])
        t.append((again - mean) / own)
    t.sort()
    expected = (mean - t[math.ceil(0.975 * 399)] * error, mean - t[math.floor(0.025 * 399)] * error)
    found = studentised_bootstrap(strata, rng=np.random.default_rng(5), draws=400)
    assert found == (pytest.approx(mean), pytest.approx(expected[0]), pytest.approx(expected[1]), 14)


def test_the_studentised_bootstrap_of_a_long_series_is_students_interval() -> None:
    values = RNG.normal(size=200)
    expected = t_interval(values)
    found = studentised_bootstrap([values], rng=np.random.default_rng(0), draws=20_000)
    assert found[1:3] == pytest.approx(expected[1:3], abs=0.1 * expected.half_width)


@pytest.mark.parametrize("bootstrap", [percentile_bootstrap, studentised_bootstrap])
def test_a_bootstrap_says_when_there_is_nothing_to_draw_from(bootstrap: object) -> None:
    def run(strata: list[list[float]]) -> object:
        return bootstrap(strata, rng=np.random.default_rng(0))  # type: ignore[operator]

    assert np.isnan(run([[0.1, 0.2], []])[:3]).all()
    assert np.isnan(run([])[:3]).all()
    assert run([[0.1, 0.2, 0.4], [0.3]])[0] == pytest.approx((0.7 / 3 + 0.3) / 2)
    assert np.isnan(run([[0.1, 0.2, 0.4], [0.3]])[1:3]).all()
    assert run([[0.1] * 5, [0.3] * 5])[:3] == pytest.approx((0.2, 0.2, 0.2))
    assert run([[0.1, 0.5, 0.3, 0.6, 0.2]] * 2) == run([[0.1, 0.5, 0.3, 0.6, 0.2]] * 2)


def test_the_bootstrap_of_an_interquartile_mean_lies_around_it() -> None:
    strata = [RNG.normal(mean, 1, size=10) for mean in (0, 1, 2)]
    found = percentile_bootstrap(strata, statistic=interquartile_mean, rng=np.random.default_rng(0))
    assert found.mean == pytest.approx(iqm(strata))
    assert found.low < found.mean < found.high


# --- equivalence --------------------------------------------------------------------------------------------


@given(arrays(float, 6, elements=st.floats(0, 1).map(lambda value: round(value, 3))), st.floats(0.01, 0.5))
def test_two_one_sided_tests_are_scipys(values: np.ndarray, margin: float) -> None:
    differences = values - 0.5
    if np.ptp(differences) < 1e-6:
        return
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    found = two_one_sided(values, np.full(6, 0.5), margin=margin)
    assert found.p == pytest.approx(max(above, below), abs=1e-9)
    assert (found.p <= 0.05) == (-margin <= found.low and found.high <= margin)
    assert found[1:3] == pytest.approx(t_interval(differences, level=0.9)[1:3])


def test_equivalence_without_a_spread_or_without_pairs() -> None:
    inside = two_one_sided([0.5, 0.6, 0.7, 0.8, 0.9], [0.49, 0.59, 0.69, 0.79, 0.89], margin=0.02)
    assert inside.p == 2.0**-5
    assert (
        inside.p == stats.binomtest(0, 5, alternative="less").pvalue
    )  # no difference of five beyond the margin
    assert two_one_sided([0.5, 0.6], [0.4, 0.5], margin=0.02).p == 1.0
    assert math.isnan(two_one_sided([0.5], [0.5], margin=0.02).p)
    with pytest.raises(ValueError, match="margin must be above 0, got 0"):
        two_one_sided([0.5, 0.6], [0.5, 0.6], margin=0)


def test_equivalence_over_strata_is_that_of_one_where_there_is_one_and_of_its_interval_else() -> None:
    a, b = UNEQUAL[0], np.linspace(0.2, 0.4, 5)
    assert two_one_sided_within_strata([a], [b], margin=0.2) == pytest.approx(two_one_sided(a, b, margin=0.2))
    zeros = [np.zeros(len(values)) for values in UNEQUAL]
    low, high = pooled_t(UNEQUAL, level=0.9)[1:3]
    for margin in (high - 1e-3, high + 1e-3):
        found = two_one_sided_within_strata(UNEQUAL, zeros, margin=margin)
        assert found[1:3] == pytest.approx((low, high))
        assert (found.p <= 0.05) == (margin > high)
    assert math.isnan(two_one_sided_within_strata([[0.1, 0.2], [0.3]], [[0.1, 0.2], [0.3]], margin=0.2).p)


def test_the_detectable_mean_over_strata_is_found_with_the_promised_power() -> None:
    """With like spreads; the freedom is estimated, so the figure varies from world to world."""
    rng = np.random.default_rng(0)
    worlds = rng.normal(size=(1000, 3, 8))
    true = float(np.mean([detectable_within_strata(world) for world in worlds[:100]]))
    found = [pooled_paired_t(world + true, np.zeros((3, 8))).p <= 0.05 for world in worlds]
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)
    one = rng.normal(size=6)
    assert detectable_within_strata([one]) == pytest.approx(
        minimum_detectable_difference(float(np.std(one, ddof=1)), 6)
    )
    assert math.isnan(detectable_within_strata([[0.1]]))


# --- failures -----------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.just(math.nan), st.just(math.inf), FIGURES), max_size=8))
def test_failures_count_as_the_stated_worst_and_are_counted(values: list[float]) -> None:
    filled = failures_as(values, 0.0)
    assert filled.values.tolist() == [value if math.isfinite(value) else 0.0 for value in values]
    assert filled.filled == sum(not math.isfinite(value) for value in values)
    assert bool(filled.said) == bool(filled.filled)


def test_the_worst_figure_must_be_one() -> None:
    with pytest.raises(ValueError, match="must be a number, got nan"):
        failures_as([0.5], math.nan)
