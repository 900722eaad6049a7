"""Progressive self-knowledge distillation: the target leans more and more on the network's own last
prediction (Kim et al. 2021).

target of item i in epoch e of E:  (1 - a) onehot(y_i) + a P[i],  a = trust (e + 1) / E,  P[i] what the
network predicted for i when it was visited last, before that step; in the first epoch P is the label. Made
for clean labels: as trust grows, so does trust in what has been memorised.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import one_hot

from harness.contracts import Stage, param
from strategies.noisy_labels.base import LabelLearner
from strategies.toolkit.losses.robust import soft_cross_entropy
from strategies.toolkit.training.loop import Batch
from strategies.toolkit.training.tensors import Items


class PSKD(LabelLearner):
    """Distil the network's own earlier predictions."""

    offers: ClassVar[frozenset[str]] = LabelLearner.offers

    trust: float = param(0.8, "weight of the own prediction in the last epoch", ge=0, le=1, ablate=[0.0])

    def fit(self, stage: Stage, items: Items, first: int) -> None:
        """Train on targets between label and last prediction."""
        model, epochs = self.models[0], self.context.epochs
        last = one_hot(items.labels, stage.named_classes).float()

        def loss(batch: Batch) -> Tensor:
            a = self.trust * (batch.epoch + 1) / epochs
            logits = model(batch.inputs)
            targets = (1 - a) * one_hot(batch.labels, stage.named_classes) + a * last[batch.rows]
            last[batch.rows] = logits.detach().float().softmax(dim=1)
            return soft_cross_entropy(logits, targets).mean()

        self.minimise(items, loss)
