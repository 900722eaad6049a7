"""What learners on frozen features have in common: features of items, and logits from statistics of them.

Statistics of a class need no other class, so nothing is forgotten: what such a learner lacks is features that fit
the data. With pretrained weights they are the floor under every class-incremental method (Zhou et al. 2023,
"Revisiting Class-Incremental Learning with Pre-Trained Models"; Janson et al. 2022, "A Simple Baseline that
Questions the Use of Pretrained-Models in Continual Learning").
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from harness.contracts import Inputs, IntArray, Observation, Prediction, Query, Stage, Strategy, param
from strategies.toolkit.classifier import Classifier, likeliest
from strategies.toolkit.training.eval_mode import eval_mode, of_some_length
from strategies.toolkit.training.tensors import as_array, as_tensor, items_of

CHUNK = 512
"""Items that are looked at together."""


class FrozenFeatures(Strategy):
    """A learner that updates statistics of features once per stage and answers the class of the largest logit."""

    features: Literal["backbone", "inputs"] = param(
        "backbone",
        "what is seen of an item: the protocol's network as drawn or with its weights, or the input",
    )

    def setup(self) -> None:
        """Make the network, which nobody trains; its head stays unused."""
        self.model = Classifier(self.context)

    def learn(self, stage: Stage) -> None:
        """Update the statistics with the features of a stage."""
        self.model.grow(stage)
        items = items_of(stage, self.context)
        self.update(torch.cat([*self.seen(items.inputs)]), items.labels, stage.named_classes)

    def predict(self, query: Query) -> Prediction:
        """Return the class of the largest logit among those seen so far."""
        features = torch.cat([*self.seen(as_tensor(query.inputs, self.context.device))])
        return likeliest(self.logits(features).cpu(), self.model.task_of, query)

    def observed(self, inputs: Inputs) -> Observation | None:
        """Return features and logits; there is no linear layer that reads the features. None before the first stage."""
        if not self.model.item_shape:
            return None
        features = torch.cat([*self.seen(as_tensor(inputs, self.context.device))])
        logits = self.logits(features)
        every = bool(torch.isfinite(logits).all())  # else a class has no item yet
        return Observation(features=as_array(features), logits=as_array(logits) if every else None)

    def surface(self, inputs: Inputs, labels: IntArray) -> None:
        """Nothing is minimised."""

    @abstractmethod
    def update(self, features: Tensor, labels: Tensor, classes: int) -> None:
        """Take in a stage: features float64 (N, d), labels int64 (N,), and how many classes have been named."""

    @abstractmethod
    def logits(self, features: Tensor) -> Tensor:
        """Return logits, float64 (N, C), of features float64 (N, d); minus infinity for classes without an item."""

    def seen(self, inputs: Tensor) -> Iterator[Tensor]:
        """Yield the features of items (N, ...) in chunks, float64 (n, d)."""
        for part in torch.split(inputs, CHUNK):
            if self.features == "inputs":
                yield of_some_length(part.flatten(1).double())
            else:
                with eval_mode(self.model):
                    found: Tensor = self.model.backbone(part)
                yield of_some_length(found.flatten(1).double())


def per_class(labels: Tensor, classes: int) -> Tensor:
    """Return which item is of which class: float64 (C, N), ones and zeros."""
    return (torch.arange(classes, device=labels.device)[:, None] == labels).double()


def grown(statistic: Tensor | None, like: Tensor) -> Tensor:
    """Return a statistic of C classes, padded with zeros to the shape of `like` (C', ...), C' >= C; zeros where
    there is none yet.
    """
    whole = torch.zeros_like(like)
    if statistic is not None:
        whole[: len(statistic)] = statistic
    return whole
