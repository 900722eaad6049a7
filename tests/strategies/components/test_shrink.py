"""Soft shrinkage: what is small by hand, decay as a special case, phases of a stage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from componented import networked, only, stage_like
from fakes import FakeContext
from torch.nn.functional import cross_entropy

from harness.selection import configured
from strategies.components.modules import layers_of
from strategies.components.shrink import smallest
from strategies.toolkit.training.loop import Batch

BATCH = Batch(torch.rand(4, 5), torch.zeros(4, dtype=torch.long), torch.arange(4))


def _shrunk(text: str, batch: Batch = BATCH, network: Any = None) -> Any:
    network = networked(text, "mlp[width=4,depth=2]") if network is None else network
    behind = only(network).step(network, batch, lambda: torch.zeros(()))
    assert behind is not None
    behind()
    return network


def test_the_smallest_entries_are_chosen_and_of_equal_ones_the_first() -> None:
    weights = torch.tensor([[0.3, -0.1, 0.2], [0.1, -0.5, 0.1]])
    assert smallest(weights, 1).tolist() == [[False, True, False], [False, False, False]]
    assert smallest(weights, 2).tolist() == [[False, True, False], [True, False, False]]
    assert smallest(weights, 4).tolist() == [[False, True, True], [True, False, True]]
    assert smallest(torch.zeros(5), 2).tolist() == [True, True, False, False, False]
    assert not smallest(weights, 0).any()
    assert smallest(weights, 6).all()


def test_the_weights_of_every_layer_but_the_head_shrink() -> None:
    before, after = networked("", "mlp[width=4,depth=2]"), _shrunk("shrink[share=0.3,rho=0.5]")
    for old, new in zip(layers_of(before.backbone), layers_of(after.backbone), strict=True):
        count = int(0.3 * old.weight.numel())
        factor = torch.ones(old.weight.numel())
        factor[old.weight.detach().abs().flatten().argsort()[:count]] = 0.5
        assert torch.equal(new.weight, old.weight * factor.view_as(old.weight))
        assert torch.equal(new.bias, old.bias)
    assert before.head is not None
    assert torch.equal(after.head.weight, before.head.weight)
    whole = _shrunk("shrink[share=1,rho=0,head=true]")
    assert not any(layer.weight.any() for layer in layers_of(whole))


def test_weights_shrink_behind_every_step_of_the_optimiser() -> None:
    stage = stage_like(0, 3, items=24)
    learner: Any = configured(
        "strategy", "cross-entropy[lr=0.5,momentum=0,weight_decay=0,components=shrink[share=1,rho=0.9]]"
    )
    learner.start(FakeContext(epochs=3, batch_size=24))
    learner.learn(stage)
    network = networked("", "mlp[width=16,depth=1]", classes=3)
    inputs, labels = torch.from_numpy(np.asarray(stage.inputs)), torch.from_numpy(stage.labels)
    (hidden,) = layers_of(network.backbone)
    for _ in range(3):
        network.zero_grad()
        cross_entropy(network(inputs), labels).backward()  # type: ignore[no-untyped-call]
        for weights in network.parameters():
            assert weights.grad is not None
            weights.data -= 0.5 * weights.grad
        hidden.weight.data *= 0.9
    assert torch.allclose(learner.models[0].evaluated(inputs), network(inputs), atol=1e-6)


@pytest.mark.parametrize("then", ["mask", "keep"])
def test_behind_the_phase_the_mask_is_fixed_or_weights_are_free(then: str) -> None:
    network = networked(f"shrink[share=0.5,rho=0.5,phase=0.5,then={then}]", "mlp[width=4,depth=1]")
    (layer,) = layers_of(network.backbone)
    values = torch.arange(1.0, 21).view(4, 5)
    layer.weight.data.copy_(values)
    _shrunk("", BATCH._replace(step=0, steps=4), network)
    assert torch.equal(layer.weight, values * torch.where(values <= 10, 0.5, 1))
    _shrunk("", BATCH._replace(step=1, steps=4), network)
    masked = values > 10
    assert torch.equal(layer.weight != 0, masked if then == "mask" else values > 0)
    layer.weight.data.copy_(values.flip(0))
    _shrunk("", BATCH._replace(step=2, steps=4), network)
    assert torch.equal(layer.weight, values.flip(0) * (masked if then == "mask" else 1))
    assert only(network).state_dict() == {}
