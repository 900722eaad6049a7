"""Learners of labels show items as the protocol's views have it: once a step, and never to what remembers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from noisy_problem import (
    LEARNERS,
    as_items,
    fresh,
    learned,
    lent,
    noisy_stage,
    passes,
    plain_sgd,
    started,
    weights_of,
)
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.contracts import Stage
from strategies.toolkit.augmentations import augmenting
from strategies.toolkit.classifier import Classifier

NOISE = "noise[std=0.5]"
CLASS_LEARNERS = ["fine-tune", "joint", "replay", "der", "lwf", "ewc", "avalanche-naive", "avalanche-replay"]


def _trained(loss: Callable[[Classifier, Tensor, Tensor], Tensor], context: Any, stage: Stage) -> Classifier:
    """A bare loop of a network that sees `loss` of (network, shown, rows)."""
    network, items, show = fresh(context, stage), as_items(stage), augmenting(context)
    optimiser = plain_sgd(network)
    for _, rows in passes(context, len(items), context.epochs):
        optimiser.zero_grad()
        torch.autograd.backward(loss(network, show(items.inputs[rows]), rows))
        optimiser.step()
    return network


def test_cross_entropy_sees_a_new_view_of_every_item_at_every_step() -> None:
    context, stage = lent(augmentations=NOISE), noisy_stage()
    labels = as_items(stage).labels
    wanted = _trained(
        lambda network, shown, rows: cross_entropy(network(shown), labels[rows]), context, stage
    )
    torch.testing.assert_close(
        learned("cross-entropy", context).weights, weights_of(wanted), rtol=1e-4, atol=1e-5
    )


def test_elr_remembers_what_it_made_of_the_view_that_was_shown() -> None:
    context, stage = lent(augmentations=NOISE, epochs=1), noisy_stage()
    labels, table = as_items(stage).labels, torch.zeros(48, 3)

    def loss(network: Classifier, shown: Tensor, rows: Tensor) -> Tensor:
        logits = network(shown)
        p = logits.softmax(dim=1).clamp(1e-4, 1 - 1e-4)
        table[rows] = 0.3 * (p / p.sum(dim=1, keepdim=True)).detach()
        return cross_entropy(logits, labels[rows]) + 3 * torch.log(1 - (table[rows] * p).sum(dim=1)).mean()

    wanted = _trained(loss, context, stage)
    strategy = started("elr", context)
    strategy.learn(stage)
    torch.testing.assert_close(weights_of(*strategy.models), weights_of(wanted), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(strategy.targets.table, table, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_of_noisy_labels_sees_views_and_answers_items_as_they_are(name: str) -> None:
    """The same views under the same seed, others than without; what is asked is not changed, so asking twice
    gives the same.
    """
    first, again, plain = (
        learned(name, lent(augmentations=NOISE)),
        learned(name, lent(augmentations=NOISE)),
        learned(name, lent()),
    )
    assert torch.equal(first.weights, again.weights)
    assert torch.equal(first.logits, again.logits)
    assert not torch.equal(first.weights, plain.weights)


@pytest.mark.parametrize("name", CLASS_LEARNERS)
def test_every_class_learner_sees_views(name: str) -> None:
    def logits(augmentations: str) -> np.ndarray:
        strategy = started(name, lent(augmentations=augmentations))
        torch.manual_seed(0)
        for index in range(2):
            strategy.learn(noisy_stage(index, validation=False, told=False))
        model = strategy.bridge.strategy.model if name.startswith("avalanche") else strategy.model
        model.eval()
        return model(as_items(noisy_stage()).inputs).detach().numpy()

    seen, again, plain = logits(NOISE), logits(NOISE), logits("same")
    np.testing.assert_array_equal(seen, again)
    assert not np.allclose(seen, plain)


@pytest.mark.parametrize("name", ["replay", "der", "joint"])
def test_memories_keep_items_and_not_views_of_them(name: str) -> None:
    strategy, stage = started(name, lent(augmentations=NOISE)), noisy_stage()
    strategy.learn(stage)
    kept = strategy.kept[0][0] if name == "joint" else strategy.buffer.items.inputs
    rows = {tuple(row.tolist()) for row in as_items(stage).inputs}
    assert len(kept)
    assert {tuple(row.tolist()) for row in kept} <= rows
