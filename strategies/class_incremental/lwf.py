"""Learning without forgetting: keep the old answers on the new inputs (Li and Hoiem 2016, eq. 2 to 4).

loss = cross-entropy(new labels) + strength * KL( softmax(old network / T) || softmax(new network / T) )  over
the classes named before the stage. The paper states the second term as a cross-entropy at temperature T,
which has the same gradient; neither multiplies by T^2.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from harness.contracts import Stage, param
from strategies.class_incremental.base import ClassLearner
from strategies.toolkit.training.loop import Batch
from strategies.toolkit.training.tensors import items_of


def distillation(logits: Tensor, old_logits: Tensor, temperature: float) -> Tensor:
    """Return the mean KL divergence from the old to the new distribution, both (N, C) over the old classes.

    >>> float(distillation(torch.zeros(1, 2), torch.zeros(1, 2), 2.0))
    0.0
    """
    return kl_div(
        log_softmax(logits / temperature, dim=1),
        softmax(old_logits / temperature, dim=1),
        reduction="batchmean",
    )


class LwF(ClassLearner):
    """Distil the network of the previous stage on the inputs of the new one."""

    offers: ClassVar[frozenset[str]] = ClassLearner.offers | {"own-step"}

    strength: float = param(1.0, "weight of the distillation", ge=0, ablate=[0.0], since_stage=1)
    temperature: float = param(2.0, "softens both distributions", gt=0, ablate=[1.0], since_stage=1)
    lr: float = param(0.05, "learning rate", gt=0)
    momentum: float = param(0.9, "momentum of the gradient steps", ge=0, lt=1)

    def learn(self, stage: Stage) -> None:
        """Fit the new labels and the answers of the network as it was, a copy made at the start of every
        later stage.
        """
        old_classes = len(self.model.task_of)
        teacher = self.model.snapshot() if old_classes else None
        self.model.grow(stage)

        def loss(batch: Batch) -> Tensor:
            logits = self.model(batch.inputs)
            value = cross_entropy(logits, batch.labels)
            if teacher is None:
                return value
            with torch.no_grad():
                old_logits = teacher(batch.inputs)
            return value + self.strength * distillation(logits[:, :old_classes], old_logits, self.temperature)

        items = items_of(stage, self.context)
        self.minimise(items, loss)
        self.know(items)
