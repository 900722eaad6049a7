"""Gradient-normalised smoothness: curvatures against automatic Hessians, steps against the algorithm in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from componented import networked, only
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout

from strategies.components.contract import Optimiser
from strategies.components.gns import conjugate_gradients, curvature_product, curved, head_curvature, look_at
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch

KINDS = ("ggn", "weighted", "empirical-fisher")
RNG = np.random.default_rng(0)
INPUTS, LABELS = torch.from_numpy(RNG.normal(size=(12, 4))), torch.tensor([0, 1, 2] * 4)
BATCH = Batch(INPUTS, LABELS, torch.arange(12))


def _loss(network: nn.Module) -> Callable[[], Tensor]:
    return lambda: cross_entropy(network(INPUTS), LABELS)


def _block(kind: str, p: Tensor, r: Tensor) -> Tensor:
    return {"ggn": p.diag() - p.outer(p), "weighted": p.diag(), "empirical-fisher": r.outer(r)}[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_curvature_of_a_network_is_the_sum_over_items(kind: Any) -> None:
    network = networked("", "mlp[width=3,depth=1]", (4,), classes=3).double()
    weights = list(network.parameters())
    look = look_at(network, weights, _loss(network), 0.0, torch.get_rng_state())
    logits = network(INPUTS)
    slopes = [torch.autograd.grad(one, weights, retain_graph=True) for one in logits.flatten()]
    jacobians = torch.stack([torch.cat([part.flatten() for part in each]) for each in slopes]).view(12, 3, -1)
    p = network(INPUTS).softmax(dim=1).detach()
    residual = p - torch.eye(3, dtype=p.dtype)[LABELS]
    blocks = [_block(kind, *item) for item in zip(p, residual, strict=True)]
    by_hand = sum(j.T @ block @ j for j, block in zip(jacobians, blocks, strict=True)) / 12
    product = curvature_product(kind, weights, look)
    units = torch.eye(jacobians.shape[2], dtype=p.dtype)
    assert torch.allclose(torch.stack([product(unit) for unit in units], dim=1), by_hand, atol=1e-12)
    assert torch.allclose(look.slope, residual / 12, atol=1e-12)
    assert torch.allclose(curved(kind, look.logits, look.slope, residual)[0], blocks[0] @ residual[0] / 12)


def test_of_a_linear_network_gauss_newton_is_the_hessian() -> None:
    """Weights (3, 5), the last of them the bias."""
    features = torch.cat([INPUTS, torch.ones(12, 1, dtype=INPUTS.dtype)], dim=1)
    weights = torch.from_numpy(RNG.normal(size=(3, 5)))

    def value(flat: Tensor) -> Tensor:
        return cross_entropy(features @ flat.view(3, 5).T, LABELS)

    logits = (features @ weights.T).requires_grad_()
    (slope,) = torch.autograd.grad(cross_entropy(logits, LABELS), logits)
    exact: Tensor = torch.autograd.functional.hessian(value, weights.flatten())  # type: ignore[no-untyped-call]
    assert torch.allclose(head_curvature("ggn", features, logits.detach(), slope), exact, atol=1e-12)


def test_conjugate_gradients_solve_in_as_many_steps_as_there_are_unknowns() -> None:
    root = torch.from_numpy(RNG.normal(size=(6, 6)))
    matrix, wanted = root @ root.T + torch.eye(6, dtype=root.dtype), torch.from_numpy(RNG.normal(size=6))
    assert torch.allclose(
        conjugate_gradients(lambda v: matrix @ v, wanted, 6, 1e-12), torch.linalg.solve(matrix, wanted)
    )
    rough = conjugate_gradients(lambda v: matrix @ v, wanted, 100, 0.3)
    assert 0 < float((matrix @ rough - wanted).norm() / wanted.norm()) <= 0.3


def _by_hand(kind: str, steps: int, l2: float, gamma: float) -> tuple[np.ndarray, list[float]]:
    """The algorithm on a linear softmax classifier in numpy, weights (3, 4) and biases (3,) from zero."""
    x = np.hstack([INPUTS.numpy(), np.ones((12, 1))])
    onehot = np.eye(3)[LABELS.numpy()]

    def look(w: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        z = x @ w.T
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        value = -np.log((p * onehot).sum(axis=1)).mean() + l2 / 2 * (w**2).sum()
        return float(value), (p - onehot).T @ x / 12 + l2 * w, p

    w, values = np.zeros((3, 5)), []
    for _ in range(steps):
        value, g, p = look(w)
        h = l2 * np.eye(15)
        for item in range(12):
            r = p[item] - onehot[item]
            block = {
                "ggn": np.diag(p[item]) - np.outer(p[item], p[item]),
                "weighted": np.diag(p[item]),
                "empirical-fisher": np.outer(r, r),
                "none": np.zeros((3, 3)),
            }[kind]
            h += np.kron(block, np.outer(x[item], x[item])) / 12
        norm = np.linalg.norm(g)
        for _ in range(10):
            bound = norm / (gamma + 1e-8)
            d = -np.linalg.solve(h + bound * np.eye(15), g.ravel()).reshape(3, 5)
            there, slope, _ = look(w + d)
            if value - there >= (slope**2).sum() / (8 * bound):
                w, gamma = w + d, max(2 * gamma, 1e-9)
                break
            gamma /= 2
        values.append(look(w)[0])
    return w, values


@pytest.mark.parametrize("kind", [*KINDS, "none"])
@pytest.mark.parametrize("gamma", [1.0, 50.0])
def test_steps_are_those_of_the_algorithm(kind: str, gamma: float) -> None:
    network = networked(
        f"gns[hessian={kind},gamma={gamma}]", "linear", (4,), classes=3, optimiser=Optimiser("sgd", 0.01)
    ).double()
    for _ in range(6):
        only(network).step(network, BATCH, _loss(network))
    assert network.head is not None
    w, _ = _by_hand(kind, 6, 0.01, gamma)
    assert np.allclose(network.head.weight.detach().numpy(), w[:, :4], atol=1e-9)
    assert np.allclose(network.head.bias.detach().numpy(), w[:, 4], atol=1e-9)
    assert all(weights.grad is None for weights in network.parameters())


def test_more_curvature_needs_fewer_steps_to_the_minimum() -> None:
    values = {kind: _by_hand(kind, 6, 0.01, 1.0)[1] for kind in ("ggn", "weighted", "none")}
    assert values["ggn"][-1] < values["weighted"][-1] < values["none"][-1]
    network = networked("gns[l2=0.01]", "linear", (4,), classes=3).double()
    for _ in range(12):
        only(network).step(network, BATCH, _loss(network))

    def value(flat: np.ndarray) -> float:
        w = torch.from_numpy(flat).view(3, 5)
        return float(cross_entropy(INPUTS @ w[:, :4].T + w[:, 4], LABELS) + 0.005 * w.square().sum())

    assert network.head is not None
    own = torch.cat([network.head.weight, network.head.bias[:, None]], dim=1).detach().numpy()
    assert value(own.ravel()) == pytest.approx(minimize(value, np.zeros(15), tol=1e-12).fun, abs=1e-8)


def test_where_no_step_passes_the_weights_stay_and_the_radius_falls() -> None:
    network = networked("gns[tries=3]", "mlp[width=3,depth=1]", (4,), classes=3).double()
    before, calls = [each.clone() for each in network.parameters()], 0

    def worse() -> Tensor:
        nonlocal calls
        calls += 1
        return cross_entropy(network(INPUTS), LABELS) + calls

    only(network).step(network, BATCH, worse)
    assert all(torch.equal(*pair) for pair in zip(network.parameters(), before, strict=True))
    assert (calls, only(network).radius) == (4, 1 / 8)
    assert only(network).state_dict() == {"radius": 1 / 8}


def test_all_looks_at_a_batch_share_their_draws_which_the_learner_does_not_miss() -> None:
    network = networked("gns", "mlp[width=3,depth=1]", (4,), classes=3).double()
    masks: list[Tensor] = []

    def loss() -> Tensor:
        masks.append(dropout(torch.ones(50), 0.5))
        return cross_entropy(network(INPUTS), LABELS)

    state = torch.get_rng_state()
    only(network).step(network, BATCH, loss)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(masks) > 1
    assert all(torch.equal(mask, masks[0]) for mask in masks)
    assert isinstance(network, Classifier)
