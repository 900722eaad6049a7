"""Figures of neural collapse against hand calculation, explicit scatter matrices, and a simplex."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from looks import hidden, look_at, moved, same, shuffled, turned

from harness.contracts import HIDDEN
from harness.probes import neural_collapse as module
from harness.probes.neural_collapse import (
    NeuralCollapse,
    by_class,
    duality,
    normalised_variance,
    off_simplex,
    quotient,
    simplex,
    with_inverse,
)

RNG = np.random.default_rng(0)
ITEMS = look_at()


def _scatter(x, labels, centre):
    """Return S_W and S_B by loops over items and classes."""
    means = {c: x[labels == c].mean(axis=0) for c in np.unique(labels)}
    middle = x.mean(axis=0) if centre == "items" else np.mean(list(means.values()), axis=0)
    within = np.mean(
        [np.outer(row - means[c], row - means[c]) for row, c in zip(x, labels, strict=True)], axis=0
    )
    between = np.mean([np.outer(mean - middle, mean - middle) for mean in means.values()], axis=0)
    return within, between, np.array(list(means.values())), middle


def _measured(look, **values):
    return NeuralCollapse(**values).measure(look, np.random.default_rng(0))


def test_the_examples_hold():
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("centre", ["classes", "items"])
@pytest.mark.parametrize(("items", "features", "classes"), [(120, 6, 4), (40, 60, 5), (90, 3, 8)])
def test_nc1_is_that_of_the_scatter_matrices(centre, items, features, classes):
    look = look_at(items, features, classes)
    x = np.asarray(look.features, dtype=np.float64)
    within, between, _, _ = _scatter(x, look.labels, centre)
    found = by_class(x, look.labels, centre)
    assert quotient(found) == pytest.approx(np.trace(within) / np.trace(between), rel=1e-10)
    inverse = np.linalg.pinv(between, rcond=1e-10, hermitian=True)
    count = len(np.unique(look.labels))
    assert with_inverse(found) == pytest.approx(np.trace(within @ inverse) / count, rel=1e-8)


def test_the_variance_over_distances_is_the_mean_over_ordered_pairs():
    x = np.asarray(ITEMS.features, dtype=np.float64)
    groups = [x[ITEMS.labels == c] for c in np.unique(ITEMS.labels)]
    spread = [((g - g.mean(axis=0)) ** 2).sum(axis=1).mean() for g in groups]
    ordered = [
        (spread[i] + spread[j]) / (2 * ((groups[i].mean(axis=0) - groups[j].mean(axis=0)) ** 2).sum())
        for i, j in permutations(range(len(groups)), 2)
    ]
    assert normalised_variance(by_class(x, ITEMS.labels)) == pytest.approx(np.mean(ordered), rel=1e-10)


def test_one_class_spread_one_tenth_by_hand():
    x = [[0.9, 0.0], [1.1, 0.0], [-1.0, 0.0], [-1.0, 0.0]]
    found = by_class(x, np.array([0, 0, 1, 1]))
    assert quotient(found) == pytest.approx(0.005)  # mean of 0.01, 0.01, 0, 0 over 1
    assert normalised_variance(found) == pytest.approx(0.01 / 8)  # (0.01 + 0) / (2 * 4)
    assert simplex(found) == pytest.approx((0, 0, 0), abs=1e-12)


def test_class_means_by_hand_that_form_no_simplex():
    x = np.array([[2.0, 0.0], [0.0, 1.0], [-2.0, -1.0]])  # mean 0; lengths 2, 1, sqrt 5
    lengths = np.array([2, 1, math.sqrt(5)])
    cosines = np.array([0, -2 / math.sqrt(5), -1 / math.sqrt(5)])
    found = simplex(by_class(x, np.arange(3)))
    assert found.lengths == pytest.approx(
        math.sqrt(((lengths - lengths.mean()) ** 2).mean()) / lengths.mean()
    )
    assert found.angles == pytest.approx(math.sqrt(((cosines - cosines.mean()) ** 2).mean()))
    assert found.largest_angles == pytest.approx(np.abs(cosines + 0.5).mean())


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_everything_is_at_its_end_for_a_simplex_of_points_and_its_own_classifier(classes):
    corners = np.eye(classes) - 1 / classes
    labels = np.repeat(np.arange(classes), 3)
    logits = corners[labels] @ corners.T
    look = replace(
        ITEMS, features=corners[labels] + 5, head=3 * corners, logits=logits, labels=labels, given=labels
    )
    found = _measured(look)
    ends = dict.fromkeys(found, 0.0) | {"nc4": 1.0, "nearest_mean": 1.0}
    assert found == pytest.approx(ends, abs=1e-9)


def test_the_distance_of_products_from_a_simplex_by_hand():
    assert off_simplex(np.eye(2)) == pytest.approx(
        np.linalg.norm(np.eye(2) / math.sqrt(2) - [[0.5, -0.5], [-0.5, 0.5]])
    )
    assert off_simplex([[1.0, -1.0], [-1.0, 1.0]]) == pytest.approx(0)


def test_duality_goes_from_0_to_4_and_knows_no_scale():
    rows = RNG.normal(size=(4, 5))
    assert duality(rows, 7 * rows) == pytest.approx(0)
    assert duality(rows, -rows) == pytest.approx(4)
    assert duality([[1.0, 0.0]], [[0.0, 1.0]]) == pytest.approx(2)


def test_nc4_counts_where_the_classifier_decides_for_the_nearest_mean():
    labels = np.array([0, 0, 1, 1])
    look = replace(
        ITEMS,
        features=np.array([[0.0], [1.0], [9.0], [10.0]]),
        logits=np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]),
        head=np.array([[-1.0], [1.0]]),
        labels=labels,
        given=labels,
    )
    found = _measured(look)
    assert (found["nc4"], found["nearest_mean"]) == (0.75, 1.0)


@pytest.mark.parametrize("centre", ["classes", "items"])
def test_order_and_axes_of_features_change_nothing(centre):
    look = moved(ITEMS)
    found = _measured(look, centre=centre)
    assert not any(math.isnan(figure) for figure in found.values())
    assert same(found, _measured(shuffled(look), centre=centre))
    assert same(found, _measured(turned(look), centre=centre))


def test_scale_and_place_of_features_change_nothing():
    assert same(_measured(moved(ITEMS)), _measured(moved(ITEMS, 40.0, -3.0)))


def test_the_centre_is_a_choice_where_classes_are_uneven():
    one, other = _measured(ITEMS), _measured(ITEMS, centre="items")
    assert one["nc1"] != pytest.approx(other["nc1"], rel=1e-3)
    assert one["cdnv"] == pytest.approx(other["cdnv"])


def test_a_common_vector_in_all_rows_matters_unless_the_rows_are_centred():
    offset = replace(ITEMS, head=np.asarray(ITEMS.head) + 2)
    assert _measured(offset)["nc3"] != pytest.approx(_measured(ITEMS)["nc3"], rel=1e-2)
    one, other = (_measured(look, centre_head=True) for look in (ITEMS, offset))
    assert one["nc3"] == pytest.approx(other["nc3"], rel=1e-5)


def test_wrong_labels_are_less_collapsed_than_true_ones():
    found = _measured(ITEMS)
    assert found["nc1_given"] > found["nc1"]
    assert found["cdnv_given"] > found["cdnv"]


def test_items_without_a_label_are_left_out():
    some = ITEMS.labels.copy()
    some[::3] = HIDDEN
    kept = some != HIDDEN
    part = replace(
        ITEMS,
        features=ITEMS.features[kept],
        logits=ITEMS.logits[kept],
        labels=ITEMS.labels[kept],
        given=ITEMS.given[kept],
    )
    found, expected = (
        _measured(replace(ITEMS, labels=some, given=some)),
        _measured(replace(part, given=part.labels)),
    )
    assert same(found, expected)


def test_what_does_not_apply_is_nan():
    assert all(math.isnan(figure) for name, figure in _measured(hidden(ITEMS)).items() if name != "nc2_head")
    one_class = _measured(replace(ITEMS, labels=np.zeros_like(ITEMS.labels)))
    assert all(math.isnan(one_class[name]) for name in ("nc1", "nc1_inverse", "cdnv", "nc2_angles", "nc3"))
    far = _measured(replace(ITEMS, labels=ITEMS.labels + 50))
    assert all(math.isnan(far[name]) for name in ("nc3", "nc3_products", "nc4"))
    assert far["nc1"] == pytest.approx(_measured(ITEMS)["nc1"])
    bare = _measured(replace(ITEMS, head=None, logits=None))
    assert {name for name, figure in bare.items() if math.isnan(figure)} == {
        "nc2_head",
        "nc3",
        "nc3_products",
        "nc4",
    }
    broken = np.full_like(ITEMS.features, np.inf)
    assert all(math.isnan(figure) for figure in _measured(replace(ITEMS, features=broken)).values())


def test_figures_are_those_that_are_announced():
    announced = [figure.name for figure in NeuralCollapse.figures]
    assert sorted(_measured(ITEMS)) == sorted(announced) == sorted(_measured(hidden(ITEMS)))
