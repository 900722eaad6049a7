"""A small problem of noisy labels, the learners that are tried on it, and the pieces of a loop written from
their cards.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from fakes import FakeContext
from torch import Tensor

from harness.contracts import NoiseInfo, Prediction, Query, Stage, Validation
from harness.plugins import find, registered
from strategies.noisy_labels.base import LabelLearner
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.tensors import Items, items_of

LEARNERS = sorted(
    name for name in registered("strategy") if issubclass(find("strategy", name).cls, LabelLearner)
)


def noisy_stage(
    index: int = 0, *, items: int = 48, classes: int = 3, validation: bool = True, told: bool = True
) -> Stage:
    """Overlapping blobs of `classes` new classes in five dimensions, 30 % of the labels moved on by one."""
    rng = np.random.default_rng(index)
    named = classes * (index + 1)
    centres = np.random.default_rng(99).normal(size=(100, 5))

    def some(size: int) -> tuple[np.ndarray, np.ndarray]:
        true = np.arange(size) % classes
        given = classes * index + np.where(rng.random(size) < 0.3, (true + 1) % classes, true)
        return (centres[classes * index + true] + rng.normal(scale=0.5, size=(size, 5))).astype(
            np.float32
        ), given

    inputs, labels = some(items)
    held, held_labels = some(24)
    shares = 0.7 * np.eye(classes) + 0.3 * np.roll(np.eye(classes), 1, axis=1)
    facts = NoiseInfo(rate=0.3, matrix=np.kron(np.eye(index + 1), shares).astype(np.float32))
    ids = 100 * index + np.random.default_rng(7).permutation(items)
    kept = Validation(ids=1000 + np.arange(24), inputs=held, labels=held_labels)
    return Stage(
        index=index,
        ids=ids,
        inputs=inputs,
        labels=labels,
        named_classes=named,
        new_classes=classes,
        validation=kept if validation else None,
        noise_info=facts if told else None,
    )


def lent(**values: Any) -> Any:
    """Three passes in batches of eight, one hidden layer of sixteen."""
    return FakeContext(**{"epochs": 3, **values})


def started(name: str, context: Any = None, **values: Any) -> Any:
    """Return the strategy, ready for its first stage."""
    strategy = find("strategy", name).cls(**values)
    strategy.start(context or lent())
    return strategy


QUERY = Query(
    ids=np.arange(200, 260), inputs=np.random.default_rng(5).normal(scale=2, size=(60, 5)).astype(np.float32)
)


class Learned(NamedTuple):
    """All weights in one row, and the logits of every network for the query."""

    weights: Tensor
    logits: Tensor


def weights_of(*models: torch.nn.Module) -> Tensor:
    return torch.cat(
        [weights.detach().flatten() for model in models for weights in model.parameters()] or [torch.zeros(0)]
    )


def learned(name: str, context: Any = None, *, stages: int = 1, **values: Any) -> Learned:
    """Train on the small problem."""
    strategy = started(name, context, **values)
    torch.manual_seed(0)
    for index in range(stages):
        strategy.learn(noisy_stage(index))
    if not stages:
        return Learned(torch.zeros(0), torch.zeros(0))
    return Learned(weights_of(*strategy.models), strategy.logits(torch.from_numpy(np.asarray(QUERY.inputs))))


def passes(context: Any, items: int, epochs: int) -> Iterator[tuple[int, Tensor]]:
    """The batches of one stage, as (epoch, rows)."""
    rng = context.stream("batches")
    for epoch in range(epochs):
        for rows in torch.split(torch.from_numpy(rng.permutation(items)), context.batch_size):
            yield epoch, rows


def plain_sgd(*models: torch.nn.Module, lr: float = 0.05) -> torch.optim.Optimizer:
    """The optimiser of all learners by default, in torch's plainest form."""
    weights = [weights for model in models for weights in model.parameters()]
    return torch.optim.SGD(weights, lr=lr, momentum=0.9, weight_decay=5e-4, foreach=False, fused=False)


def fresh(context: Any, stage: Stage, place: int = 0, *, bias: bool = True) -> Classifier:
    """The network at `place`, as initialised."""
    return Classifier(context, bias=bias, init=f"init-{place}" if place else "init").grow(stage)


def as_items(stage: Stage) -> Items:
    return items_of(stage, lent())


class Curious(FakeContext):
    """Asks the learner after every step and every epoch."""

    learner: Any = None
    given: list[Prediction]

    def probe(self, step: int) -> None:
        self.given.append(self.learner.predict(QUERY))

    def epoch_ended(self, epoch: int) -> None:
        self.probe(epoch)
