"""Joint training with all labels on the network of the NCD methods: the upper bound. It alone is handed the labels of novel items."""

from __future__ import annotations

from torch import Tensor

from harness.contracts import HIDDEN, Stage
from harness.errors import Unsuitable
from strategies.toolkit.novel_classes import NovelClasses, Rows
from strategies.toolkit.tensors import Items


class JointNovel(NovelClasses):
    """Cross-entropy on known and novel classes, all labelled; the upper bound."""

    def setup(self) -> None:
        """Make an empty network that has one head without over-clustering."""
        super().setup()
        self.known = 0

    def suit(self, stage: Stage) -> None:
        """Check that every label is there.

        Raises:
            Unsuitable: a hidden label.
        """
        if (stage.labels == HIDDEN).any():
            raise Unsuitable("is an upper bound and needs every label; only a scenario that names it so hands them over")

    def discover(self, stage: Stage, items: Items, novel: int) -> None:
        """Give the classes of stage 1 prototypes of their own on the features, and train on all labels."""
        network = self.network.freeze(self.trainable)
        self.known = network.classes[0]
        network.widen(stage.named_classes)
        self.train_labelled(items, self.lr)

    def rows(self, inputs: Tensor, features: Tensor) -> Rows:
        """Return the scores of known and novel classes."""
        scores = self.network.scores(features).known
        return Rows(scores[:, : self.known], scores[None, :, self.known :])
