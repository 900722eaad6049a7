"""Dark experience replay ++: rehearse stored examples with the logits they once had (Buzzega et al. 2020, eq.
6 and algorithm 2).

loss = cross-entropy(batch) + alpha * mean squared error(logits, stored logits) + beta * cross-entropy(stored
labels)

The two memory terms draw their own examples from one reservoir. Logits are stored while training, as the
network gave them. The paper's head has all classes from the start; here the head grows, and classes that did
not exist when an example was stored are left out of its squared error.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.contracts import Stage, param
from strategies.class_incremental.base import ClassLearner
from strategies.class_incremental.buffer import Buffer
from strategies.toolkit.augmentations import augmenting
from strategies.toolkit.training.loop import Batch
from strategies.toolkit.training.tensors import items_of


def logit_error(logits: Tensor, stored: Tensor) -> Tensor:
    """Return the mean squared error over the entries of `stored` that are numbers; both (N, C)."""
    known = ~stored.isnan()
    return (logits - stored)[known].square().mean()


class DERpp(ClassLearner):
    """Replay stored examples together with the logits they once had."""

    offers: ClassVar[frozenset[str]] = ClassLearner.offers

    memory: int = param(
        200, "stored examples, a uniform sample of the stream", ge=1, unit="examples", ablate=[50, 500]
    )
    alpha: float = param(0.5, "weight of the logits' squared error", ge=0, ablate=[0.0])
    beta: float = param(0.5, "weight of the stored labels' cross-entropy", ge=0, ablate=[0.0])
    lr: float = param(0.05, "learning rate", gt=0)
    momentum: float = param(0.9, "momentum of the gradient steps", ge=0, lt=1)

    def setup(self) -> None:
        """Make the classifier and an empty reservoir."""
        super().setup()
        self.buffer = Buffer(self.memory)

    def learn(self, stage: Stage) -> None:
        """Train with both memory terms; every step offers its batch to the reservoir, in every epoch as the
        released code does.
        """
        self.model.grow(stage)
        items = items_of(stage, self.context)
        rng, augment = self.context.stream("replay"), augmenting(self.context)

        def loss(batch: Batch) -> Tensor:
            logits = self.model(augment(batch.inputs))
            value = cross_entropy(logits, batch.labels)
            if len(self.buffer):
                for_logits, for_labels = (self.buffer.draw(len(batch.labels), rng) for _ in range(2))
                assert for_logits.logits is not None
                width = for_logits.logits.shape[1]
                value = value + self.alpha * logit_error(
                    self.model(augment(for_logits.inputs))[:, :width], for_logits.logits
                )
                value = value + self.beta * cross_entropy(
                    self.model(augment(for_labels.inputs)), for_labels.labels
                )
            self.buffer.flow(batch.inputs, batch.labels, logits.detach(), rng)
            return value

        self.minimise(items, loss, augment=False)
        self.know(items, self.buffer.items)
