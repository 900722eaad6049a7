"""Weights of items move as the implicit function theorem has it, and tell wrong labels from right ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from component_steps import begun, learner_with
from noisy_problem import QUERY, noisy_stage
from torch import Tensor

from harness.contracts import Query
from strategies.components.hyper_clean import refined
from strategies.toolkit.losses.robust import cross_entropy
from strategies.toolkit.training.loop import Batch


def _problem(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Inputs (6, 4), labels (6,), x (6,) and the weights of a network with one hidden layer, in float64."""
    rng = torch.Generator().manual_seed(seed)
    weights = [torch.randn(shape, generator=rng, dtype=torch.float64) for shape in ((3, 4), (3, 3), (3,))]
    inputs = torch.randn(6, 4, generator=rng, dtype=torch.float64)
    return (
        inputs,
        torch.tensor([0, 1, 2, 0, 1, 1]),
        torch.randn(6, generator=rng, dtype=torch.float64),
        weights,
    )


def _losses(flat: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
    first, second, bias = flat[:12].view(3, 4), flat[12:21].view(3, 3), flat[21:]
    return cross_entropy((inputs @ first.T).tanh() @ second.T + bias, labels)


@pytest.mark.parametrize("squared", [True, False])
def test_a_step_is_that_of_the_whole_hessian_and_of_a_loop_over_items(squared: bool) -> None:
    inputs, labels, x, weights = _problem()
    held, held_labels, _, z = _problem(1)
    flat, flat_z = (torch.cat([each.flatten() for each in given]) for given in (weights, z))

    def lower(y: Tensor) -> Tensor:
        size = y.square().sum()
        return (torch.sigmoid(x) * _losses(y, inputs, labels)).mean() + 0.1 * (
            size if squared else size.sqrt()
        )

    hessian = torch.autograd.functional.hessian(lower, flat)
    pull = torch.autograd.functional.jacobian(lambda y: _losses(y, held, held_labels).mean(), flat)
    of_items = torch.autograd.functional.jacobian(lambda y: _losses(y, inputs, labels), flat)
    new_z = flat_z - 0.05 * (hessian @ flat_z - pull)
    share = torch.sigmoid(x) * (1 - torch.sigmoid(x))
    h = torch.stack([-share[i] * (of_items[i] @ new_z) / 6 for i in range(6)])

    shapes = [each.shape for each in weights]
    given = [each.clone().requires_grad_() for each in weights]
    found_z, found_h = refined(
        _losses(torch.cat([each.flatten() for each in given]), inputs, labels),
        given,
        x,
        z,
        [part.view(shape) for part, shape in zip(pull.split([12, 9, 3]), shapes, strict=True)],
        nu=0.05,
        decay=0.1,
        squared=squared,
    )
    assert torch.allclose(torch.cat([each.flatten() for each in found_z]), new_z, atol=1e-12)
    assert torch.allclose(found_h, h, atol=1e-12)


def test_z_comes_to_the_inverse_hessian_and_h_to_the_gradient_of_the_nested_problem() -> None:
    """A ridge problem, whose lower solution is known for every x: h is d f(y*(x)) / dx."""
    rng = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randn(5, size, generator=rng, dtype=torch.float64) for size in (2, 1))
    held, x = torch.tensor([[1.0, -2.0]]).double(), torch.zeros(5, dtype=torch.float64)

    def solved(x: Tensor) -> Tensor:
        own = torch.sigmoid(x)[:, None] * inputs / 5
        return torch.linalg.solve(
            own.T @ inputs + 2 * 0.1 * torch.eye(2, dtype=torch.float64), own.T @ targets
        )

    whole = torch.autograd.functional.jacobian(lambda x: (held @ solved(x)).square().sum(), x)
    weights = [solved(x).requires_grad_()]
    z = [torch.zeros(2, 1, dtype=torch.float64)]
    (upper,) = torch.autograd.grad((held @ weights[0]).square().sum(), weights)
    for _ in range(600):
        losses = 0.5 * (inputs @ weights[0] - targets).square()[:, 0]
        z, h = refined(losses, weights, x, z, [upper], nu=0.3, decay=0.1)
    assert torch.allclose(h, whole, atol=1e-9)


def _stepped(component: Any, network: Any, batch: Batch) -> None:
    """Call what a component does before a gradient step and behind it."""
    behind = component.step(network, batch, lambda: torch.zeros(()))
    if behind is not None:
        behind()


def test_the_items_of_a_batch_move_by_the_direction_of_all() -> None:
    learner = learner_with("hyper-clean[every=2,first=2,eta=0.5]")
    stage = noisy_stage()
    one, network = begun(learner, stage)
    rows = torch.arange(8)
    batch = Batch(torch.from_numpy(np.asarray(stage.inputs))[:8], torch.from_numpy(stage.labels)[:8], rows)
    before = [values.clone() for values in network.parameters()]
    moved = []
    for step in range(5):
        _stepped(one, network, batch._replace(step=step))
        moved.append(one.x.clone())
    assert torch.equal(moved[0], torch.ones(48))
    assert torch.equal(moved[1], moved[2])
    assert not torch.equal(moved[2], moved[3])
    first = moved[1] - 1
    assert bool((first[:8] != 0).all())
    assert not first[8:].any()
    assert float(first.norm()) == pytest.approx(0.5 * 48**0.5, rel=1e-5)
    weights = one.change(network, batch).weights
    assert torch.allclose(weights, torch.sigmoid(one.x[:8]) / torch.sigmoid(one.x[:8]).mean())
    assert all(torch.equal(values, old) for values, old in zip(network.parameters(), before, strict=True))
    assert all(values.grad is None for values in network.parameters())
    suspicion, kept = one.judge(torch.tensor([0, 9]))
    assert torch.equal(suspicion, -one.x[[0, 9]])
    assert kept.tolist() == [
        bool(value > torch.sigmoid(one.x).median() / 2) for value in torch.sigmoid(one.x[[0, 9]])
    ]


def test_the_released_loop_adds_gradients_up_over_ten_steps_and_asks_no_validation_item() -> None:
    learner = learner_with("hyper-clean[form=released,first=0]")
    one, network = begun(learner, noisy_stage())
    one.held = None
    batch = Batch(torch.rand(8, 5), torch.zeros(8, dtype=torch.long), torch.arange(8))
    added = []
    for step in range(12):
        for values in network.parameters():
            values.grad = torch.ones_like(values)
        _stepped(one, network, batch._replace(step=step))
        added.append(float(next(network.parameters()).grad.mean()))
    assert added == [*range(1, 11), 1, 2]
    assert bool((one.x[:8] != 1).all())


def test_wrong_labels_are_found_with_right_validation_labels_and_the_learner_says_so() -> None:
    rng = np.random.default_rng(0)
    stage = noisy_stage(items=120)
    true = np.arange(120) % 3
    wrong = stage.labels != true
    assert stage.validation is not None
    held = stage.validation.inputs
    stage = replace(stage, validation=replace(stage.validation, inputs=held, labels=np.arange(24) % 3))
    learner: Any = learner_with("hyper-clean", epochs=20)
    learner.learn(stage)
    said = learner.predict(Query(ids=stage.ids, inputs=stage.inputs)).suspicion
    pairs = [
        (said[i] > said[j]) for i in np.flatnonzero(wrong) for j in rng.choice(np.flatnonzero(~wrong), 20)
    ]
    assert np.mean(pairs) > 0.75
    plain: Any = learner_with("hyper-clean[eta=0]")
    plain.learn(stage)
    alone: Any = learner_with("")
    alone.learn(stage)
    for field in ("suspicion", "kept", "classes"):
        assert np.array_equal(getattr(plain.predict(QUERY), field), getattr(alone.predict(QUERY), field))


def test_items_of_earlier_stages_are_judged_by_what_they_had_then() -> None:
    learner: Any = learner_with("hyper-clean")
    learner.learn(noisy_stage(0))
    (one,) = learner.models[0].components.parts.values()
    first = one.judge(torch.arange(48))[0]
    learner.learn(noisy_stage(1))
    assert torch.equal(one.judge(torch.arange(96))[0][:48], first)
