"""Experience replay: rehearse stored examples of earlier stages beside every batch (Robins 1995; Chaudhry et
al. 2019, "tiny episodic memories").

Every step joins a batch of the stage with as many stored examples as the batch has; the loss is the mean over
both. The memory is refilled when the stage ends, the same share for every class seen.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from harness.contracts import Stage, param
from strategies.class_incremental.base import ClassLearner
from strategies.class_incremental.buffer import Buffer
from strategies.toolkit.augmentations import augmenting
from strategies.toolkit.losses.robust import Named, loss_of
from strategies.toolkit.training.loop import Batch
from strategies.toolkit.training.tensors import Items, items_of


class Replay(ClassLearner):
    """Mix stored examples of earlier stages into every batch."""

    offers: ClassVar[frozenset[str]] = ClassLearner.offers

    memory: int = param(
        200,
        "stored examples, shared equally by the classes seen so far",
        ge=1,
        unit="examples",
        ablate=[50, 500],
    )
    lr: float = param(0.05, "learning rate", gt=0)
    momentum: float = param(0.9, "momentum of the gradient steps", ge=0, lt=1)
    loss: Named = param(
        "cross-entropy",
        "any loss of an item by name, such as gce[q=0.7] where labels may be wrong",
        ablate=["gce"],
    )

    def setup(self) -> None:
        """Make the classifier and an empty memory."""
        super().setup()
        self.buffer = Buffer(self.memory)

    def learn(self, stage: Stage) -> None:
        """Train on batches joined with stored examples, then store some of this stage."""
        self.model.grow(stage)
        items = items_of(stage, self.context)
        rng, item_loss, augment = self.context.stream("replay"), loss_of(self.loss), augmenting(self.context)

        def loss(batch: Batch) -> Tensor:
            mixed = Items(batch.inputs, batch.labels)
            if len(self.buffer):
                old = self.buffer.draw(len(batch.labels), rng)
                mixed = mixed.joined_with(Items(old.inputs, old.labels))
            return item_loss(self.model(augment(mixed.inputs)), mixed.labels).mean()

        self.minimise(items, loss, augment=False)
        self.know(items, self.buffer.items)
        self.buffer.balance(items, self.context.stream("memory"))
