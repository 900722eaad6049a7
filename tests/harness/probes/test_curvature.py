"""Curvature against Hessians written out, closed forms, and descent that does or does not stay at a minimum."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from looks import hidden, look_at
from torch import nn

from harness.probes import curvature as module
from harness.probes.curvature import Curvature, hessian_product, largest_eigenvalue, squared_gradient, traces

RNG = np.random.default_rng(0)
ITEMS = look_at(30, 4, 3)


class _Surface:
    """The loss of a network over items, in float64."""

    name = "loss"
    momentum = 0.9

    def __init__(self, network, inputs, targets, loss, rate=0.05):
        self.network, self.inputs, self.targets, self.kind = network.double(), inputs, targets, loss
        self.rate = rate

    def parameters(self):
        return list(self.network.parameters())

    def loss(self, rows):
        return self.kind(self.network(self.inputs[rows]), self.targets[rows])


def _network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def _surface():
    inputs = torch.as_tensor(np.asarray(ITEMS.features), dtype=torch.float64)
    return _Surface(_network(), inputs, torch.as_tensor(ITEMS.labels), nn.functional.cross_entropy)


def _hessian(surface):
    """Return the Hessian over flat weights by torch's own routine, column by column."""
    names = [name for name, _ in surface.network.named_parameters()]
    shapes = [weight.shape for weight in surface.parameters()]
    flat = torch.cat([weight.detach().reshape(-1) for weight in surface.parameters()])

    def loss(weights):
        parts = torch.split(weights, [shape.numel() for shape in shapes])
        named = {name: part.reshape(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return surface.kind(
            torch.func.functional_call(surface.network, named, (surface.inputs,)), surface.targets
        )

    return torch.autograd.functional.hessian(loss, flat).numpy()


def _matrix(values):
    q = np.linalg.qr(RNG.normal(size=(len(values), len(values))))[0]
    return (q * values) @ q.T


def _measured(surface, **values):
    return Curvature(**values).measure(replace(ITEMS, surface=surface), np.random.default_rng(0))


def test_the_examples_hold():
    assert doctest.testmod(module).failed == 0


def test_products_are_those_of_the_hessian_written_out():
    surface = _surface()
    hessian = _hessian(surface)
    product = hessian_product(surface.loss(slice(None)), surface.parameters())
    for vector in RNG.normal(size=(3, len(hessian))):
        assert product(vector) == pytest.approx(hessian @ vector, abs=1e-12)


def test_products_leave_out_what_the_loss_does_not_curve_in():
    bent, straight, unused = (torch.ones(2, requires_grad=True, dtype=torch.float64) for _ in range(3))
    product = hessian_product((bent**3).sum() + 2 * straight.sum(), [straight, bent, unused])
    assert product(np.arange(6.0)).tolist() == [0, 0, 6 * 2, 6 * 3, 0, 0]
    flat = hessian_product(straight.sum(), [straight])
    assert flat(np.ones(2)).tolist() == [0, 0]


def test_traces_over_all_sign_vectors_are_exact():
    matrix = _matrix(np.array([5.0, 2.0, -1.0, 0.5]))
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 4)).reshape(4, -1).T
    found = traces(lambda vector: matrix @ vector, signs)
    assert found.trace == pytest.approx(np.trace(matrix), abs=1e-12)
    assert found.frobenius == pytest.approx(np.linalg.norm(matrix), abs=1e-12)


def test_the_error_of_the_trace_is_that_of_the_mean_over_vectors():
    matrix = _matrix(np.array([3.0, 1.0, 1.0]))
    vectors = RNG.choice([-1.0, 1.0], size=(6, 3))
    forms = [vector @ matrix @ vector for vector in vectors]
    found = traces(lambda vector: matrix @ vector, vectors)
    assert found.error == pytest.approx(np.std(forms, ddof=1) / math.sqrt(6))
    assert math.isnan(traces(lambda vector: matrix @ vector, vectors[:1]).error)


@pytest.mark.parametrize(
    "values",
    [[4.0, 1.0, 0.5], [-9.0, 3.0, 1.0, 0.0], [-5.0, -2.0, -1.0], [2.0, 2.0, 2.0], [0.0, 0.0], [7.0]],
    ids=["positive", "largest-in-modulus-negative", "all-negative", "multiple", "zero", "one-weight"],
)
def test_the_largest_eigenvalue_is_not_the_largest_in_modulus(values):
    matrix = _matrix(np.array(values))
    found = largest_eigenvalue(lambda vector: matrix @ vector, RNG.normal(size=len(values)))
    assert found == pytest.approx(max(values), abs=1e-9)


def test_the_largest_eigenvalue_of_many_is_found_from_below():
    matrix = _matrix(np.concatenate([[30.0, 25.0], RNG.uniform(-3, 10, 200)]))
    start = RNG.normal(size=202)
    found = [largest_eigenvalue(lambda vector: matrix @ vector, start, products) for products in (3, 8, 20)]
    assert found == sorted(found)
    assert found[-1] == pytest.approx(30, rel=1e-6)
    assert found[-1] <= 30 + 1e-9


def test_figures_are_those_of_the_hessian_written_out():
    surface = _surface()
    eigenvalues = np.linalg.eigvalsh(_hessian(surface))
    found = _measured(surface, vectors=400, products=43)
    assert found["lambda_max"] == pytest.approx(eigenvalues[-1], rel=1e-9)
    assert found["frobenius"] == pytest.approx(np.sqrt((eigenvalues**2).sum()), rel=0.15)
    assert abs(found["trace"] - eigenvalues.sum()) < 4 * found["trace_error"]
    assert found["sharpness_ratio"] == pytest.approx(eigenvalues[-1] * 0.05 / 3.8)
    assert found["trace_ratio"] == pytest.approx(found["trace"] * 0.05 / 2)


def test_the_squared_gradient_is_that_of_logistic_regression_by_hand():
    """One item's gradient of cross-entropy with respect to rows W is (p - y) x'."""
    inputs = torch.as_tensor(RNG.normal(size=(5, 4)))
    labels = torch.tensor([0, 2, 1, 1, 0])
    linear = nn.Linear(4, 3, bias=False).double()
    surface = _Surface(linear, inputs, labels, nn.functional.cross_entropy)
    residuals = torch.softmax(linear(inputs), dim=1) - torch.eye(3, dtype=torch.float64)[labels]
    squares = (residuals**2).sum(dim=1) * (inputs**2).sum(dim=1)
    assert squared_gradient(surface, 5) == pytest.approx(squares.mean().item())
    assert squared_gradient(surface, 2) == pytest.approx(squares[:2].mean().item())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_descent_leaves_a_minimum_just_where_the_ratio_passes_one(momentum):
    """Least squares with an exact solution: H = X'X / N."""
    inputs = torch.as_tensor(RNG.normal(size=(20, 3)))
    linear = nn.Linear(3, 1, bias=False).double()
    targets = inputs @ linear.weight.detach().T
    surface = _Surface(linear, inputs, targets, lambda found, wanted: ((found - wanted) ** 2).mean() / 2)
    surface.momentum = momentum
    largest = np.linalg.eigvalsh(inputs.numpy().T @ inputs.numpy() / 20)[-1]
    hessian = inputs.numpy().T @ inputs.numpy() / 20
    for ratio in (0.98, 1.02):
        surface.rate = ratio * 2 * (1 + momentum) / largest
        assert _measured(surface)["sharpness_ratio"] == pytest.approx(ratio, rel=1e-9)
        away = _distance_after(hessian, surface.rate, momentum)
        assert away < 1e-3 if ratio < 1 else away > 1


def _distance_after(hessian, rate, momentum):
    """Return how far from the minimum of a quadratic descent is after 600 steps from 0.1 away."""
    place, speed = np.full(len(hessian), 0.1), np.zeros(len(hessian))
    for _ in range(600):
        speed = momentum * speed + hessian @ place
        place = place - rate * speed
    return np.abs(place).max()


def test_a_look_changes_nothing_of_the_network():
    surface = _surface()
    before = [weight.detach().clone() for weight in surface.parameters()]
    state = torch.get_rng_state()
    _measured(surface)
    assert all(weight.grad is None for weight in surface.parameters())
    assert all(torch.equal(weight, old) for weight, old in zip(surface.parameters(), before, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_stream_gives_the_same_figures():
    assert _measured(_surface()) == _measured(_surface())


def test_what_does_not_apply_is_nan():
    assert all(map(math.isnan, _measured(None).values()))
    nothing = Curvature().measure(replace(hidden(ITEMS), surface=_surface()), np.random.default_rng(0))
    assert all(map(math.isnan, nothing.values()))
    late = _measured(_surface(), seconds=1e-9)
    assert all(map(math.isnan, late.values()))
    adam = _surface()
    adam.momentum = math.nan
    assert {name for name, figure in _measured(adam).items() if math.isnan(figure)} == {
        "sharpness_ratio",
        "trace_ratio",
    }
    diverged = _surface()
    with torch.no_grad():
        diverged.parameters()[0].fill_(math.nan)
    assert all(map(math.isnan, _measured(diverged).values()))
