"""Nearest-neighbour information against loops over pairs, closed forms and Gaussians whose information is known."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace

import numpy as np
import pytest
from looks import hidden, look_at, moved, rotation, same, shuffled, turned

from harness.probes import kl_information as module
from harness.probes.kl_information import (
    KLInformation,
    bottleneck,
    entropy,
    information,
    information_with_labels,
    neighbour_weights,
    principal_components,
)

RNG = np.random.default_rng(0)
ITEMS = look_at(200, 6, 3)


def _measured(look, **values):
    return KLInformation(**values).measure(look, np.random.default_rng(0))


def _by_loops(x, neighbours):
    """Return the entropy from all distances, with the volume of the ball and the digamma function as sums."""
    n, d = x.shape
    ball = math.pi ** (d / 2) / math.gamma(d / 2 + 1)
    weights = neighbour_weights(neighbours, d)
    total = 0.0
    for i in range(n):
        distances = sorted(math.dist(x[i], x[j]) for j in range(n) if j != i)
        for k in range(1, neighbours + 1):
            digamma = -np.euler_gamma + sum(1 / m for m in range(1, k))
            density = math.exp(digamma) / (ball * distances[k - 1] ** d * (n - 1))
            total -= weights[k - 1] * math.log(density)
    return total / n


def test_the_examples_hold():
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(("dimensions", "neighbours"), [(1, 1), (3, 5), (5, 5), (7, 14), (12, 30)])
def test_entropy_is_that_of_loops_over_pairs(dimensions, neighbours):
    x = RNG.normal(size=(40, dimensions))
    assert entropy(x, neighbours, whiten=False) == pytest.approx(_by_loops(x, neighbours), rel=1e-10)


@pytest.mark.parametrize(("dimensions", "neighbours"), [(5, 20), (6, 20), (8, 40), (10, 60)])
def test_weights_sum_to_one_and_cancel_the_bias_where_that_can_be_done(dimensions, neighbours):
    weights = neighbour_weights(neighbours, dimensions)
    assert weights.sum() == pytest.approx(1, abs=1e-9)
    for order in range(1, dimensions // 4 + 1):
        growth = [math.gamma(k + 2 * order / dimensions) / math.gamma(k) for k in range(1, neighbours + 1)]
        assert weights @ growth == pytest.approx(0, abs=1e-8)
    places = {i * neighbours // dimensions for i in range(1, dimensions + 1)}
    assert {k + 1 for k in np.flatnonzero(np.abs(weights) > 1e-9)} == places


def test_few_dimensions_have_the_nearest_neighbour_alone():
    assert neighbour_weights(5, 4).tolist() == [1, 0, 0, 0, 0]


@pytest.mark.parametrize(("dimensions", "neighbours"), [(2, 5), (6, 20)])
def test_entropy_follows_linear_maps(dimensions, neighbours):
    """H(A x + b) = H(x) + log |det A|, exactly where x is whitened, and for turns and scales where not."""
    x = RNG.normal(size=(80, dimensions))
    q, a = rotation(dimensions, 3), RNG.normal(size=(dimensions, dimensions))
    shift = math.log(abs(np.linalg.det(a)))
    assert entropy(x @ a + 5, neighbours) == pytest.approx(entropy(x, neighbours) + shift, abs=1e-9)
    scaled = entropy(3 * x @ q - 1, neighbours, whiten=False)
    plain = entropy(x, neighbours, whiten=False)
    assert scaled == pytest.approx(plain + dimensions * math.log(3), abs=1e-9)


def test_entropy_of_many_gaussian_items_is_the_closed_form():
    for dimensions in (1, 2, 4):
        x = np.random.default_rng(dimensions).normal(size=(6000, dimensions))
        assert entropy(x) == pytest.approx(dimensions / 2 * math.log(2 * math.pi * math.e), abs=0.08)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_information_of_correlated_gaussians_is_the_closed_form(correlation):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(6000, 1))
    z = correlation * x + math.sqrt(1 - correlation**2) * rng.normal(size=(6000, 1))
    assert information(x, z) == pytest.approx(-math.log(1 - correlation**2) / 2, abs=0.08)


@pytest.mark.parametrize("sizes", [(6, 6), (10, 7, 20)])
def test_classes_far_apart_on_a_line_by_hand(sizes):
    """No neighbour is of another class, and on a line whitening changes scale alone: what is left is log (N - 1)."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    x = (RNG.normal(size=sum(sizes)) + 1000.0 * labels)[:, None]
    expected = sum(n / sum(sizes) * math.log((sum(sizes) - 1) / (n - 1)) for n in sizes)
    assert information_with_labels(x, labels) == pytest.approx(expected, abs=1e-6)


def test_twins_have_an_entropy_of_minus_infinity_and_too_few_items_none():
    x = np.array([[0.0], [0.0], [1.0], [2.0], [3.5], [4.0], [7.0]])
    assert entropy(x) == -math.inf
    assert math.isnan(entropy(x[2:]))
    assert math.isnan(entropy(np.ones((20, 2))))
    assert math.isnan(entropy(np.column_stack([x[2:], x[2:]]), 2))


def test_principal_components_keep_the_largest_variance_whatever_the_axes():
    x = RNG.normal(size=(50, 3)) @ np.diag([5.0, 1.0, 0.2])
    scores, kept = principal_components(x, 2)
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    assert np.abs(scores) == pytest.approx(np.abs(u[:, :2] * s[:2]), abs=1e-9)
    assert kept == pytest.approx((s[:2] ** 2).sum() / (s**2).sum())
    assert principal_components(x @ rotation(3, 5), 2)[0] == pytest.approx(scores, abs=1e-9)


def test_an_autoencoder_gives_back_a_curve_that_a_line_cannot():
    angle = np.linspace(0, 5, 120)
    x = np.column_stack([np.cos(angle), np.sin(angle)])
    middle, kept = bottleneck(x, 1, seed=0)
    assert middle.shape == (120, 1)
    assert kept > 0.97 > principal_components(x, 1)[1]
    assert np.array_equal(bottleneck(x, 1, seed=0)[0], middle)


def test_order_axes_scale_and_place_of_features_change_nothing():
    look = moved(ITEMS)
    found = _measured(look)
    assert same(found, _measured(shuffled(look)))
    assert same(found, _measured(turned(look)), 1e-7)
    assert same(found, _measured(moved(ITEMS, 20.0, 7.0)), 1e-7)
    assert same(_measured(look, compress="autoencoder"), _measured(shuffled(look), compress="autoencoder"))


def test_true_labels_tell_more_than_wrong_ones_and_those_more_than_random_ones():
    found = _measured(ITEMS)
    assert found["kl_excess"] > found["kl_excess_given"] > 0.1
    excess = found["kl_information"] - found["kl_information_random"]
    assert found["kl_excess"] == pytest.approx(excess)


def test_figures_are_the_information_of_the_noisy_components_in_bits():
    rng = np.random.default_rng(0)
    rng.permutation(len(ITEMS.labels)), rng.integers(2**31)
    x = np.asarray(ITEMS.features, dtype=np.float64)
    order = np.argsort(((x - x.mean(axis=0)) ** 2).sum(axis=1))
    scores, kept = principal_components(x[order], 2)
    noisy = scores + 0.1 * math.sqrt((scores**2).mean()) * rng.standard_normal(scores.shape)
    found = _measured(ITEMS, dimensions=2, noise=0.1)
    assert found["kl_information"] == pytest.approx(
        information_with_labels(noisy, ITEMS.labels[order]) / math.log(2)
    )
    assert found["kl_kept"] == pytest.approx(kept)


def test_what_does_not_apply_is_nan():
    found = _measured(hidden(ITEMS))
    assert {name for name, figure in found.items() if not math.isnan(figure)} == {"kl_kept"}
    one_point = replace(ITEMS, features=np.ones_like(ITEMS.features))
    assert all(map(math.isnan, _measured(one_point).values()))
    assert all(map(math.isnan, _measured(one_point, compress="autoencoder").values()))
    twins = replace(ITEMS, features=np.repeat(ITEMS.features[:100], 2, axis=0))
    assert math.isnan(_measured(twins, noise=0.0)["kl_information"])
    broken = replace(ITEMS, features=np.full_like(ITEMS.features, np.inf))
    assert all(map(math.isnan, _measured(broken).values()))
