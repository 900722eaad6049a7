"""The rank-sum test against scipy's, against every choice counted one by one, and by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from harness.statistics import rank_sum, rank_sum_by_wins, rank_sum_within_strata, smallest_rank_sum_p


@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 13), (2, 62), (6, 4)])
def test_without_ties_it_is_scipys_and_its_own_by_wins(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(20):
        first, second = rng.normal(size=n) + 0.5, rng.normal(size=m)
        expected = stats.mannwhitneyu(first, second, alternative="greater", method="exact").pvalue
        assert rank_sum(first, second) == pytest.approx(expected)
        wins = int((first[:, None] > second).sum())
        assert rank_sum_by_wins(n, m)[wins] == pytest.approx(expected)


def steps(rng: np.random.Generator, most: int = 5) -> list[float]:
    """Return 1 to `most` figures of few values, some of them failures."""
    found: list[float] = rng.choice([-np.inf, 0.0, 0.5, 1.0], rng.integers(1, most + 1)).tolist()
    return found


@pytest.mark.parametrize("seed", range(60))
def test_with_ties_and_failures_every_choice_is_counted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = steps(rng), steps(rng)
    ranks = stats.rankdata([*first, *second])
    sums = [sum(chosen) for chosen in itertools.combinations(ranks, len(first))]
    expected = np.mean(np.array(sums) >= ranks[: len(first)].sum() - 1e-9)
    assert rank_sum(first, second) == pytest.approx(expected)


def test_figures_that_all_agree_say_nothing_and_no_figures_less() -> None:
    assert rank_sum([1.0, 1.0, 1.0], [1.0, 1.0]) == 1.0
    assert np.isnan(rank_sum([], [1.0]))


def test_the_smallest_p_is_that_of_series_apart() -> None:
    assert rank_sum([4.0, 5.0, 6.0], [1.0, 2.0, 3.0]) == smallest_rank_sum_p(3, 3) == 1 / 20
    assert rank_sum_by_wins(3, 3)[-1] == 1 / 20


@pytest.mark.parametrize("seed", range(30))
def test_within_strata_every_choice_of_places_is_counted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    strata = [(steps(rng, 1)[0], steps(rng)) for _ in range(rng.integers(1, 4))]
    ranks = [stats.rankdata([value, *again]) for value, again in strata]
    sums = [sum(chosen) for chosen in itertools.product(*ranks)]
    expected = np.mean(np.array(sums) >= sum(own[0] for own in ranks) - 1e-9)
    assert rank_sum_within_strata([([value], again) for value, again in strata]) == pytest.approx(expected)
