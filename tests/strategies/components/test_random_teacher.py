"""An encoder that imitates a random one does so by the published loss, from the published start."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from component_steps import begun, learner_with
from noisy_problem import noisy_stage
from torch import Tensor, nn

from harness.errors import Unsuitable
from strategies.components.random_teacher import Projection, RandomTeacher, imitation, moved_apart
from strategies.toolkit.training.loop import Batch

SMALL = "hidden=16,width=8"


def test_the_start_is_between_two_and_keeps_the_size_of_one() -> None:
    rng = torch.Generator().manual_seed(0)
    own, other = (torch.randn(20_000, generator=rng, dtype=torch.float64) for _ in range(2))
    assert torch.allclose(
        moved_apart(own, other, 0.1, True), (0.9 * own + 0.1 * other) / 0.82**0.5, atol=1e-15
    )
    assert torch.allclose(moved_apart(own, other, 0.1, False), 0.9 * own + 0.1 * other, atol=1e-15)
    assert float(moved_apart(own, other, 0.3, True).std()) == pytest.approx(1, abs=0.02)
    assert torch.equal(moved_apart(own, other, 0.0, True), own)


def test_the_loss_is_cross_entropy_to_the_teachers_softmax_or_squared_error() -> None:
    student, teacher = (torch.from_numpy(np.random.default_rng(s).normal(size=(3, 4))) for s in (0, 1))
    z_s, z_t = 2 * student.numpy(), 2 * teacher.numpy()
    p_t = np.exp(z_t) / np.exp(z_t).sum(axis=1, keepdims=True)
    logs = z_s - np.log(np.exp(z_s).sum(axis=1, keepdims=True))
    assert float(imitation(student, teacher, "soft", 2.0)) == pytest.approx(
        -(p_t * logs).sum(axis=1).mean(), rel=1e-6
    )
    squared = np.square(z_s - z_t).mean()
    assert float(imitation(student, teacher, "squared", 2.0)) == pytest.approx(squared, rel=1e-12)


def test_the_head_is_the_published_one() -> None:
    torch.manual_seed(0)
    head = Projection(5, 300, 40).double()
    features = torch.randn(2, 5, dtype=torch.float64)
    weights = [layer.weight.detach() for layer in head.modules() if isinstance(layer, nn.Linear)]
    assert [tuple(each.shape) for each in weights] == [(300, 5), (300, 300), (256, 300), (40, 256)]
    hidden = features
    for each in weights[:2]:
        hidden = nn.functional.gelu(hidden @ each.T)
    hidden = hidden @ weights[2].T
    by_hand = (hidden / hidden.norm(dim=1, keepdim=True)) @ weights[3].T
    assert torch.allclose(head(features), by_hand, atol=1e-12)
    assert float(weights[1].abs().max()) <= 0.04
    assert float(weights[1].std()) == pytest.approx(0.02 * 0.8796, rel=0.02)  # cut at two deviations


def test_the_encoder_imitates_before_the_first_stage_and_never_again() -> None:
    learner = learner_with(f"random-teacher[{SMALL},share=0.5]", epochs=10)
    stage = noisy_stage()
    untouched: Any = learner_with("", epochs=10).models[0].grow(stage)
    one, network = begun(learner, stage)
    assert one.passes_taken == 5
    assert torch.equal(network.head.weight, untouched.head.weight)
    assert not torch.equal(network.backbone.layers[1].weight, untouched.backbone.layers[1].weight)
    assert all(values.grad is None for values in network.parameters())
    again, _ = begun(learner_with(f"random-teacher[{SMALL},share=0.5]", epochs=10), stage)
    assert again.state_dict() == {**one.state_dict()}
    before = copy.deepcopy(network.backbone.state_dict())
    second, _ = begun(learner, noisy_stage(1))
    assert second.passes_taken == 0
    assert all(torch.equal(values, before[name]) for name, values in network.backbone.state_dict().items())


class Watched(RandomTeacher):
    """Note the loss of every batch."""

    def train(self, parts: Any, task: Any, loss: Any, passes: int, **how: Any) -> None:
        def noted(batch: Batch) -> Tensor:
            value: Tensor = loss(batch)
            self.losses.append(float(value.detach()))
            return value

        self.losses: list[float] = []
        super().train(parts, task, noted, passes, **how)


@pytest.mark.parametrize("loss", ["soft", "squared"])
def test_the_student_comes_nearer_to_its_teacher(loss: str) -> None:
    said = f"{__file__}:Watched[{SMALL},share=0.9,distance=0.5,sharpness=8,loss={loss}]"
    one, _ = begun(learner_with(said, epochs=50), noisy_stage())
    assert len(one.losses) == 45 * 6
    least = 0.0 if loss == "squared" else min(one.losses) - 1e-3  # the teacher's entropy cannot be gone below
    assert np.mean(one.losses[-30:]) - least < 0.5 * (one.losses[0] - least)


def test_a_student_at_its_teacher_needs_batch_norm_and_a_frozen_encoder_stays() -> None:
    with pytest.raises(
        Unsuitable, match="has no batch norm, without which component random-teacher learns nothing"
    ):
        begun(learner_with(f"random-teacher[{SMALL},distance=0]"), noisy_stage())
    learner = learner_with(f"random-teacher[{SMALL},freeze=true]")
    one, network = begun(learner, noisy_stage())
    before = copy.deepcopy(network.backbone.state_dict())
    learner = learner_with(f"random-teacher[{SMALL},freeze=true]")
    learner.learn(noisy_stage())
    after = learner.models[0].backbone.state_dict()
    assert all(torch.equal(after[name], values) for name, values in before.items())
    assert {*one.rates(network)} == {*network.backbone.parameters()}


def test_passes_of_several_components_are_counted_together() -> None:
    with pytest.raises(Unsuitable, match="is left no pass to learn in: components take 4 of 4"):
        learner_with(f"random-teacher[{SMALL},share=0.5]+early-teacher[share=0.5]").learn(noisy_stage())
