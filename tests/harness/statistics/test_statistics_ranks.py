"""Ranks over scenarios: against scipy, scikit-posthocs, published tables and enumeration."""

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
    critical_difference,
    friedman,
    holm,
    mean_ranks,
    rank_groups,
    wilcoxon,
    wilcoxon_holm,
)

STEPS = st.integers(-8, 8).map(float)
NAMES = ("a", "b", "c", "d", "e")
RNG = np.random.default_rng(3)


def table(rows: int, columns: int) -> dict[str, np.ndarray]:
    return dict(
        zip(NAMES[:columns], RNG.normal(np.arange(columns) * 0.6, 1, size=(rows, columns)).T, strict=True)
    )


# --- signed ranks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 5, 6, 10, 25, 60])
def test_signed_ranks_without_ties_are_scipys(n: int) -> None:
    differences = RNG.normal(0.3, 1, size=n)
    assert wilcoxon(differences) == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)


@given(st.lists(STEPS, min_size=1, max_size=8))
def test_signed_ranks_with_ties_and_zeros_count_every_pattern(differences: list[float]) -> None:
    kept = np.array([value for value in differences if value])
    if not len(kept):
        assert wilcoxon(differences) == 1.0
        return
    ranks = stats.rankdata(np.abs(kept))
    sums = np.array(list(itertools.product([0, 1], repeat=len(kept)))) @ ranks
    observed = ranks[kept > 0].sum()
    smaller = min(observed, ranks.sum() - observed)
    assert wilcoxon(differences) == pytest.approx(min(1.0, 2 * np.mean(sums <= smaller + 1e-9)))


def test_many_pairs_are_near_to_normal() -> None:
    differences = RNG.normal(0.1, 1, size=300).round(1)
    expected = stats.wilcoxon(differences, method="approx", zero_method="wilcox").pvalue
    assert wilcoxon(differences) == pytest.approx(expected, rel=1e-6)
    exact = wilcoxon(differences[:200])
    assert exact == pytest.approx(stats.wilcoxon(differences[:200], method="approx").pvalue, abs=0.005)


def test_fewer_than_six_pairs_cannot_reach_five_per_cent_by_ranks_either() -> None:
    assert wilcoxon([1.0] * 5) == 2 / 2**5
    assert wilcoxon([1.0] * 6) == 2 / 2**6
    assert math.isnan(wilcoxon([math.nan]))


def test_all_pairs_of_signed_ranks_are_corrected_together() -> None:
    figures = table(9, 4)
    figures["b"] = np.append(figures["b"][:-1], math.nan)
    pairs = list(itertools.combinations(figures, 2))
    raw = []
    for first, second in pairs:
        both = np.isfinite(figures[first]) & np.isfinite(figures[second])
        raw.append(stats.wilcoxon(figures[first][both], figures[second][both], method="exact").pvalue)
    found = wilcoxon_holm(figures)
    assert [found[pair] for pair in pairs] == pytest.approx(holm(raw).tolist())
    assert all(found[second, first] == found[first, second] for first, second in pairs)
    assert len(found) == 12


# --- Friedman -----------------------------------------------------------------------------------------------


@given(
    st.tuples(st.integers(2, 8), st.integers(3, 5)).flatmap(
        lambda shape: arrays(float, shape, elements=STEPS)
    )
)
def test_friedmans_statistic_is_scipys_also_with_ties(values: np.ndarray) -> None:
    found = friedman(dict(zip(NAMES, values.T, strict=False)))
    if (values == values[:, :1]).all():
        assert found == (0.0, 1.0, 0.0, 1.0, len(values))
        return
    expected = stats.friedmanchisquare(*values.T)
    assert (found.chi2, found.p) == pytest.approx((expected.statistic, expected.pvalue), abs=1e-9)


def test_iman_and_davenports_form_is_the_f_of_an_analysis_of_variance_of_the_ranks() -> None:
    """Two ways, contenders and blocks, with what the blocks leave as the error."""
    figures = table(8, 4)
    ranks = np.array([stats.rankdata(-row) for row in np.array(list(figures.values())).T])
    between = 8 * np.square(ranks.mean(axis=0) - 2.5).sum()
    within = np.square(ranks - 2.5).sum() - between
    f = (between / 3) / (within / (3 * 7))
    found = friedman(figures)
    assert (found.f, found.f_p, found.blocks) == (pytest.approx(f), pytest.approx(stats.f.sf(f, 3, 21)), 8)


def test_two_contenders_are_a_sign_test_and_one_block_decides_nothing() -> None:
    """With two, chi^2 = (wins - losses)^2 / blocks, that of McNemar."""
    found = friedman({"a": [1.0, 1.0, 1.0, 0.0, 1.0], "b": [0.0, 0.0, 0.0, 1.0, 0.0]})
    assert (found.chi2, found.p) == pytest.approx(((4 - 1) ** 2 / 5, stats.chi2.sf(9 / 5, 1)))
    assert np.isnan(friedman({"a": [1.0], "b": [2.0], "c": [3.0]})[:4]).all()
    assert np.isnan(friedman({"a": [1.0, 2.0]})[:4]).all()
    certain = friedman({"a": [1.0, 2.0], "b": [2.0, 3.0], "c": [3.0, 4.0]})
    assert (certain.f, certain.f_p) == (math.inf, 0.0)


def test_a_block_with_a_gap_is_left_out_whole_and_lengths_must_agree() -> None:
    figures = {name: values.tolist() for name, values in table(6, 3).items()}
    gapped = {name: [*values, 9.0] for name, values in figures.items()} | {"b": [*figures["b"], math.nan]}
    assert friedman(gapped) == friedman(figures)
    assert mean_ranks(gapped) == mean_ranks(figures)
    with pytest.raises(ValueError, match="same length, got 2, 1"):
        friedman({"a": [1.0, 2.0], "b": [1.0]})
    assert np.isnan(list(mean_ranks({"a": [math.nan], "b": [1.0]}).values())).all()


# --- critical difference ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contenders", "q05", "q10"),
    [
        (2, 1.960, 1.645),
        (3, 2.343, 2.052),
        (4, 2.569, 2.291),
        (5, 2.728, 2.459),
        (6, 2.850, 2.589),
        (7, 2.949, 2.693),
        (8, 3.031, 2.780),
        (9, 3.102, 2.855),
        (10, 3.164, 2.920),
    ],
)
def test_the_critical_difference_is_that_of_the_published_table(
    contenders: int, q05: float, q10: float
) -> None:
    """Demsar 2006, table 5(a)."""
    scale = math.sqrt(contenders * (contenders + 1) / (6 * 14))
    assert critical_difference(contenders, 14) == pytest.approx(q05 * scale, abs=1e-3 * scale)
    assert critical_difference(contenders, 14, level=0.9) == pytest.approx(q10 * scale, abs=1e-3 * scale)


def test_groups_are_what_nemenyis_p_cannot_part() -> None:
    posthocs = pytest.importorskip("scikit_posthocs")
    figures = table(20, 5)
    p = posthocs.posthoc_nemenyi_friedman(np.array(list(figures.values())).T).to_numpy()
    found = rank_groups(figures)
    for (i, first), (j, second) in itertools.combinations(enumerate(figures), 2):
        assert any({first, second} <= set(group) for group in found.groups) == (p[i, j] > 0.05)
        assert (abs(found.ranks[first] - found.ranks[second]) >= found.critical_difference) == (
            p[i, j] <= 0.05
        )
    assert 1 < len(found.groups) < 5


def test_friedman_is_that_of_scikit_posthocs_and_so_is_wilcoxons_matrix() -> None:
    posthocs = pytest.importorskip("scikit_posthocs")
    figures = table(10, 4)
    p = posthocs.posthoc_wilcoxon(list(figures.values()), p_adjust="holm").to_numpy()
    found = wilcoxon_holm(figures)
    for (i, first), (j, second) in itertools.permutations(enumerate(figures), 2):
        assert found[first, second] == pytest.approx(p[i, j])


def test_ranks_by_hand_with_ties_and_in_either_direction() -> None:
    figures = {"a": [0.9, 0.8], "b": [0.9, 0.7], "c": [0.1, 0.8]}
    assert mean_ranks(figures) == {"a": 1.5, "b": 2.25, "c": 2.25}
    assert mean_ranks(figures, better="lower") == {"a": 2.5, "b": 1.75, "c": 1.75}
    assert list(rank_groups(figures).ranks) == ["a", "b", "c"]


def test_neighbours_share_groups_that_overlap_and_without_a_difference_all_are_one() -> None:
    """Mean ranks 1, 2, 3 over 10 blocks; CD = 2.343 sqrt(12/60) = 1.05 parts the ends only."""
    figures = {"a": [3.0] * 10, "b": [2.0] * 10, "c": [1.0] * 10}
    found = rank_groups(figures)
    assert found.groups == [("a", "b"), ("b", "c")]
    assert found.critical_difference == pytest.approx(2.343 * math.sqrt(0.2), abs=1e-3)
    assert rank_groups({"a": [3.0], "b": [2.0]}).groups == [("a", "b")]
    assert rank_groups({"a": [3.0] * 40, "b": [2.0] * 40}).groups == [("a",), ("b",)]
    assert math.isnan(critical_difference(1, 10))
    assert math.isnan(critical_difference(3, 1))
