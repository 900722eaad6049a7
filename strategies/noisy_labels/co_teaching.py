"""Co-teaching: two networks, each shown the items of a batch whose loss is small for the other one (Han et
al. 2018, algorithm 1).

The share that is forgotten rises over the first epochs to the share of wrong labels, which is said or told by
the protocol. The released code divides the loss once more by the number of items kept, which Adam hides; here
the mean counts.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from harness.contracts import IntArray, Stage, param
from strategies.noisy_labels.base import LabelLearner, Networks, noise_rate
from strategies.noisy_labels.small_losses import (
    checked_rate,
    forget_rate,
    keeps,
    mean_losses,
    noise_score_by_loss,
    smallest,
)
from strategies.toolkit.losses.robust import Named, loss_of
from strategies.toolkit.training.loop import Batch
from strategies.toolkit.training.tensors import Items


class CoTeaching(LabelLearner):
    """Two networks teach each other with the items that they find easy."""

    offers: ClassVar[frozenset[str]] = LabelLearner.offers

    forget_rate: float = param(
        -1.0, "share of a batch that is left out; negative for the rate that the protocol tells", ge=-1, lt=1
    )
    ramp: int = param(10, "epochs until it is reached", ge=0, unit="epochs", ablate=[0])
    exponent: float = param(1.0, "the rise ends at forget_rate to this power", gt=0)
    exchange: Literal["cross", "self"] = param(
        "cross",
        "whether a network learns what the other one finds easy, or what it does itself",
        ablate=["self"],
    )
    loss: Named = param("cross-entropy", "loss of an item, by which items are chosen and learned")

    def setup(self) -> None:
        """Make the networks; nothing is kept or doubted yet."""
        self.bar = float("inf")
        super().setup()

    def new_networks(self) -> Networks:
        """Return two networks with weights of their own."""
        return Networks(self.network(place) for place in range(2))

    def fit(self, stage: Stage, items: Items, first: int) -> None:
        """Train both networks in step on the same batches."""
        rate, item_loss = (
            checked_rate(noise_rate(stage, self.forget_rate), self.context.batch_size),
            loss_of(self.loss),
        )

        def loss(batch: Batch) -> Tensor:
            forgotten = forget_rate(rate, batch.epoch, self.ramp, self.exponent)
            each = [item_loss(model(batch.inputs), batch.labels) for model in self.models]
            chosen = [smallest(losses.detach(), forgotten) for losses in each]
            if self.exchange == "cross":
                chosen.reverse()
            return torch.stack([losses[rows].mean() for losses, rows in zip(each, chosen, strict=True)]).sum()

        self.minimise(items, loss)
        self.bar = keeps(mean_losses(self.logits(items.inputs), items.labels), rate)

    def judge_labels(self, logits: Tensor, labels: Tensor, rows: IntArray) -> tuple[Tensor, Tensor]:
        """Doubt labels by their loss; keep those that a selection over the whole last stage would have kept."""
        return noise_score_by_loss(mean_losses(logits, labels), self.bar)
