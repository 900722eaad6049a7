"""Distillation with a discriminator: its loss, the signs of its gradients, where the student starts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from component_steps import begun, learner_with, task_of
from noisy_problem import noisy_stage

from strategies.components.contract import Rate
from strategies.components.distil import Discriminator, discriminated
from strategies.ood_scores import Seen
from strategies.toolkit.training.loop import Batch


def test_the_discriminators_loss_is_the_mean_over_rows_and_outputs() -> None:
    torch.manual_seed(1)
    made = Discriminator(8, 2).double()
    assert [tuple(layer.weight.shape) for layer in made.layers] == [(4, 8), (2, 4), (2, 2)]
    student, teacher = (torch.randn(3, 8, dtype=torch.float64) for _ in range(2))
    total = 0.0
    for rows, own in ((student, 0), (teacher, 1)):
        for row in rows.numpy():
            hidden = row
            for layer in made.layers:
                hidden = np.maximum(layer.weight.detach().numpy() @ hidden + layer.bias.detach().numpy(), 0)
            total += sum(
                math.log1p(math.exp(-out if place == own else out)) for place, out in enumerate(hidden)
            )
    assert float(discriminated(made, student, teacher)) == pytest.approx(total / 12, abs=1e-12)
    assert [len(layer.weight) for layer in Discriminator(3, 8).layers] == [1, 1, 2]


def test_a_dead_discriminator_loses_log_2_and_none_loses_less_than_half_of_it() -> None:
    dead = Discriminator(4, 2)
    for values in dead.parameters():
        values.data.fill_(-1.0)
    logits = torch.rand(5, 4)
    assert float(discriminated(dead, logits, logits)) == pytest.approx(math.log(2))
    best = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor([1e6, 0.0]), torch.tensor([1.0, 0.0])
    )
    assert float(best) == pytest.approx(math.log(2) / 2)


def _told(options: str) -> tuple[Any, Any, Batch]:
    one, network = begun(learner_with(f"distil[{options}]"), noisy_stage(), teacher=_teacher)
    torch.manual_seed(0)
    return one, network, Batch(torch.rand(6, 5), torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6))


def _teacher(name: str, passes: int) -> Any:
    """Return an untrained network, drawn by the last figure of its name."""
    network = learner_with("").models[0]
    network.init = f"init-{name}"
    return network.grow(noisy_stage()).requires_grad_(False)


def test_targets_are_the_mean_of_softmaxes_and_the_discriminator_sees_the_mean_of_logits() -> None:
    one, network, batch = _told("teachers=2,share=0.25,label=0.25,discriminator=adversarial")
    assert one.passes_taken == 2
    logits = torch.stack([teacher(batch.inputs) for teacher in one.trained])
    hard = torch.eye(3)[batch.labels]
    targets = one.change(network, batch).targets
    assert torch.allclose(targets, 0.75 * logits.softmax(dim=2).mean(dim=0) + 0.25 * hard)
    student = torch.randn(6, 3)
    term = one.term(network, batch, Seen(torch.zeros(6, 16), student))
    assert torch.allclose(term, discriminated(network.head.discriminator, student, logits.mean(dim=0)))


def test_released_and_adversarial_gradients_differ_in_sign_to_the_student_alone() -> None:
    found = {}
    for form in ("released", "adversarial"):
        one, network, batch = _told(f"discriminator={form}")
        for values in network.head.discriminator.parameters():
            values.data.uniform_(0.1, 1.0)
        one.change(network, batch)
        student = torch.rand(6, 3, requires_grad=True)
        one.term(network, batch, Seen(torch.zeros(6, 16), student)).backward()
        assert student.grad is not None
        found[form] = (student.grad, *(values.grad for values in network.head.discriminator.parameters()))
    assert bool(found["released"][0].any())
    assert torch.allclose(found["released"][0], -found["adversarial"][0])
    assert all(
        torch.allclose(*pair) for pair in zip(found["released"][1:], found["adversarial"][1:], strict=True)
    )


def test_without_a_discriminator_nothing_is_added() -> None:
    one, network, batch = _told("discriminator=off")
    assert not hasattr(network.head, "discriminator")
    assert one.term(network, batch, Seen(torch.zeros(6, 16), torch.zeros(6, 3))) is None


@pytest.mark.parametrize("beside", ["", "+compander[learned=true]", "+crrelu+quantise[bits=8]"])
def test_the_student_starts_as_its_first_teacher_behind_other_components_too(beside: str) -> None:
    learner = learner_with(f"distil[teachers=2]{beside}")
    network = learner.models[0].grow(noisy_stage())
    chain = network.components
    chain.begin(task_of(learner, noisy_stage(), teacher=_teacher))
    one = chain.parts["distil"]
    inputs = torch.rand(9, 5)
    plain = one.trained[0]
    for name, values in plain.named_parameters():
        owner, _, own = name.rpartition(".")
        near = 0.02 if "quantise" in beside else 1e-6
        assert torch.allclose(getattr(network.get_submodule(owner), own), values, atol=near)
    if not beside:
        assert torch.equal(network(inputs), plain(inputs))
    fresh, its_network, _ = _told("start=fresh")
    assert not torch.equal(its_network(inputs), fresh.trained[0](inputs))


def test_weights_do_not_decay_and_heads_grow_with_their_discriminator() -> None:
    one, network, _ = _told("")
    assert {*one.rates(network).values()} == {Rate(lr=1.0, decay=0.0)}
    assert len(one.rates(network)) == len([*network.parameters()])
    assert _told("decay=true")[0].rates(network) == {}
    before = network.head.discriminator.layers[0].weight.detach().clone()
    rows = network.head.weight.detach().clone()
    head = network.grow(noisy_stage(1)).head
    assert head.discriminator.layers[0].weight.shape == (3, 6)
    assert torch.equal(head.discriminator.layers[0].weight[:1, :3], before)
    assert torch.equal(head.weight[:3], rows)
