"""Fine-tuning: learn each stage as if it were the only one. The lower bound of every class-incremental board.

Nothing protects what was learned before, so it shows how much a scenario forgets by itself.
"""

from __future__ import annotations

from typing import ClassVar

from harness.contracts import Stage, param
from strategies.class_incremental.base import ClassLearner
from strategies.components.losses import mean_cross_entropy
from strategies.toolkit.training.tensors import items_of


class FineTune(ClassLearner):
    """Train on each stage alone; the lower bound."""

    offers: ClassVar[frozenset[str]] = ClassLearner.offers | {"targets", "own-step"}

    lr: float = param(0.05, "learning rate", gt=0)
    momentum: float = param(0.9, "momentum of the gradient steps", ge=0, lt=1)

    def learn(self, stage: Stage) -> None:
        """Minimise cross-entropy on the stage."""
        self.model.grow(stage)
        items = items_of(stage, self.context)
        self.minimise(items, lambda batch: mean_cross_entropy(self.model(batch.inputs), batch))
        self.know(items)
