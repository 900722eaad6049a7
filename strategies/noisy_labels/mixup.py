"""mixup: train on convex combinations of pairs of items and of their labels (Zhang et al. 2018)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.contracts import Stage, param
from strategies.noisy_labels.base import LabelLearner
from strategies.toolkit.training.loop import Batch
from strategies.toolkit.training.tensors import Items


class Mixup(LabelLearner):
    """Train on mixtures of items, one weight per batch."""

    offers: ClassVar[frozenset[str]] = LabelLearner.offers

    alpha: float = param(
        1.0,
        "of Beta(alpha, alpha), from which the weight is drawn; larger mixes more (8 to 32 under noise)",
        gt=0,
        ablate=[4.0, 8.0],
    )

    def fit(self, stage: Stage, items: Items, first: int) -> None:
        """Mix every batch with itself in another order."""
        model, rng = self.models[0], self.context.stream("mixup")

        def loss(batch: Batch) -> Tensor:
            weight = float(rng.beta(self.alpha, self.alpha))
            other = torch.from_numpy(rng.permutation(len(batch.labels))).to(batch.labels.device)
            logits = model(weight * batch.inputs + (1 - weight) * batch.inputs[other])
            return weight * cross_entropy(logits, batch.labels) + (1 - weight) * cross_entropy(
                logits, batch.labels[other]
            )

        self.minimise(items, loss)
