"""Nested dropout alone, and as the first stage of nested co-teaching (Chen et al. 2021, 2022; released code at 9a2fc40).

Features are compressed while training (`toolkit.nested`), so that wrong labels are harder to fit. Stage one trains networks apart and
keeps each as it was when best on validation items; stage two lets two of them teach each other. Followed is the released code, but for
this: the penalty on k chooses and is not reported, k = 1 may be chosen, and no test item chooses anything.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout

from harness.contracts import IntArray, Stage, param
from harness.errors import Unsuitable
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.evaluating import evaluating
from strategies.toolkit.label_learner import LabelLearner, Networks, noise_rate
from strategies.toolkit.nested import Law, best_width, checked_width, prefix_mask, right_by_width, widths_law
from strategies.toolkit.robust_losses import cross_entropy as item_losses
from strategies.toolkit.schedules import schedule_of
from strategies.toolkit.small_losses import checked_rate, doubt_by_loss, forget_rate, keeps, mean_losses, smallest
from strategies.toolkit.tensors import Items, as_tensor
from strategies.toolkit.training import Batch, Schedule, train, warmed
from strategies.toolkit.views import showing


class NestedDropout(LabelLearner):
    """One network whose features are ordered by importance; only as many count as do best on validation items."""

    compression: Literal["nested", "dropout", "none"] = param("nested", "nested dropout, plain dropout or nothing on the features",
                                                             ablate=["dropout", "none"])  # fmt: skip
    sigma: float = param(50.0, "spread of the number of channels kept (published: 10 or 100 of 512)", gt=0, unit="channels",
                         ablate=[10.0, 20.0])  # fmt: skip
    mu: float = param(0.0, "where the half-Gaussian has its top", ge=0, unit="channels")
    law: Law = param("half-gaussian", "how the number of channels is drawn; geometric with mean sigma", ablate=["geometric", "uniform"])
    each_item: bool = param(False, "whether every item has a draw of its own instead of every batch", ablate=[True])
    rescale: bool = param(False, "whether what is kept is scaled up to the full sum", ablate=[True])
    dropout: float = param(0.3, "rate of plain dropout", ge=0, lt=1)
    bias: bool = param(False, "whether the classifier has a bias", ablate=[True])
    choose: Literal["sweep", "fixed", "full"] = param("sweep", "channels at prediction: best on validation items, `k`, or all",
                                                      ablate=["full"])  # fmt: skip
    k: int = param(20, "channels at prediction for choose=fixed", ge=1, unit="channels")
    penalty: float = param(1e-5, "accuracy that another channel has to earn", ge=0)
    keep_best: bool = param(True, "whether the first stage ends with the weights that were best on validation items", ablate=[False])
    warmup: float = param(0.0, "share of the training over which the learning rate rises", ge=0, lt=1)
    freeze_first: bool = param(False, "whether batch normalisation stands still (published for pretrained networks, in stage one)")

    def setup(self) -> None:
        """Make the networks; how many channels count is not known yet."""
        super().setup()
        self.width = 0
        self.held: list[Tensor] = []

    def network(self, place: int) -> Classifier:
        """Return a network with a linear head, by default without bias."""
        return Classifier(self.context, bias=self.bias, init=f"init-{place}" if place else "init")

    def fit(self, stage: Stage, items: Items, first: int) -> None:
        """Train with compressed features."""
        self._take_validation(stage)
        self._compressed_training(items, self.context.epochs)
        self.width, self.held = self._best_width(), []

    def logits(self, inputs: Tensor) -> Tensor:
        """Return logits (networks, N, C) of the channels that count; while training, they are chosen anew for every answer."""
        width = self.width or self._best_width()
        return torch.stack([_head(model, _features(model, inputs), width) for model in self.models])

    def rates(self) -> Schedule:
        """Return the schedule, with the learning rate rising first."""
        after = super().rates()
        return (lambda done: warmed(0.02, 1.0, done, self.warmup) * after(done)) if self.warmup else after

    # --- first stage -----------------------------------------------------------------------------------------------------------

    def _take_validation(self, stage: Stage) -> None:
        """Take what to choose by; how many channels count is open again.

        Raises:
            Unsuitable: the protocol holds nothing out, and something is to be chosen.
            UserError: a fixed k that the features do not have.
        """
        self.width = 0
        if self.choose == "fixed" and self.compression == "nested":
            checked_width(self.k, self._width())
        chooses = self.keep_best or (self.compression == "nested" and self.choose == "sweep")
        if stage.validation is None and chooses:
            raise Unsuitable("chooses by validation items, and this protocol holds none out (validation=noisy or clean)")
        if stage.validation is not None:
            labels = torch.tensor(stage.validation.labels, device=self.context.device)
            self.held = [as_tensor(stage.validation.inputs, self.context.device), labels]

    def _compressed_training(self, items: Items, epochs: int) -> None:
        """Train all networks apart from each other, on the same batches with draws of their own."""
        shrinks = [self._shrinking(f"widths-{place}") for place in range(len(self.models))]
        best: list[tuple[float, dict[str, Tensor]]] = [(-1.0, {}) for _ in self.models]

        def loss(batch: Batch) -> Tensor:
            pairs = zip(self.models, shrinks, strict=True)
            return torch.stack(
                [cross_entropy(_head_of(model, shrink(model.backbone(batch.inputs))), batch.labels) for model, shrink in pairs]
            ).sum()

        def remember(_: int) -> None:
            for place, model in enumerate(self.models):
                score = self._validated(Networks([model]))
                if score > best[place][0]:
                    best[place] = (score, copy.deepcopy(dict(nn.Module.state_dict(model))))

        norms = _Norms(self.models, still=self.freeze_first)

        def begin(epoch: int) -> None:
            norms.stop()
            if self.keep_best and epoch:
                remember(epoch)

        self.minimise(items, loss, epochs=epochs, at_epoch=begin)
        norms.go()
        if self.keep_best:
            remember(epochs)
            for model, (_, state) in zip(self.models, best, strict=True):
                nn.Module.load_state_dict(model, state)

    def _shrinking(self, stream: str) -> Callable[[Tensor], Tensor]:
        """Return what is done to features (B, D) while training."""
        if self.compression == "none":
            return lambda features: features
        if self.compression == "dropout":
            return lambda features: dropout(features, self.dropout)
        width = self._width()
        chances = widths_law(width, self.law, self.sigma, self.mu)
        ends, rng = np.cumsum(chances), self.context.stream(stream)

        def shrink(features: Tensor) -> Tensor:
            luck = rng.random(len(features) if self.each_item else 1)
            kept = torch.from_numpy(np.searchsorted(ends, luck * ends[-1], side="right") + 1).to(features.device)
            masked = features * prefix_mask(kept, width)
            return masked * (width / kept[:, None]) if self.rescale else masked

        return shrink

    # --- how many channels count -----------------------------------------------------------------------------------------------

    def _width(self) -> int:
        features: int = self.models[0].backbone.features  # type: ignore[assignment]
        return features

    def _best_width(self, networks: Networks | None = None) -> int:
        """Return the channels that count for the mean logits of `networks`, all by default."""
        if self.compression != "nested" or self.choose == "full":
            return self._width()
        if self.choose == "fixed":
            return checked_width(self.k, self._width())
        right = self._sweep(networks or self.models)
        return best_width(right, len(self.held[1]), self.penalty)

    def _sweep(self, networks: Networks) -> Tensor:
        inputs, labels = self.held
        features = torch.stack([_features(model, inputs) for model in networks])
        heads: list[nn.Linear] = [model.head for model in networks]  # type: ignore[misc]
        with torch.no_grad():
            bias = torch.stack([head.bias for head in heads]) if self.bias else None
            return right_by_width(features, torch.stack([head.weight for head in heads]), bias, labels)

    def _validated(self, networks: Networks) -> float:
        """Return the accuracy of `networks` on validation items, with the channels that count for them."""
        return float(self._sweep(networks)[self._best_width(networks) - 1]) / len(self.held[1])


class NestedCoTeaching(NestedDropout):
    """Two networks with compressed features, which then teach each other with the items they find easy."""

    first_share: float = param(0.67, "share of the epochs that the networks train apart", gt=0, lt=1)
    stage_two: bool = param(True, "whether the second stage takes place", ablate=[False])
    forget_rate: float = param(-1.0, "share of a batch that is left out; negative for the rate that the protocol tells", ge=-1, lt=1)
    ramp: int = param(0, "epochs of stage two until it is reached", ge=0, unit="epochs", ablate=[5])
    exponent: float = param(1.0, "the rise ends at forget_rate to this power", gt=0)
    judge: Literal["halves", "whole"] = param("halves", "each network judges its half of a batch in evaluation mode, or both all of it in "
                                              "training mode (classic co-teaching)", ablate=["whole"])  # fmt: skip
    exchange: Literal["cross", "self"] = param("cross", "whether a network learns what the other one finds easy, or what it does itself",
                                               ablate=["self"])  # fmt: skip
    freeze_norm: bool = param(True, "whether batch normalisation stands still in stage two")
    second_lr: float = param(0.1, "learning rate of stage two as a share of lr (published 0.01 to 0.1)", gt=0, ablate=[0.01, 1.0])
    second_schedule: str = param("", "learning rate over stage two; empty for the schedule of stage one")

    def setup(self) -> None:
        """Make the networks; nothing is kept or doubted yet."""
        schedule_of(self.second_schedule or self.schedule)
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
        apart = min(max(1, round(self.first_share * epochs)), max(1, epochs - 1)) if self.stage_two else epochs
        self._compressed_training(items, apart)
        if self.stage_two and epochs > apart:
            self._taught(items, rate, apart, epochs - apart)
        self.width, self.held = self._best_width(), []
        self.bar = keeps(mean_losses(self.logits(items.inputs), items.labels), rate)

    def opinion(self, logits: Tensor, labels: Tensor, rows: IntArray) -> tuple[Tensor, Tensor]:
        """Doubt labels by their loss; keep those that a selection over the whole last stage would have kept."""
        return doubt_by_loss(mean_losses(logits, labels), self.bar)

    def _taught(self, items: Items, rate: float, before: int, epochs: int) -> None:
        shrink = self._shrinking("widths-together")
        optimiser = self.new_optimiser()
        for group in optimiser.param_groups:
            group["lr"] *= self.second_lr
        norms = _Norms(self.models, still=self.freeze_norm)

        def settle(_: int) -> None:
            self.judging = self._best_width()
            norms.stop()

        def loss(batch: Batch) -> Tensor:
            forgotten = forget_rate(rate, batch.epoch, self.ramp, self.exponent)
            return self._halves(batch, forgotten, shrink) if self.judge == "halves" else self._whole(batch, forgotten, shrink)

        train(self.models.module(), items, loss, optimiser, self.context, show=showing(self.context, "views-together"), epochs=epochs,
              first_epoch=before, schedule=schedule_of(self.second_schedule or self.schedule), at_epoch=settle)  # fmt: skip
        norms.go()

    def _halves(self, batch: Batch, forgotten: float, shrink: Callable[[Tensor], Tensor]) -> Tensor:
        """Each network learns what the other one picked from its own half."""
        halves = torch.tensor_split(torch.arange(len(batch.labels), device=batch.labels.device), 2)
        picked = []
        for model, rows in zip(self.models, halves, strict=True):
            judged = item_losses(_head(model, _features(model, batch.inputs[rows]), self.judging), batch.labels[rows])
            picked.append(rows[smallest(judged, forgotten)] if len(rows) else rows)
        if self.exchange == "cross":
            picked.reverse()
        kept = [(model, rows) for model, rows in zip(self.models, picked, strict=True) if len(rows)]
        inputs, labels = batch.inputs, batch.labels
        logits = [_head_of(model, shrink(model.backbone(inputs[rows]))) for model, rows in kept]
        return torch.stack([cross_entropy(own, labels[rows]) for own, (_, rows) in zip(logits, kept, strict=True)]).sum()

    def _whole(self, batch: Batch, forgotten: float, shrink: Callable[[Tensor], Tensor]) -> Tensor:
        """Both judge and learn on the whole batch with what they predict while training."""
        each = [item_losses(_head_of(model, shrink(model.backbone(batch.inputs))), batch.labels) for model in self.models]
        picked = [smallest(losses.detach(), forgotten) for losses in each]
        if self.exchange == "cross":
            picked.reverse()
        return torch.stack([losses[rows].mean() for losses, rows in zip(each, picked, strict=True)]).sum()


class _Norms:
    """The batch normalisations of networks, which stand still in a part of the training if `still`."""

    def __init__(self, models: Networks, *, still: bool) -> None:
        every = [part for model in models for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        self.standing = every if still else []
        self.trained = [weights for norm in self.standing for weights in norm.parameters() if weights.requires_grad]

    def stop(self) -> None:
        """Normalise by the running figures and train neither weights nor figures; after what puts a network into training mode."""
        for norm in self.standing:
            norm.eval().requires_grad_(False)

    def go(self) -> None:
        """Let the weights train again that did before."""
        for weights in self.trained:
            weights.requires_grad_(True)


def _head_of(model: Classifier, features: Tensor) -> Tensor:
    assert model.head is not None
    logits: Tensor = model.head(features)
    return logits


def _features(model: Classifier, inputs: Tensor, *, chunk: int = 512) -> Tensor:
    """Return features (N, D) in evaluation mode."""
    with evaluating(model):
        return torch.cat([model.backbone(part) for part in torch.split(inputs, chunk)])


@torch.no_grad()
def _head(model: Classifier, features: Tensor, width: int) -> Tensor:
    """Return logits of the first `width` channels."""
    assert model.head is not None
    return nn.functional.linear(features[:, :width], model.head.weight[:, :width], model.head.bias)


__all__ = ["NestedCoTeaching", "NestedDropout"]
