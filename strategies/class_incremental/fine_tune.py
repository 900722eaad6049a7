"""Fine-tuning: learn each stage as if it were the only one. The lower bound of every class-incremental board.

Nothing protects what was learned before, so it shows how much a scenario forgets by itself.
"""

from __future__ import annotations

from torch.nn.functional import cross_entropy

from harness.contracts import Stage, param
from strategies.toolkit.augmentations import augmenting
from strategies.toolkit.classifier import ClassLearner
from strategies.toolkit.training.loop import sgd, train
from strategies.toolkit.training.tensors import items_of


class FineTune(ClassLearner):
    """Train on each stage alone; the lower bound."""

    lr: float = param(0.05, "learning rate", gt=0)
    momentum: float = param(0.9, "momentum of the gradient steps", ge=0, lt=1)

    def learn(self, stage: Stage) -> None:
        """Minimise cross-entropy on the stage."""
        self.model.grow(stage)
        optimiser = sgd(self.model.parameters(), lr=self.lr, momentum=self.momentum)
        items = items_of(stage, self.context)
        train(
            self.model,
            items,
            lambda batch: cross_entropy(self.model(batch.inputs), batch.labels),
            optimiser,
            self.context,
            augment=augmenting(self.context),
        )
        self.know(items)
