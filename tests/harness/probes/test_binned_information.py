"""Information by bins and kernels, against counts by dictionaries, published formulas and known cases."""

from __future__ import annotations

import doctest
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from looks import hidden, look_at, moved, same, shuffled, turned
from scipy.spatial.distance import cdist

from harness.probes import binned_information as module
from harness.probes.binned_information import (
    BinnedInformation,
    adaptive_edges,
    binned,
    by_layer,
    by_unit,
    information,
    kernel_information,
    lowest_edge,
    noise_kernel,
)
from harness.probes.items import squared_distances

RNG = np.random.default_rng(0)
ITEMS = look_at(150, 5, 3)
X = np.asarray(ITEMS.features, dtype=np.float64)


def _measured(look, **values):
    return BinnedInformation(**values).measure(look, np.random.default_rng(0))


def _entropy(counts):
    shares = np.array(list(counts)) / sum(counts)
    return -(shares * np.log2(shares)).sum()


def test_the_examples_hold():
    assert doctest.testmod(module).failed == 0


def test_edges_by_hand():
    values = np.array([[0.0, 1.0, 2.0, 2.0], [3.0, 4.0, 5.0, 6.0]])
    assert adaptive_edges(values, 3).tolist() == [0, 1, 3, 5, 6]  # 6 distinct above 0, two in each part
    assert adaptive_edges(values, 4).tolist() == [0, 1, 2, 4, 5, 6]  # from the 0th, 1.5th, 3rd and 4.5th
    assert adaptive_edges(np.zeros((2, 2)), 4).tolist() == [0]


def test_an_activation_is_in_the_bin_whose_edge_is_the_last_at_or_below_it():
    edges = np.array([0, 1, 1, 3], dtype=np.float32)
    assert binned(np.array([0.0, 0.5, 1.0, 2.9, 3.0, 8.0]), edges).tolist() == [0, 0, 2, 2, 3, 3]
    assert binned(np.array([-1.0]), edges).tolist() == [0]


def test_bins_hold_as_many_distinct_activations():
    values = RNG.permutation(np.arange(1.0, 241.0)).reshape(60, 4)
    counts = np.bincount(binned(values, adaptive_edges(values, 8)).ravel())
    assert counts.tolist() == [
        0,
        30,
        30,
        30,
        30,
        30,
        30,
        30,
        29,
        1,
    ]  # nothing at 0; the largest has an edge of its own


@pytest.mark.parametrize(
    ("values", "low"), [([0.0, 3.0], 0), ([0.5, 3.0], 0), ([-0.9, 1.0], -1.000001), ([-2.0, 1.0], -2)]
)
def test_the_lowest_edge_follows_the_activation_function(values, low):
    assert lowest_edge(np.array(values)) == low


def test_information_of_layers_and_units_is_that_of_counts_by_dictionaries():
    states, labels = RNG.integers(0, 3, (60, 2)), RNG.integers(0, 4, 60)
    for columns, found in [
        ([0, 1], information(by_layer(states, labels))),
        ([0], [figure[0] for figure in information(by_unit(states, labels))]),
        ([1], [figure[1] for figure in information(by_unit(states, labels))]),
    ]:
        rows = [tuple(row) for row in states[:, columns]]
        whole = _entropy(Counter(rows).values())
        within = 0.0
        for label in set(labels.tolist()):
            inside = [row for row, own in zip(rows, labels, strict=True) if own == label]
            within += len(inside) / 60 * _entropy(Counter(inside).values())
        assert tuple(found) == pytest.approx((whole, whole - within), abs=1e-12)


@pytest.mark.parametrize("bound", ["upper", "lower"])
def test_information_by_kernels_is_entropy_less_that_of_the_noise(bound):
    """The estimators as published: h_KL, and h_BD(x, v) = h_KL(x, 4 v) + d / 2 log(1 / 4), in nats."""
    v, d = 0.4, X.shape[1]

    def upper(x, v):
        sums = np.exp(-(cdist(x, x) ** 2) / (2 * v)).mean(axis=1)
        return d / 2 - np.log(sums).mean() + d / 2 * math.log(2 * math.pi * v)

    def entropy(x):
        return upper(x, v) if bound == "upper" else upper(x, 4 * v) + d / 2 * math.log(1 / 4)

    noise = d / 2 * (math.log(2 * math.pi * v) + 1)
    within = sum((ITEMS.labels == c).mean() * entropy(X[ITEMS.labels == c]) for c in np.unique(ITEMS.labels))
    found = kernel_information(noise_kernel(squared_distances(X), v, bound), ITEMS.labels)
    assert found.inputs == pytest.approx((entropy(X) - noise) / math.log(2), abs=1e-10)
    assert found.labels == pytest.approx((entropy(X) - within) / math.log(2), abs=1e-10)


def test_items_far_apart_have_all_information_and_twins_none():
    labels = np.repeat([0, 1], 4)
    apart = kernel_information(noise_kernel(squared_distances(100 * np.arange(8.0)[:, None]), 1.0), labels)
    assert (float(apart.inputs), float(apart.labels)) == pytest.approx((3, 1))
    twins = kernel_information(noise_kernel(np.zeros((8, 8)), 1.0), labels)
    assert (float(twins.inputs), float(twins.labels)) == (0, 0)


def test_the_lower_bound_is_below_the_upper():
    for variance in ("scaled", "median", "published"):
        low, high = (
            _measured(ITEMS, variance=variance, bound=bound, by="layer") for bound in ("lower", "upper")
        )
        assert low["kde_inputs"] < high["kde_inputs"]
        assert low["binned"] == high["binned"]


def test_a_wide_layer_says_the_same_whatever_its_features_are():
    wide = replace(ITEMS, features=RNG.normal(size=(150, 60)).astype(np.float32))
    found = _measured(wide, by="layer")
    assert found["binned_inputs"] == pytest.approx(math.log2(150))
    assert found["binned"] == pytest.approx(_entropy(Counter(ITEMS.labels.tolist()).values()))
    assert found["binned_random"] == pytest.approx(found["binned"])


@pytest.mark.parametrize("by", ["units", "layer", "pca"])
def test_the_order_of_items_changes_nothing(by):
    assert same(_measured(ITEMS, by=by), _measured(shuffled(ITEMS), by=by))


@pytest.mark.parametrize("by", ["units", "layer", "pca"])
def test_scale_changes_nothing_where_the_noise_follows_it(by):
    for variance in ("scaled", "median"):
        values = {"by": by, "variance": variance}
        assert same(_measured(ITEMS, **values), _measured(moved(ITEMS, 4.0), **values))
    assert not same(
        _measured(ITEMS, variance="published"), _measured(moved(ITEMS, 4.0), variance="published")
    )


def test_principal_components_do_not_depend_on_the_axes_of_features():
    look = moved(ITEMS)
    for variance in ("scaled", "median"):
        found = _measured(look, by="pca", variance=variance)
        assert same(found, _measured(turned(look), by="pca", variance=variance), 1e-6)


def test_true_labels_tell_more_than_wrong_ones_and_those_more_than_random_ones():
    found = _measured(ITEMS)
    assert found["binned"] > found["binned_given"] > found["binned_random"]
    assert found["kde"] > found["kde_given"] > found["kde_random"]


def test_units_are_those_of_largest_variance():
    wide = np.concatenate([X, 1e-3 * RNG.normal(size=(150, 3))], axis=1).astype(np.float32)
    assert same(_measured(replace(ITEMS, features=wide), units=5), _measured(ITEMS), 1e-6)


def test_what_does_not_apply_is_nan():
    found = _measured(hidden(ITEMS))
    told = {name for name, figure in found.items() if not math.isnan(figure)}
    assert told == {"binned_inputs", "kde_inputs"}
    dead = _measured(replace(ITEMS, features=np.zeros_like(ITEMS.features)))
    assert (dead["binned_inputs"], dead["binned"]) == (0, 0)
    assert math.isnan(dead["kde"])
    assert all(
        map(math.isnan, _measured(replace(ITEMS, features=np.full_like(ITEMS.features, np.nan))).values())
    )
