"""Layers that answer to hyperparameters are what their source says, and are tuned on the validation split alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from component_steps import begun, learner_with
from noisy_problem import noisy_stage
from torch import nn

from harness.errors import Unsuitable, UserError
from strategies.components.best_response import Range, Response, Tuned, answering, entropy, perturbed
from strategies.components.chain import components_of
from strategies.toolkit.training.loop import Batch

UNIT = Range(0.0, 0.9, 0.3)


def _double(
    layer: nn.Linear | nn.Conv2d, ranges: int, place: int | None = None
) -> tuple[Any, Response, Tuned]:
    tuned = Tuned([UNIT] * ranges).double()
    answering(layer, tuned, place)
    layer.double()
    response: Any = layer.get_submodule("response")
    return layer, response, tuned


def test_a_layer_is_the_plain_one_plus_gated_units_row_by_row() -> None:
    layer, response, tuned = _double(nn.Linear(3, 2), 2)
    response.scale.data.fill_(0.7)
    x, h = (torch.randn(4, size, dtype=torch.float64) for size in (3, 2))
    tuned.rows = h
    w, u, v = (each.detach().numpy() for each in (layer.weight, response.weight, response.gates))
    b, c, v2 = (each.detach().numpy() for each in (layer.bias, response.bias, response.bias_gates))
    by_hand = np.array(
        [
            [0.7 * (w[k] @ row + b[k]) + (v[k] @ own) * (u[k] @ row) + (v2[k] @ own) * c[k] for k in range(2)]
            for row, own in zip(x.numpy(), h.numpy(), strict=True)
        ]
    )
    assert np.allclose(layer(x).detach().numpy(), by_hand, atol=1e-12)
    tuned.eval()
    assert torch.equal(layer(x[:1]), layer(x)[:1])
    assert not np.allclose(layer(x).detach().numpy(), by_hand)


@pytest.mark.parametrize("bias", [False, True])
def test_a_convolution_answers_channel_by_channel(bias: bool) -> None:
    layer, response, tuned = _double(nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=bias), 1)
    x, h = torch.randn(4, 2, 5, 5, dtype=torch.float64), torch.randn(4, 1, dtype=torch.float64)
    out = layer(x)
    tuned.rows = h
    bent = nn.functional.conv2d(x, response.weight, stride=2, padding=1)
    change = torch.einsum("nh,ch,ncij->ncij", h - tuned.h, response.gates, bent)
    if bias:
        change = (
            change
            + torch.einsum("nh,ch,c->nc", h - tuned.h, response.bias_gates, response.bias)[..., None, None]
        )
    assert torch.allclose(layer(x), out + change, atol=1e-12)


def test_perturbation_entropy_and_ranges_are_the_closed_forms() -> None:
    spread, h, noise = (
        torch.from_numpy(np.array([0.2, -1])),
        torch.tensor([1.0, 2.0]).double(),
        torch.ones(3, 2),
    )
    size = np.log1p(np.exp([0.2, -1.0]))
    assert np.allclose(perturbed(h, spread, noise.double()), [[1 + size[0], 2 + size[1]]] * 3, atol=1e-12)
    normal = torch.distributions.Normal(torch.zeros(2).double(), torch.from_numpy(size))
    assert float(entropy(spread)) == pytest.approx(float(normal.entropy().sum()), abs=1e-12)
    assert UNIT.unconstrained() == pytest.approx(math.log(0.3 / 0.6))
    for one in (UNIT, Range(0.0, math.inf, 0.05)):
        assert float(one.value(torch.tensor(one.unconstrained()).double())) == pytest.approx(one.start)


def test_hyperparameters_move_as_adam_moves_them() -> None:
    tuned = Tuned([UNIT, UNIT]).double()
    h, spread = (nn.Parameter(values.clone()) for values in (tuned.h, tuned.spread))
    adam = torch.optim.Adam([h, spread], lr=0.03)
    for number in range(4):
        gradients = torch.randn(2, 2, dtype=torch.float64) * 10.0 ** (number - 2)
        h.grad, spread.grad = gradients[0].clone(), gradients[1].clone()
        adam.step()
        tuned.move(gradients, 0.03)
    assert torch.allclose(tuned.h, h, atol=1e-9)
    assert torch.allclose(tuned.spread, spread, atol=1e-9)


def test_inputs_are_dropped_at_the_rate_of_their_row_and_keep_their_mean() -> None:
    _, response, tuned = _double(nn.Linear(20_000, 1), 2, place=1)
    tuned.rows, tuned.draws = (
        torch.tensor([[0.0, -2.0], [0.0, 2.0]]).double(),
        torch.Generator().manual_seed(0),
    )
    dropped = response.dropped(torch.ones(2, 20_000, dtype=torch.float64))
    rates = UNIT.value(tuned.rows[:, 1])
    assert torch.allclose((dropped == 0).double().mean(dim=1), rates, atol=0.02)
    assert torch.allclose(dropped.amax(dim=1), 1 / (1 - rates))
    tuned.eval()
    assert float(response.dropped(torch.ones(2, 3)).mean()) == 1


def test_a_linear_layer_finds_the_ridge_that_validates_best() -> None:
    """The best response of a linear layer to a ridge e^h is known: (X^T X / n + e^h)^-1 X^T y / n."""
    rng = np.random.default_rng(0)
    true = np.ones(8) / 8**0.5

    def some(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = rng.normal(size=(size, 8))
        return torch.from_numpy(x), torch.from_numpy(x @ true + 1.5 * rng.normal(size=size))[:, None]

    (x, y), (held_x, held_y) = some(24), some(200)

    def validated(h: float) -> float:
        w = torch.linalg.solve(x.T @ x / 24 + math.exp(h) * torch.eye(8, dtype=torch.float64), x.T @ y / 24)
        return float((held_x @ w - held_y).square().mean())

    torch.manual_seed(0)
    layer, response, tuned = _double(nn.Linear(8, 1, bias=False), 1)
    tuned.h.fill_(-4.0)
    theta = torch.optim.Adam(layer.parameters(), lr=0.01)
    for step in range(1500):
        if step % 3 == 2:
            h = tuned.h.clone().requires_grad_()
            tuned.rows = h[None]
            (found,) = torch.autograd.grad((layer(held_x) - held_y).square().mean(), h)
            tuned.move(torch.stack([found, torch.zeros_like(found)]), 0.03)
            continue
        tuned.rows = perturbed(tuned.h, tuned.spread, torch.randn(24, 1, dtype=torch.float64))
        weights = response.scale * layer.weight + (tuned.rows @ response.gates.T) * response.weight
        ridge = tuned.rows[:, 0].exp() * weights.square().sum(dim=1)
        theta.zero_grad()
        ((layer(x) - y).square()[:, 0] + ridge).mean().backward()
        theta.step()
    best = min(validated(h) for h in np.linspace(-6, 4, 201))
    assert validated(-4.0) > 1.1 * best
    assert validated(float(tuned.h)) < 1.05 * best


def _learner(options: str = "", **context: Any) -> Any:
    return learner_with(f"self-tuning[{options}]", **context)


def test_hyperparameters_move_after_the_warm_up_and_nothing_but_the_network_keeps_them() -> None:
    moved = {}
    for options in ("warmup=4", "warmup=1", "warmup=1,hyper_lr=0", "warmup=1,tune_spread=false"):
        learner = _learner(f"tunes=dropout+noise+smoothing,{options}")
        learner.learn(noisy_stage())
        moved[options] = tuned = learner.models[0].backbone.tuned
        start = Tuned(tuned.ranges)
        assert len(tuned.h) == 4  # the inputs of the second layer and of the head
        assert torch.equal(tuned.h, start.h) == (options in {"warmup=4", "warmup=1,hyper_lr=0"})
        assert torch.equal(tuned.spread, start.spread) == (options != "warmup=1")
    assert float(moved["warmup=1"].updates) == 9  # before every second of 18 steps


def test_a_step_of_the_hyperparameters_leaves_weights_and_gradients_alone() -> None:
    learner = _learner("warmup=0")
    one, network = begun(learner, noisy_stage())
    batch = Batch(torch.rand(8, 5), torch.zeros(8, dtype=torch.long), torch.arange(8), step=2, steps=9)
    before = {name: values.clone() for name, values in network.named_parameters()}
    h = network.backbone.tuned.h.clone()
    network.train()
    one.change(network, batch)
    rows, moved = network.backbone.tuned.rows, network.backbone.tuned.h.clone()
    assert not torch.equal(moved, h)
    one.change(network, batch)  # asked again for a step, it draws the same and tunes no more
    assert torch.equal(network.backbone.tuned.rows, rows)
    assert torch.equal(network.backbone.tuned.h, moved)
    assert all(
        values.grad is None and torch.equal(values, before[name])
        for name, values in network.named_parameters()
    )
    assert all(module.training for module in network.modules())


def test_smoothing_spreads_what_is_there_and_noise_is_added() -> None:
    one, network = begun(_learner("tunes=smoothing+noise"), noisy_stage())
    batch = Batch(torch.zeros(4, 5), torch.tensor([0, 1, 2, 0]), torch.arange(4))
    shown = one.change(network, batch)
    tuned = network.backbone.tuned
    share = tuned.values(0)
    assert torch.allclose(shown.targets.gather(1, batch.labels[:, None])[:, 0], 1 - share + share / 3)
    assert torch.allclose(shown.targets.sum(dim=1), torch.ones(4))
    assert bool((shown.inputs != 0).all())
    again = one.change(network, batch)
    assert torch.equal(again.inputs, shown.inputs)
    soft = one.change(network, batch._replace(targets=torch.full((4, 3), 1 / 3)))
    assert torch.allclose(soft.targets, torch.full((4, 3), 1 / 3))


def test_what_another_component_has_added_to_a_head_answers_to_nothing() -> None:
    network = learner_with("distil+self-tuning").models[0].grow(noisy_stage())
    answering_parts = [name for name, module in network.named_modules() if isinstance(module, Response)]
    assert answering_parts == ["backbone.layers.1.response", "backbone.layers.3.response", "head.response"]


def test_what_cannot_be_tuned_is_refused() -> None:
    for text, sentence in (
        ("droput", r"unknown hyperparameter to tune 'droput'; did you mean 'dropout'\?"),
        ("dropout+dropout", "tunes should name each hyperparameter once, or none"),
    ):
        with pytest.raises(UserError, match=sentence):
            components_of(f"self-tuning[tunes={text}]")
    with pytest.raises(Unsuitable, match="has no hidden layer, whose dropout component self-tuning tunes"):
        _learner(backbone="linear").learn(noisy_stage())
    with pytest.raises(
        Unsuitable, match="has no validation items in this protocol, which component self-tuning"
    ):
        _learner().learn(noisy_stage(validation=False))
