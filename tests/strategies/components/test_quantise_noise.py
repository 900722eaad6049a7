"""Noise in place of rounding, and the pull of weights to their grid, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from componented import networked, only
from torch import Tensor

from strategies.components.grids import Grid, Noise, Noisy
from strategies.components.modules import layers_of
from strategies.ood_scores import Seen
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch

BATCH = Batch(torch.rand(6, 5), torch.tensor([0, 1] * 3), torch.arange(6), step=1, steps=4)


def _grids(network: Classifier) -> list[Grid]:
    return [module for module in network.modules() if isinstance(module, Grid)]


def _term(network: Classifier) -> float:
    term: Tensor | None = only(network).term(network, BATCH, Seen(torch.zeros(6, 4), torch.zeros(6, 2)))
    assert term is not None
    return float(term.detach())


@pytest.mark.parametrize(("kind", "deviation"), [("uniform", 12**-0.5), ("gaussian", 0.5)])
def test_noise_has_the_size_of_rounding_and_the_gradient_is_one(kind: Noise, deviation: float) -> None:
    draws = torch.Generator().manual_seed(0)
    weights = torch.linspace(-1, 2, 40001, dtype=torch.float64).requires_grad_()
    made = Noisy(weights.detach(), 2, "none", kind, draws)  # a step of 3 / 3
    out = made(weights)
    noise = (out - weights).detach()
    assert float(noise.std()) == pytest.approx(deviation, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    if kind == "uniform":
        assert float(noise.abs().max()) <= 0.5
    (gradient,) = torch.autograd.grad(out.sum(), weights)
    assert (gradient == 1).all()
    made.eval()
    few = torch.tensor([-1.0, -0.6, 0.4, 0.6, 1.2, 2.0], dtype=torch.float64)
    assert made(few).tolist() == [-1, -1, 0, 1, 1, 2]
    assert torch.equal(made(torch.zeros(3)), torch.zeros(3))


def test_a_step_has_noise_of_its_own_and_answers_have_none() -> None:
    network = networked("quantise[noise=uniform,bits=3]", "mlp[width=4,depth=1]")
    shown = []
    for step in (1, 1, 2):
        only(network).change(network.train(), BATCH._replace(step=step))
        shown.append(network(BATCH.inputs))
    assert torch.equal(shown[0], shown[1])
    assert not torch.equal(shown[0], shown[2])
    assert torch.equal(network.eval()(BATCH.inputs), network(BATCH.inputs))
    for layer in layers_of(network):
        assert len(layer.weight.unique()) <= 8


@pytest.mark.parametrize("noise", ["none", "uniform"])
def test_weights_are_pulled_to_the_grid_by_their_squared_gradients(noise: str) -> None:
    network = networked(f"quantise[bits=2,saliency=gradient,pull=3,noise={noise}]", "mlp[width=4,depth=1]")
    assert _term(network) == 0
    network.train()
    only(network).change(network, BATCH)
    pulls, sizes = 0.0, 0.0
    for turn in range(2):
        network.zero_grad()
        network(BATCH.inputs).square().sum().backward()
        gradients = [layer.parametrizations["weight"].original.grad.clone() for layer in layers_of(network)]
        only(network).step(network, BATCH, lambda: torch.zeros(()))
        if turn == 0:
            first = gradients
    for layer, grid, before, after in zip(layers_of(network), _grids(network), first, gradients, strict=True):
        saliency = 0.01 * 0.99 * before.square() + 0.01 * after.square()
        weights = layer.parametrizations["weight"].original.detach()
        pulls += float((saliency * (weights - grid.rounded(weights).detach()).square()).sum())
        sizes += float(saliency.sum())
    assert _term(network) == pytest.approx(3 * pulls / sizes, rel=1e-4)
    assert pulls > 0


def test_columns_are_weighed_by_their_squared_inputs() -> None:
    for backbone, shape in (("mlp[width=4,depth=1]", (5,)), ("cnn[width=8]", (2, 8, 8))):
        network = networked("quantise[bits=2,saliency=input]", backbone, shape)
        inputs = torch.rand(6, *shape)
        network.train()
        network(inputs)
        saliency = _grids(network)[0].saliency
        assert saliency is not None
        by_hand = 0.01 * (inputs.numpy() ** 2).mean(axis=(0, 2, 3) if len(shape) == 3 else 0)
        assert np.allclose(saliency.flatten().numpy(), by_hand, rtol=1e-4)
        network.eval()(inputs)
        assert np.allclose(saliency.flatten().numpy(), by_hand, rtol=1e-4)
        assert _term(network) > 0
        (gradient, *_) = torch.autograd.grad(
            only(network).term(network, BATCH, Seen(inputs, inputs)),
            layers_of(network)[0].parametrizations["weight"].original,
        )
        assert gradient.any()
