"""Diffusion spectral entropy and information against other derivations and cases known by hand."""

from __future__ import annotations

import doctest
import math
import random
from dataclasses import replace

import numpy as np
import pytest
from looks import hidden, look_at, moved, same, shuffled, turned
from scipy.spatial.distance import cdist

from harness.contracts import HIDDEN
from harness.probes import dse as module
from harness.probes.dse import DSE, spectral_entropy, spectral_information
from harness.probes.items import gaussian, squared_distances

ITEMS = look_at(160, 5, 3)
X = np.asarray(ITEMS.features, dtype=np.float64)


def _measured(look, **values):
    return DSE(**values).measure(look, np.random.default_rng(0))


def _by_transition_matrix(x, sigma, t, anisotropic):
    """Return the entropy from eigenvalues of the row-stochastic matrix, which is not symmetric."""
    g = np.exp(-(cdist(x, x) ** 2) / (2 * sigma**2))
    if anisotropic:
        g = g / np.sqrt(np.outer(g.sum(axis=1), g.sum(axis=1)))
    power = np.abs(np.linalg.eigvals(g / g.sum(axis=1, keepdims=True)).real) ** t
    share = power[power > 0] / power.sum()
    return -(share * np.log2(share)).sum()


def test_the_examples_hold():
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("walk", ["walk", "anisotropic"])
@pytest.mark.parametrize(("sigma", "t"), [(0.5, 1), (3.0, 1), (10.0, 2)])
def test_entropy_is_that_of_the_walk(walk, sigma, t):
    found = spectral_entropy(gaussian(squared_distances(X), sigma), t, walk)
    assert found == pytest.approx(_by_transition_matrix(X, sigma, t, walk == "anisotropic"), abs=1e-9)


def test_two_items_by_hand():
    """K has rows (1, g) / (1 + g): eigenvalues 1 and (1 - g) / (1 + g)."""
    g = math.exp(-0.5 * (1.5 / 2) ** 2)
    second = (1 - g) / (1 + g)
    p = np.array([1, second]) / (1 + second)
    found = spectral_entropy(gaussian(squared_distances([[0.0], [1.5]]), 2.0))
    assert found == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-9)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_entropy_counts_groups_that_do_not_see_each_other(groups):
    x = np.repeat(1000.0 * np.arange(groups), 5)[:, None]
    assert spectral_entropy(gaussian(squared_distances(x), 10)) == pytest.approx(math.log2(groups), abs=1e-9)


def test_time_leaves_the_slowest_eigenvalue():
    kernel = gaussian(squared_distances(X), 3.0)
    entropies = [spectral_entropy(kernel, t) for t in (1, 2, 8, 4000)]
    assert entropies == sorted(entropies, reverse=True)
    assert entropies[-1] == pytest.approx(0, abs=1e-6)


def test_information_is_that_of_the_published_subsets():
    kernel = gaussian(squared_distances(X), 2.0)
    expected = 0.0
    for label in np.unique(ITEMS.labels):
        rows = np.flatnonzero(ITEMS.labels == label)
        random.seed(0)
        draws = [random.sample(range(len(X)), k=len(rows)) for _ in range(5)]
        subsets = np.mean([_by_transition_matrix(X[draw], 2.0, 1, False) for draw in draws])
        expected += len(rows) / len(X) * (subsets - _by_transition_matrix(X[rows], 2.0, 1, False))
    assert spectral_information(kernel, ITEMS.labels) == pytest.approx(expected, abs=1e-9)


def test_information_of_points_far_apart_by_class_by_hand():
    """Two classes of 4 equal items each: within a class entropy is 0, a subset of 4 has items of both or of one."""
    x = np.repeat([0.0, 1000.0], 4)[:, None]
    random.seed(0)
    kinds = [{i // 4 for i in random.sample(range(8), k=4)} for _ in range(5)]
    found = spectral_information(gaussian(squared_distances(x), 10), np.repeat([0, 1], 4))
    assert found == pytest.approx(np.mean([len(kind) - 1 for kind in kinds]), abs=1e-9)


def test_order_and_axes_of_features_change_nothing():
    look = moved(ITEMS)
    for sigma in ("median", 3.0):
        found = _measured(look, sigma=sigma)
        assert same(found, _measured(shuffled(look), sigma=sigma))
        assert same(found, _measured(turned(look), sigma=sigma))


def test_scale_matters_at_a_fixed_bandwidth_alone():
    look, larger = moved(ITEMS), moved(ITEMS, 30.0, 4.0)
    assert same(_measured(look), _measured(larger))
    assert _measured(larger, sigma=10.0)["dse"] > _measured(look, sigma=10.0)["dse"] + 1


def test_true_labels_tell_more_than_wrong_ones_and_random_ones_nothing():
    found = _measured(ITEMS)
    assert found["dsmi"] > found["dsmi_given"] > found["dsmi_random"] + 0.1
    assert found["dsmi_random"] == pytest.approx(0, abs=0.15)


def test_small_classes_are_left_out_of_the_information():
    few = np.flatnonzero(ITEMS.labels == ITEMS.labels[0])[:3]
    labels = ITEMS.labels.copy()
    labels[few] = 9
    dropped = labels.copy()
    dropped[few] = HIDDEN
    one, other = (_measured(replace(ITEMS, labels=some, given=some)) for some in (labels, dropped))
    assert one["dsmi"] == pytest.approx(other["dsmi"], abs=1e-9)
    assert _measured(replace(ITEMS, labels=labels), smallest=1)["dsmi"] != pytest.approx(
        one["dsmi"], abs=1e-3
    )


def test_what_does_not_apply_is_nan():
    found = _measured(hidden(ITEMS))
    assert found["dse"] == pytest.approx(_measured(ITEMS)["dse"], abs=1e-9)
    assert all(math.isnan(found[name]) for name in ("dsmi", "dsmi_given", "dsmi_random"))
    one_point = replace(ITEMS, features=np.ones_like(ITEMS.features))
    assert all(map(math.isnan, _measured(one_point).values()))
    assert _measured(one_point, sigma=1.0)["dse"] == pytest.approx(0, abs=1e-9)
    broken = np.full_like(ITEMS.features, np.nan)
    assert all(map(math.isnan, _measured(replace(ITEMS, features=broken)).values()))
