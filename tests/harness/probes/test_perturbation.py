"""The model of perturbed collapse against its own gradient, a general minimiser, and limits known by hand."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace

import numpy as np
import pytest
from looks import hidden, look_at, moved, same, shuffled, turned
from scipy.optimize import minimize

from harness.probes import perturbation as module
from harness.probes.neural_collapse import by_class, quotient
from harness.probes.perturbation import Perturbation, minimiser, nearness

ITEMS = look_at(40, 4, 3, spread=1.5)
X = np.asarray(ITEMS.features, dtype=np.float64) / 3
TARGETS = (ITEMS.labels[:, None] == np.unique(ITEMS.labels)).astype(float)
DECAYS = [(0.01, 0.1), (0.01, 0.01), (0.003, 0.01)]


def _measured(look, **values):
    return Perturbation(**values).measure(look, np.random.default_rng(0))


def _loss(flat, head_decay, price):
    n, d = X.shape
    head, x = flat[: TARGETS.shape[1] * d].reshape(-1, d), flat[TARGETS.shape[1] * d :].reshape(n, d)
    residual, away = x @ head.T - TARGETS, x - X
    loss = (residual**2).sum() / (2 * n) + head_decay / 2 * (head**2).sum() + price / 2 * (away**2).sum()
    slopes = residual.T @ x / n + head_decay * head, residual @ head / n + price * away
    return loss, np.concatenate([slope.ravel() for slope in slopes])


def test_the_examples_hold():
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(("head_decay", "price"), DECAYS)
def test_the_model_comes_to_rest_where_its_gradient_is_zero(head_decay, price):
    found = minimiser(X, ITEMS.labels, head_decay, price)
    loss, slope = _loss(np.concatenate([found.head.ravel(), found.features.ravel()]), head_decay, price)
    assert np.abs(slope).max() < 1e-11
    start = np.concatenate([minimiser(X, ITEMS.labels, head_decay, price, 1).head.ravel(), X.ravel()])
    other = minimize(_loss, start, (head_decay, price), jac=True, options={"gtol": 1e-9, "maxiter": 5000})
    assert loss == pytest.approx(other.fun, abs=1e-8)


def test_the_less_moving_costs_the_more_collapses():
    rests = [minimiser(X, ITEMS.labels, 0.01, price).features for price in (1, 0.1, 0.03, 0.01, 0.003)]
    found = [quotient(by_class(features, ITEMS.labels)) for features in (X, *rests)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < found[0] / 3


def test_features_that_cannot_move_have_the_classifier_of_ridge_regression():
    found = minimiser(X, ITEMS.labels, 0.2, 1e9)
    assert found.features == pytest.approx(X, abs=1e-6)
    ridge = TARGETS.T @ X @ np.linalg.inv(X.T @ X + 40 * 0.2 * np.eye(4))
    assert found.head == pytest.approx(ridge, abs=1e-6)


def test_nearness_by_hand():
    assert nearness([[3.0, 4.0]], [[3.0, 0.0]]) == pytest.approx(4 / 3)
    assert math.isnan(nearness([[1.0]], [[0.0]]))


def test_figures_are_those_of_features_scaled_to_length_one():
    x = X / np.sqrt((X**2).sum(axis=1).mean())
    rest = minimiser(x, ITEMS.labels, 0.01, 0.02, 5000).features
    found = _measured(ITEMS, head_decay=0.01, price=0.02, rounds=5000)
    now, ahead = (quotient(by_class(one, ITEMS.labels)) for one in (x, rest))
    assert found["nc1_ahead"] == pytest.approx(ahead, rel=1e-6)
    assert found["left"] == pytest.approx(1 - ahead / now, rel=1e-6)
    assert found["moved"] == pytest.approx(nearness(rest, x), rel=1e-6)


def test_order_axes_and_scale_of_features_change_nothing():
    look = moved(ITEMS)
    for other in (shuffled(look), turned(look), moved(look, 30.0)):
        assert same(_measured(look), _measured(other), 1e-8)


def test_what_does_not_apply_is_nan():
    assert all(map(math.isnan, _measured(hidden(ITEMS)).values()))
    assert all(map(math.isnan, _measured(replace(ITEMS, features=np.zeros_like(ITEMS.features))).values()))
    assert all(
        map(math.isnan, _measured(replace(ITEMS, features=np.full_like(ITEMS.features, np.nan))).values())
    )
    points = replace(ITEMS, features=np.eye(4)[ITEMS.labels])
    assert (_measured(points)["nc1_ahead"], math.isnan(_measured(points)["left"])) == (
        pytest.approx(0, abs=1e-9),
        True,
    )
