"""Nested co-teaching: two networks with compressed features that then teach each other (Chen et al. 2021,
2022; released code at 9a2fc40).

Stage one is nested dropout, which trains the networks apart; in stage two each learns the items that the
other one finds easy.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.contracts import IntArray, Stage, param
from strategies.noisy_labels.base import Networks, noise_rate
from strategies.noisy_labels.frozen_batch_norm import FrozenBatchNorm
from strategies.noisy_labels.nested import features_of, logits_of_width
from strategies.noisy_labels.nested_dropout import Compress, NestedDropout
from strategies.noisy_labels.schedules import Named, schedule_of
from strategies.noisy_labels.small_losses import (
    checked_rate,
    forget_rate,
    keeps,
    mean_losses,
    noise_score_by_loss,
    smallest,
)
from strategies.toolkit.augmentations import augmenting
from strategies.toolkit.losses.robust import cross_entropy as item_losses
from strategies.toolkit.training.loop import Batch, train
from strategies.toolkit.training.tensors import Items


class NestedCoTeaching(NestedDropout):
    """Two networks with compressed features, which then teach each other with the items they find easy."""

    offers: ClassVar[frozenset[str]] = NestedDropout.offers

    first_share: float = param(0.67, "share of the epochs that the networks train apart", gt=0, lt=1)
    stage_two: bool = param(True, "whether the second stage takes place", ablate=[False])
    forget_rate: float = param(
        -1.0, "share of a batch that is left out; negative for the rate that the protocol tells", ge=-1, lt=1
    )
    ramp: int = param(0, "epochs of stage two until it is reached", ge=0, unit="epochs", ablate=[5])
    exponent: float = param(1.0, "the rise ends at forget_rate to this power", gt=0)
    judge: Literal["halves", "whole"] = param(
        "halves",
        "each network judges its half of a batch in evaluation mode, or both all of it in "
        "training mode (classic co-teaching)",
        ablate=["whole"],
    )
    exchange: Literal["cross", "self"] = param(
        "cross",
        "whether a network learns what the other one finds easy, or what it does itself",
        ablate=["self"],
    )
    freeze_norm: bool = param(True, "whether batch normalisation is frozen in stage two")
    second_lr: float = param(
        0.1, "learning rate of stage two as a share of lr (published 0.01 to 0.1)", gt=0, ablate=[0.01, 1.0]
    )
    second_schedule: Named = param("", "learning rate over stage two; empty for the schedule of stage one")

    def setup(self) -> None:
        """Make the networks; nothing is kept or doubted yet."""
        super().setup()
        self.bar, self.judging = float("inf"), 0

    def new_networks(self) -> Networks:
        """Return two networks with weights of their own."""
        return Networks(self.network(place) for place in range(2))

    def fit(self, stage: Stage, items: Items, first: int) -> None:
        """Train apart, then together."""
        size = self.context.batch_size // 2 if self.judge == "halves" else self.context.batch_size
        rate = checked_rate(noise_rate(stage, self.forget_rate), size) if self.stage_two else 0.0
        self._take_validation(stage)
        epochs = self.context.epochs
        apart = (
            min(max(1, round(self.first_share * epochs)), max(1, epochs - 1)) if self.stage_two else epochs
        )
        self._compressed_training(items, apart)
        if self.stage_two and epochs > apart:
            self.teach_each_other(items, rate, apart, epochs - apart)
        self.width, self.held = self._best_width(), []
        self.bar = keeps(mean_losses(self.logits(items.inputs), items.labels), rate)

    def judge_labels(self, logits: Tensor, labels: Tensor, rows: IntArray) -> tuple[Tensor, Tensor]:
        """Doubt labels by their loss; keep those that a selection over the whole last stage would have kept."""
        return noise_score_by_loss(mean_losses(logits, labels), self.bar)

    def teach_each_other(self, items: Items, rate: float, before: int, epochs: int) -> None:
        """Train both networks, each on items that the other finds easy: stage two."""
        compress = self.compressing("widths-together", "last" if self.layers == "last" else "both")
        optimiser = self.new_optimiser()
        for group in optimiser.param_groups:
            group["lr"] *= self.second_lr
        norms = FrozenBatchNorm(self.models, still=self.freeze_norm)

        def settle(_: int) -> None:
            self.judging = self._best_width()
            norms.freeze()

        def loss(batch: Batch) -> Tensor:
            forgotten = forget_rate(rate, batch.epoch, self.ramp, self.exponent)
            return (
                self.loss_of_halves(batch, forgotten, compress)
                if self.judge == "halves"
                else self.loss_of_whole(batch, forgotten, compress)
            )

        train(
            self.models.module(),
            items,
            loss,
            optimiser,
            self.context,
            augment=augmenting(self.context, "views-together"),
            epochs=epochs,
            first_epoch=before,
            schedule=schedule_of(self.second_schedule or self.schedule),
            rate_changes=self.rate_changes,
            at_epoch=settle,
        )
        norms.unfreeze()

    def loss_of_halves(self, batch: Batch, forgotten: float, compress: Compress) -> Tensor:
        """Each network learns what the other one picked from its own half."""
        halves = torch.tensor_split(torch.arange(len(batch.labels), device=batch.labels.device), 2)
        picked = []
        for model, rows in zip(self.models, halves, strict=True):
            judged = item_losses(
                logits_of_width(model, features_of(model, batch.inputs[rows]), self.judging),
                batch.labels[rows],
            )
            picked.append(rows[smallest(judged, forgotten)] if len(rows) else rows)
        if self.exchange == "cross":
            picked.reverse()
        kept = [(model, rows) for model, rows in zip(self.models, picked, strict=True) if len(rows)]
        inputs, labels = batch.inputs, batch.labels
        logits = [compress(model, inputs[rows]) for model, rows in kept]
        return torch.stack(
            [cross_entropy(own, labels[rows]) for own, (_, rows) in zip(logits, kept, strict=True)]
        ).sum()

    def loss_of_whole(self, batch: Batch, forgotten: float, compress: Compress) -> Tensor:
        """Both judge and learn on the whole batch with what they predict while training."""
        each = [item_losses(compress(model, batch.inputs), batch.labels) for model in self.models]
        picked = [smallest(losses.detach(), forgotten) for losses in each]
        if self.exchange == "cross":
            picked.reverse()
        return torch.stack([losses[rows].mean() for losses, rows in zip(each, picked, strict=True)]).sum()
