"""Joint training with all labels on the network of the discovery methods: the upper bound of C-GCD boards.

It is handed the label of every training item (the scenario's upper bound alone is), keeps all items, and goes
on with stage 0's objective on everything so far. What it reaches is what network, augmentations and budget allow. Its
network is warm after stage 0 and sees all items again at every stage, so later stages get a share of the
protocol's passes.
"""

from __future__ import annotations

from torch import Tensor

from harness.contracts import HIDDEN, Stage, param
from harness.errors import Unsuitable
from strategies.cgcd.base import CategoryDiscovery
from strategies.toolkit.training.tensors import Items, items_of


class JointDiscovery(CategoryDiscovery):
    """Stage 0's objective on all items so far, all labelled; the upper bound."""

    passes: float = param(
        0.25,
        "share of the protocol's passes over everything so far that a later stage gets",
        gt=0,
        since_stage=1,
    )

    def setup(self) -> None:
        """Make an empty network and an empty memory without limit."""
        super().setup()
        self.kept: list[list[Tensor]] = []

    def suit(self, stage: Stage) -> None:
        """Check that every label is there.

        Raises:
            Unsuitable: a hidden label.
        """
        if (stage.labels == HIDDEN).any():
            raise Unsuitable(
                "is an upper bound and needs every label; only a scenario that names it so hands them over"
            )

    def learn(self, stage: Stage) -> None:
        """Keep the items, then train on everything seen so far."""
        self.kept.append(list(items_of(stage, self.context)))
        super().learn(stage)

    def discover(self, stage: Stage, inputs: Tensor) -> None:
        """Add rows for the classes of the stage and train on all items kept."""
        self.known = stage.named_classes
        self.network.set_rows(self.known)
        items = Items.all_of(self.kept)
        self.train_labelled(items, epochs=max(1, round(self.passes * self.context.epochs)))
