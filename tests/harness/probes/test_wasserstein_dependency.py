"""Wasserstein dependency against the whole linear programme, assignments, and cases known by hand."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace

import numpy as np
import pytest
from looks import hidden, look_at, moved, same, shuffled, turned
from scipy.optimize import linear_sum_assignment, linprog

from harness.probes import wasserstein_dependency as module
from harness.probes.items import squared_distances
from harness.probes.wasserstein_dependency import WassersteinDependency, dependency, transport

RNG = np.random.default_rng(0)
ITEMS = look_at(40, 3, 3, spread=1.0)


def _measured(look, **values):
    return WassersteinDependency(**values).measure(look, np.random.default_rng(0))


def _whole_programme(cost, supply, demand):
    n, m = cost.shape
    rows = np.array([np.outer(np.arange(n) == i, np.ones(m)).ravel() for i in range(n)])
    columns = np.array([np.outer(np.ones(n), np.arange(m) == j).ravel() for j in range(m)])
    found = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([supply, demand]))
    return found.fun


def _distances(x):
    return np.sqrt(squared_distances(x))


def test_the_examples_hold():
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(("rows", "columns"), [(1, 7), (7, 1), (6, 9), (20, 30)])
def test_transport_over_few_pairs_is_that_over_all(rows, columns):
    cost = RNG.uniform(size=(rows, columns))
    supply, demand = RNG.dirichlet(np.ones(rows)), RNG.dirichlet(np.ones(columns))
    assert transport(cost, supply, demand) == pytest.approx(_whole_programme(cost, supply, demand), abs=1e-9)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_transport_ends_whatever_the_scale_of_costs(scale):
    rng = np.random.default_rng(24)  # at 1e-3 pairs in use have a price off by what the solver allows
    cost, supply, demand = (
        rng.uniform(size=(12, 20)) * scale,
        rng.dirichlet(np.ones(12)),
        rng.dirichlet(np.ones(20)),
    )
    found = transport(cost, supply, demand)
    assert found == pytest.approx(scale * _whole_programme(cost / scale, supply, demand), rel=1e-7)


def test_transport_ends_where_distances_are_equal_many_times():
    rounded = np.round(np.random.default_rng(0).normal(size=(30, 2))).astype(np.float32)
    look = replace(look_at(30, 2, 3), features=rounded)
    assert 0 < _measured(look, shuffles=1)["wasserstein"] < 1


def test_transport_of_even_weights_is_an_assignment():
    cost = _distances(RNG.normal(size=(60, 2)))[:30, 30:]
    even = np.full(30, 1 / 30)
    assert transport(cost, even, even) == pytest.approx(cost[linear_sum_assignment(cost)].mean(), abs=1e-9)


def test_transport_on_a_line_is_the_area_between_distributions():
    x, y = np.sort(RNG.normal(size=25)), np.sort(RNG.normal(1, 2, size=25))
    even = np.full(25, 1 / 25)
    assert transport(np.abs(x[:, None] - y), even, even) == pytest.approx(np.abs(x - y).mean(), abs=1e-9)


@pytest.mark.parametrize("distance", [0.3, 1.0, 4.0])
def test_two_places_of_a_class_each_by_hand(distance):
    """A quarter of the weight has the other label at either place: it is moved along or changes its label."""
    x = distance * np.repeat([0.0, 1.0], 3)[:, None]
    apart = (np.repeat([0, 1], 3)[:, None] != np.arange(2)).astype(float)
    assert dependency(_distances(x), apart, np.array([0.5, 0.5])) == pytest.approx(min(distance, 1) / 2)


def test_features_that_meet_every_label_alike_are_independent_of_them():
    x, labels = np.repeat(RNG.normal(size=(5, 2)), 3, axis=0), np.tile(np.arange(3), 5)
    apart = (labels[:, None] != np.arange(3)).astype(float)
    assert dependency(_distances(x), apart, np.full(3, 1 / 3)) == pytest.approx(0, abs=1e-9)


def test_features_and_labels_are_alike():
    one, other = _distances(RNG.normal(size=(12, 2))), _distances(RNG.normal(size=(12, 1)))
    even = np.full(12, 1 / 12)
    assert dependency(one, other, even) == pytest.approx(dependency(other, one, even), abs=1e-9)


def test_dependency_rises_with_correlation_above_that_of_few_independent_items():
    x, noise = RNG.normal(size=(2, 14, 1))
    even = np.full(14, 1 / 14)
    found = [
        dependency(_distances(x), _distances(r * x + math.sqrt(1 - r**2) * noise), even)
        for r in (0.0, 0.9, 1.0)
    ]
    assert 0 < found[0] < found[1] < found[2]


def test_order_axes_scale_place_and_names_change_nothing():
    look = moved(look_at(24, 3, 3, spread=1.0))
    found = _measured(look, shuffles=1)
    renamed = replace(look, labels=look.labels + 7, given=look.given + 7)
    for other in (shuffled(look), turned(look), moved(look, 20.0, 7.0), renamed):
        assert same(found, _measured(other, shuffles=1), 1e-8)


def test_true_labels_depend_more_than_wrong_ones_and_those_more_than_random_ones():
    found = _measured(ITEMS)
    assert found["wasserstein"] > found["wasserstein_given"] > found["wasserstein_random"] > 0
    assert found["wasserstein_excess"] == pytest.approx(found["wasserstein"] - found["wasserstein_random"])


def test_what_does_not_apply_is_nan():
    assert all(map(math.isnan, _measured(hidden(ITEMS)).values()))
    assert all(map(math.isnan, _measured(replace(ITEMS, features=np.ones_like(ITEMS.features))).values()))
    assert all(
        map(math.isnan, _measured(replace(ITEMS, features=np.full_like(ITEMS.features, np.nan))).values())
    )
