"""Cauchy-Schwarz information against sums over densities, closed forms and cases known by hand."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace

import numpy as np
import pytest
from looks import hidden, look_at, moved, same, shuffled, turned
from scipy.stats import norm

from harness.contracts import HIDDEN
from harness.probes import cs_qmi as module
from harness.probes.cs_qmi import CSQMI, cs_qmi, equal_labels, normalised
from harness.probes.items import gaussian, squared_distances

RNG = np.random.default_rng(0)
ITEMS = look_at(90, 5, 3)
KERNEL = gaussian(squared_distances(ITEMS.features), 2.0)


def _measured(look, **values):
    return CSQMI(**values).measure(look, np.random.default_rng(0))


def test_the_examples_hold():
    assert doctest.testmod(module).failed == 0


def test_information_is_that_of_loops_over_pairs():
    labels = equal_labels(ITEMS.labels)
    n = len(labels)
    joint = sum(KERNEL[i, j] * labels[i, j] for i in range(n) for j in range(n)) / n**2
    product = sum(map(sum, KERNEL)) * sum(map(sum, labels)) / n**4
    across = sum(sum(KERNEL[i]) * sum(labels[i]) for i in range(n)) / n**3
    expected = math.log2(joint) + math.log2(product) - 2 * math.log2(across)
    assert cs_qmi(KERNEL, labels) == pytest.approx(expected, abs=1e-12)


def test_information_is_the_divergence_of_estimated_densities():
    """-log2 (int p q)^2 / (int p^2 int q^2), p a density over the line for each class, q the product of the two.

    Gaussians of variance v multiply to a Gaussian of variance 2 v of their distance: the kernel has s^2 = 2 v.
    """
    x, y, v = RNG.normal(size=12), RNG.integers(0, 3, 12), 0.3
    grid = np.linspace(-8, 8, 4001)
    bumps = norm.pdf(grid[:, None], x, math.sqrt(v))
    joint = np.array([bumps[:, y == c].sum(axis=1) for c in range(3)]) / 12
    product = joint.sum(axis=0) * joint.sum(axis=1, keepdims=True) / joint.sum(axis=1).sum()
    product *= joint.sum() / product.sum()
    divergence = -math.log2((joint * product).sum() ** 2 / ((joint**2).sum() * (product**2).sum()))
    kernel = gaussian(squared_distances(x[:, None]), math.sqrt(2 * v))
    assert cs_qmi(kernel, equal_labels(y)) == pytest.approx(divergence, abs=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_labels_themselves_carry_the_logarithm_of_the_number_of_even_classes(classes):
    labels = equal_labels(np.repeat(np.arange(classes), 4))
    assert cs_qmi(labels, labels) == pytest.approx(math.log2(classes), abs=1e-12)
    assert normalised(labels, labels) == pytest.approx(1)


def test_two_uneven_classes_by_hand():
    """Shares 3/4 and 1/4: log2 of 10/16 three times, less twice log2 of 28/64."""
    labels = equal_labels(np.array([0, 0, 0, 1]))
    assert cs_qmi(labels, labels) == pytest.approx(3 * math.log2(10 / 16) - 2 * math.log2(28 / 64), abs=1e-12)


def test_a_product_of_features_and_labels_informs_of_nothing():
    """Every value of the features with every label."""
    values = RNG.normal(size=7)
    x, labels = np.repeat(values, 3)[:, None], np.tile(np.arange(3), 7)
    assert cs_qmi(gaussian(squared_distances(x), 1.0), equal_labels(labels)) == pytest.approx(0, abs=1e-12)


def test_it_is_symmetric_and_never_below_zero():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        one = gaussian(squared_distances(rng.normal(size=(15, 2))), rng.uniform(0.2, 5))
        other = equal_labels(rng.integers(0, 4, 15))
        assert cs_qmi(one, other) == pytest.approx(cs_qmi(other, one), abs=1e-12)
        assert cs_qmi(one, other) >= -1e-12


def test_a_constant_kernel_has_no_normalised_information():
    assert math.isnan(normalised(np.ones((5, 5)), equal_labels(np.arange(5))))


def test_order_axes_scale_and_place_of_features_change_nothing():
    look = moved(ITEMS)
    found = _measured(look)
    assert same(found, _measured(shuffled(look)))
    assert same(found, _measured(turned(look)))
    assert same(found, _measured(moved(ITEMS, 50.0, 2.0)))
    assert not same(_measured(look, sigma=1.0), _measured(moved(ITEMS, 2.0), sigma=1.0))


def test_the_bandwidth_is_the_median_distance():
    distance = np.sqrt(np.median(squared_distances(ITEMS.features)[np.triu_indices(90, k=1)]))
    assert same(_measured(ITEMS), _measured(ITEMS, sigma=float(distance)))


def test_true_labels_tell_more_than_wrong_ones_and_those_more_than_random_ones():
    found = _measured(ITEMS)
    assert found["cs_qmi"] > found["cs_qmi_given"] > 2 * found["cs_qmi_random"] > 0


def test_what_does_not_apply_is_nan():
    assert all(map(math.isnan, _measured(hidden(ITEMS)).values()))
    assert all(map(math.isnan, _measured(replace(ITEMS, features=np.ones_like(ITEMS.features))).values()))
    assert all(
        map(math.isnan, _measured(replace(ITEMS, features=np.full_like(ITEMS.features, np.nan))).values())
    )
    some = replace(ITEMS, given=np.full_like(ITEMS.given, HIDDEN))
    assert {name for name, figure in _measured(some).items() if math.isnan(figure)} == {"cs_qmi_given"}
