"""Elastic weight consolidation: hold on to weights that earlier stages need (Kirkpatrick et al. 2017, eq. 3).

loss = cross-entropy + strength / 2 * sum over earlier stages k, weights i of  F_k,i (w_i - w_k,i)^2

F is the diagonal Fisher information at the end of stage k. A sum of parabolas is a parabola: with importance
= sum of F and anchor = the mean of the w_k weighted by F, the penalty is importance * (w - anchor)^2 plus a
constant without gradient, so its cost does not grow with the number of stages. `fisher="sample"` averages
squared gradients of single items with their given label (the empirical Fisher); `fisher="batch"` squares the
gradient of whole batches, as Avalanche does, which is smaller by about the batch size. Rows of the head that
did not exist at stage k carry no weight for it.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from harness.contracts import Stage, param
from strategies.class_incremental.base import ClassLearner
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch
from strategies.toolkit.training.tensors import Items, items_of

Weights = dict[str, Tensor]


class EWC(ClassLearner):
    """Pull weights back to where earlier stages left them, the important ones harder."""

    offers: ClassVar[frozenset[str]] = ClassLearner.offers | {"own-step"}

    strength: float = param(10.0, "weight of the penalty", ge=0, ablate=[0.0], since_stage=1)
    fisher: Literal["sample", "batch"] = param("sample", "whose gradients are squared", ablate=["batch"])
    lr: float = param(0.05, "learning rate", gt=0)
    momentum: float = param(0.9, "momentum of the gradient steps", ge=0, lt=1)

    def setup(self) -> None:
        """Make the classifier; nothing is important yet."""
        super().setup()
        self.importance: Weights = {}
        self.anchor: Weights = {}

    def learn(self, stage: Stage) -> None:
        """Train with the penalty, then measure what this stage needs."""
        self.model.grow(stage)
        items = items_of(stage, self.context)
        if stage.index:
            for name, weight in self.model.named_parameters():
                self.importance[name] = _padded(self.importance[name], weight)
                self.anchor[name] = _padded(self.anchor[name], weight)

        def loss(batch: Batch) -> Tensor:
            value = cross_entropy(self.model(batch.inputs), batch.labels)
            return value + self.strength / 2 * self.penalty() if stage.index else value

        self.minimise(items, loss)
        fisher = (
            sample_fisher(self.model, items)
            if self.fisher == "sample"
            else batch_fisher(self.model, items, self.context.batch_size)
        )
        for name, weight in self.model.named_parameters():
            now = weight.detach()
            before = self.importance.get(name, torch.zeros_like(now))
            total = before + fisher[name]
            pull = torch.where(total > 0, fisher[name] / total, 1.0)
            self.anchor[name] = torch.lerp(self.anchor.get(name, now), now, pull)
            self.importance[name] = total
        self.know(items)

    def penalty(self) -> Tensor:
        """Return the sum over weights of importance * (w - anchor)^2."""
        terms = [
            (self.importance[name] * (weight - self.anchor[name]).square()).sum()
            for name, weight in self.model.named_parameters()
        ]
        return torch.stack(terms).sum()


def sample_fisher(model: Classifier, items: Items, *, chunk: int = 64) -> Weights:
    """Return the mean over items of the squared gradient of each item's loss, one tensor per parameter."""
    weights = {name: weight.detach() for name, weight in model.named_parameters()}

    def loss_of_one(values: Weights, one: Tensor, label: Tensor) -> Tensor:
        return cross_entropy(functional_call(model, values, (one[None],)), label[None])

    gradients = vmap(grad(loss_of_one), in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    model.eval()
    for inputs, labels in zip(
        torch.split(items.inputs, chunk), torch.split(items.labels, chunk), strict=True
    ):
        for name, gradient in gradients(weights, inputs, labels).items():
            total[name] += gradient.square().sum(dim=0)
    return {name: value / len(items) for name, value in total.items()}


def batch_fisher(model: Classifier, items: Items, batch_size: int) -> Weights:
    """Return the mean over batches of the squared gradient of the batch's mean loss (Avalanche's reading)."""
    total = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    model.eval()
    batches = list(
        zip(torch.split(items.inputs, batch_size), torch.split(items.labels, batch_size), strict=True)
    )
    for inputs, labels in batches:
        loss = cross_entropy(model(inputs), labels)
        for name, gradient in zip(total, torch.autograd.grad(loss, list(model.parameters())), strict=True):
            total[name] += gradient.square() / len(batches)
    return total


def _padded(old: Tensor, like: Tensor) -> Tensor:
    """Return `old` with zero rows up to the shape of `like`: the head has grown since."""
    new = torch.zeros_like(like)
    new[: len(old)] = old
    return new
