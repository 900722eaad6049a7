"""Joint training with all labels on the network of the NCD methods: the upper bound. It alone is handed the
labels of novel items.
"""

from __future__ import annotations

from torch import Tensor

from harness.contracts import HIDDEN, Stage
from harness.errors import Unsuitable
from strategies.ncd.base import NovelClasses, Rows
from strategies.toolkit.training.tensors import Items


class JointNovel(NovelClasses):
    """Cross-entropy on known and novel classes, all labelled; the upper bound."""

    def suit(self, stage: Stage) -> None:
        """Check that every label is there, and that the second stage brings new classes.

        Raises:
            Unsuitable: a hidden label, or no new class.
        """
        if (stage.labels == HIDDEN).any():
            raise Unsuitable(
                "is an upper bound and needs every label; only a scenario that names it so hands them over"
            )
        if stage.index and stage.named_classes <= self.network.classes:
            raise Unsuitable("learns novel classes beside known ones, and the second stage brings none")

    def discover(self, stage: Stage, items: Items, novel: int) -> None:
        """Give the classes of stage 1 prototypes of their own on the features, and train on all labels."""
        network = self.network.freeze(self.trainable)
        self.known = network.classes
        network.widen(stage.named_classes)
        self.train_labelled(items, stage.index)

    def rows(self, inputs: Tensor, features: Tensor) -> Rows:
        """Return the scores of known and novel classes."""
        scores = self.network.scores(features).known
        return Rows(scores[:, : self.known], scores[None, :, self.known :])
