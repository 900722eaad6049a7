"""InfoMEC against scikit-learn's estimators, sources that latents hold or mix, and cases known by hand."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from sklearn.feature_selection import mutual_info_classif
from sklearn.metrics import mutual_info_score

from harness.probes import infomec as module
from harness.probes.infomec import (
    compactness,
    explicitness,
    modularity,
    normalised_information,
    of_counts,
    of_neighbours,
    varying,
)

RNG = np.random.default_rng(0)
SOURCES = RNG.integers(0, [4, 3, 5], size=(150, 3))


def test_the_examples_hold():
    assert doctest.testmod(module).failed == 0


def test_information_from_counts_is_that_of_scikit_learn():
    one, other = RNG.integers(0, 5, 80), RNG.integers(-2, 2, 80)
    assert of_counts(one, other) == pytest.approx(mutual_info_score(one, other), abs=1e-12)
    assert of_counts(one, one) == pytest.approx(mutual_info_score(one, one), abs=1e-12)


@pytest.mark.parametrize(("values", "neighbours"), [(2, 1), (2, 10), (8, 3), (8, 10), (40, 1)])
def test_information_by_neighbours_is_that_of_scikit_learn(values, neighbours):
    """Of classes of more than twice as many items as neighbours: in smaller ones its distances are rounded."""
    source = np.arange(200) % values
    latent = source % 3 + RNG.normal(size=200)
    expected = mutual_info_classif(
        latent[:, None], source, discrete_features=False, n_neighbors=neighbours, random_state=0
    )
    assert of_neighbours(source, latent, neighbours) == pytest.approx(expected[0], abs=1e-9)


def test_four_items_by_hand():
    """Radii by the nearest of the same value: 1, 1, 3, 3; nearer than that lie 1, 1, 3 and 1 items, itself included."""
    source, latent = np.array([0, 0, 1, 1]), np.array([0.0, 1.0, 2.5, 5.5])
    harmonic = {1: 0.0, 2: 1.0, 3: 1.5, 4: 11 / 6}  # psi(n) + gamma
    expected = harmonic[4] + harmonic[1] - harmonic[2] - np.mean([harmonic[n] for n in (1, 1, 3, 1)])
    assert of_neighbours(source, latent, 1) == pytest.approx(expected)


def test_a_value_of_one_item_is_left_out():
    source, latent = np.array([0, 0, 1, 1, 7]), np.array([0.0, 1.0, 2.5, 5.5, 0.5])
    assert of_neighbours(source, latent, 1) == of_neighbours(source[:4], latent[:4], 1)
    assert of_neighbours(np.arange(5), latent) == 0


@pytest.mark.parametrize("size", [2, 5])
def test_a_source_for_each_latent_is_the_best_and_all_in_all_the_worst(size):
    assert (modularity(np.eye(size)), compactness(np.eye(size))) == (1, 1)
    assert (modularity(np.ones((size, size))), compactness(np.ones((size, size)))) == pytest.approx((0, 0))


def test_two_latents_for_one_source_are_modular_and_not_compact():
    nmi = [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    assert modularity(nmi) == 1
    assert compactness(nmi) == pytest.approx(((0.5 + 1) / 2 - 1 / 3) * 3 / 2)


def test_a_latent_that_hardly_varies_does_not_count():
    latents = np.array([[0.0, 0.0, 1.0], [10.0, 0.4, 1.0], [5.0, 0.6, 1.0]])
    assert varying(latents).tolist() == [True, True, False]
    assert varying(latents * [1, 0.5, 1]).tolist() == [True, False, False]
    assert varying(np.array([[0, 0], [1, 0]])).tolist() == [True, False]


def test_sources_in_other_order_and_names_are_held_one_each():
    latents = 7 - SOURCES[:, [2, 0, 1]]
    nmi = normalised_information(SOURCES, latents)
    assert np.argmax(nmi, axis=1).tolist() == [1, 2, 0]
    assert nmi.max(axis=1) == pytest.approx([1, 1, 1])
    assert 0.85 < modularity(nmi) < 1  # items are few: unrelated ones inform a little
    assert explicitness(SOURCES, latents).fitted == pytest.approx(1, abs=1e-3)


def test_a_mixture_is_as_explicit_and_neither_modular_nor_compact():
    mixed = SOURCES @ RNG.normal(size=(3, 3))
    nmi = normalised_information(SOURCES, mixed + 0.01 * RNG.normal(size=mixed.shape))
    held = normalised_information(SOURCES, SOURCES + 0.01 * RNG.normal(size=SOURCES.shape))
    assert modularity(nmi) < 0.7 < modularity(held)
    assert compactness(nmi) < 0.7 < compactness(held)


def test_noise_says_nothing_about_items_held_out():
    noise = RNG.normal(size=(150, 6))
    found = explicitness(SOURCES, noise)
    assert found.held_out < 0.05 < found.fitted
    assert found.converged


def test_order_of_items_and_scale_of_latents_change_nothing():
    latents = SOURCES + RNG.normal(size=SOURCES.shape)
    order = RNG.permutation(150)
    nmi = normalised_information(SOURCES, latents)
    assert normalised_information(SOURCES[order], 3 * latents[order] + 1) == pytest.approx(nmi, abs=1e-9)
    fitted = explicitness(SOURCES, latents).fitted
    assert explicitness(SOURCES[order], 3 * latents[order] + 1).fitted == pytest.approx(fitted, abs=1e-4)


def test_what_does_not_apply_is_nan():
    assert math.isnan(modularity(np.ones((1, 3))))
    assert math.isnan(compactness(np.ones((3, 1))))
    assert math.isnan(modularity([[1.0, 0.0], [1.0, 0.0]]))
    constant = np.zeros((20, 1), dtype=np.int64)
    assert np.isnan(normalised_information(constant, RNG.normal(size=(20, 2)))).all()
    assert math.isnan(explicitness(constant, RNG.normal(size=(20, 2))).fitted)
