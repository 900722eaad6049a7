"""Joint training: keep every item and learn all stages so far anew. The upper bound of every
class-incremental board.

It breaks the rule that earlier stages are gone, on purpose: it shows what the network and the budget of
epochs can reach.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from harness.contracts import Stage, param
from strategies.class_incremental.base import ClassLearner
from strategies.components.losses import mean_cross_entropy
from strategies.toolkit.training.tensors import Items, items_of


class Joint(ClassLearner):
    """Train a fresh network on all stages so far; the upper bound."""

    offers: ClassVar[frozenset[str]] = ClassLearner.offers | {"targets", "own-step"}

    lr: float = param(0.05, "learning rate", gt=0)
    momentum: float = param(0.9, "momentum of the gradient steps", ge=0, lt=1)

    def setup(self) -> None:
        """Make the classifier and an empty memory without limit."""
        super().setup()
        self.kept: list[list[Tensor]] = []

    def learn(self, stage: Stage) -> None:
        """Start from new weights and minimise cross-entropy on everything seen so far."""
        task_of = self.model.task_of
        self.model = self.network()
        self.model.task_of = list(task_of)
        self.model.grow(stage)
        self.kept.append(list(items_of(stage, self.context)))
        items = Items.all_of(self.kept)
        self.minimise(items, lambda batch: mean_cross_entropy(self.model(batch.inputs), batch))
        self.know(items)
