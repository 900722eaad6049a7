"""Nested dropout: features are compressed while training, so that wrong labels are harder to fit (Chen et al.
2021, 2022; code at 9a2fc40).

The network is kept as it was when best on validation items. Followed is the released code, but for this: the
penalty on k chooses and is not reported, k = 1 may be chosen, and no test item chooses anything.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout

from harness.contracts import Stage, param
from harness.errors import Unsuitable, UserError
from strategies.noisy_labels.base import LabelLearner, Networks
from strategies.noisy_labels.frozen_batch_norm import FrozenBatchNorm
from strategies.noisy_labels.nested import (
    Law,
    Shrink,
    best_width,
    checked_width,
    features_of,
    logits_of,
    logits_of_width,
    prefix_mask,
    right_by_width,
    through_two_layers,
    widths_law,
)
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch, Schedule, warmed
from strategies.toolkit.training.tensors import Items, as_tensor

Layers = Literal["last", "both", "alternating"]
Compress = Callable[[Classifier, Tensor], Tensor]


class NestedDropout(LabelLearner):
    """One network whose features are ordered by importance; only as many count as do best on validation
    items.
    """

    offers: ClassVar[frozenset[str]] = frozenset({"network", "rates"})

    compression: Literal["nested", "dropout", "none"] = param(
        "nested", "nested dropout, plain dropout or nothing on the features", ablate=["dropout", "none"]
    )
    sigma: float = param(
        50.0,
        "spread of the number of channels kept (published: 10 or 100 of 512)",
        gt=0,
        unit="channels",
        ablate=[10.0, 20.0],
    )
    mu: float = param(0.0, "where the half-Gaussian has its top", ge=0, unit="channels")
    law: Law = param(
        "half-gaussian",
        "how the number of channels is drawn; geometric with mean sigma",
        ablate=["geometric", "uniform"],
    )
    each_item: bool = param(
        False, "whether every item has a draw of its own instead of every batch", ablate=[True]
    )
    layers: Layers = param(
        "last",
        "layers that are compressed: the last, both of a network that ends in two fully connected ones, or by a "
        "coin one of these for every batch (published for VGG-19)",
    )
    rescale: bool = param(False, "whether what is kept is scaled up to the full sum", ablate=[True])
    dropout: float = param(0.3, "rate of plain dropout", ge=0, lt=1)
    bias: bool = param(False, "whether the classifier has a bias", ablate=[True])
    choose: Literal["sweep", "fixed", "full"] = param(
        "sweep", "channels at prediction: best on validation items, `k`, or all", ablate=["full"]
    )
    k: int = param(20, "channels at prediction for choose=fixed", ge=1, unit="channels")
    penalty: float = param(1e-5, "accuracy that another channel has to earn", ge=0)
    keep_best: bool = param(
        True,
        "whether the first stage ends with the weights that were best on validation items",
        ablate=[False],
    )
    warmup: float = param(0.0, "share of the training over which the learning rate rises", ge=0, lt=1)
    freeze_first: bool = param(
        False, "whether batch normalisation is frozen (published for pretrained networks, in stage one)"
    )

    def setup(self) -> None:
        """Make the networks; how many channels count is not known yet."""
        super().setup()
        self.width = 0
        self.held: list[Tensor] = []

    def network(self, place: int) -> Classifier:
        """Return a network with a linear head, by default without bias."""
        init = f"init-{place}" if place else "init"
        return Classifier(self.context, bias=self.bias, init=init, components=self.chain(init))

    def fit(self, stage: Stage, items: Items, first: int) -> None:
        """Train with compressed features."""
        self._take_validation(stage)
        self._compressed_training(items, self.context.epochs)
        self.width, self.held = self._best_width(), []

    def logits(self, inputs: Tensor) -> Tensor:
        """Return logits (networks, N, C) of the channels that count; while training, they are chosen anew for
        every answer.
        """
        width = self.width or self._best_width()
        return torch.stack(
            [logits_of_width(model, features_of(model, inputs), width) for model in self.models]
        )

    def rates(self) -> Schedule:
        """Return the schedule, with the learning rate rising first."""
        after = super().rates()
        return (lambda done: warmed(0.02, 1.0, done, self.warmup) * after(done)) if self.warmup else after

    # --- first stage ----------------------------------------------------------------------------------------

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
            raise Unsuitable(
                "chooses by validation items, and this protocol holds none out (validation=noisy or clean)"
            )
        if stage.validation is not None:
            labels = torch.tensor(stage.validation.labels, device=self.context.device)
            self.held = [as_tensor(stage.validation.inputs, self.context.device), labels]

    def _compressed_training(self, items: Items, epochs: int) -> None:
        """Train all networks apart from each other, on the same batches with draws of their own."""
        compressions = [self.compressing(f"widths-{place}", self.layers) for place in range(len(self.models))]
        best: list[tuple[float, dict[str, Tensor]]] = [(-1.0, {}) for _ in self.models]

        def loss(batch: Batch) -> Tensor:
            logits = [
                compress(model, batch.inputs)
                for model, compress in zip(self.models, compressions, strict=True)
            ]
            return torch.stack([cross_entropy(own, batch.labels) for own in logits]).sum()

        def remember() -> None:
            for place, model in enumerate(self.models):
                score = self._validated(Networks([model]))
                if score > best[place][0]:
                    best[place] = (score, copy.deepcopy(dict(nn.Module.state_dict(model))))

        norms = FrozenBatchNorm(self.models, still=self.freeze_first)

        def begin(epoch: int) -> None:
            norms.freeze()
            if self.keep_best and epoch:
                remember()

        self.minimise(items, loss, epochs=epochs, at_epoch=begin)
        norms.unfreeze()
        if self.keep_best:
            remember()
            for model, (_, state) in zip(self.models, best, strict=True):
                nn.Module.load_state_dict(model, state)

    def compressing(self, stream: str, layers: Layers) -> Compress:
        """Return what gives the logits (B, C) of a network for inputs while it trains, of features that are
        compressed.
        """
        last = self.shrinking(stream)
        if layers == "last":
            return lambda model, inputs: logits_of(model, last(model.backbone(inputs)))
        if self.context.compile:
            raise UserError(
                f"layers={self.layers} takes the network apart and cannot be compiled: leave --compile out"
            )
        first, coin = self.shrinking(f"{stream}-first"), self.context.stream(f"{stream}-layer")

        def compress(model: Classifier, inputs: Tensor) -> Tensor:
            chosen = int(coin.integers(2)) if layers == "alternating" else None
            before, after = (_whole if chosen == 1 else first), (_whole if chosen == 0 else last)
            return logits_of(model, through_two_layers(model.backbone, inputs, before, after))

        return compress

    def shrinking(self, stream: str) -> Shrink:
        """Return what is done to features (B, D) while training."""
        if self.compression == "none":
            return _whole
        if self.compression == "dropout":
            return lambda features: dropout(features, self.dropout)
        rng = self.context.stream(stream)
        ends_of = cache(lambda width: np.cumsum(widths_law(width, self.law, self.sigma, self.mu)))

        def shrink(features: Tensor) -> Tensor:
            width = features.shape[1]
            ends = ends_of(width)
            luck = rng.random(len(features) if self.each_item else 1)
            kept = torch.from_numpy(np.searchsorted(ends, luck * ends[-1], side="right") + 1).to(
                features.device
            )
            masked = features * prefix_mask(kept, width)
            return masked * (width / kept[:, None]) if self.rescale else masked

        return shrink

    # --- how many channels count ----------------------------------------------------------------------------

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
        features = torch.stack([features_of(model, inputs) for model in networks])
        heads: list[nn.Linear] = [model.head for model in networks]  # type: ignore[misc]
        with torch.no_grad():
            bias = torch.stack([head.bias for head in heads]) if self.bias else None
            return right_by_width(features, torch.stack([head.weight for head in heads]), bias, labels)

    def _validated(self, networks: Networks) -> float:
        """Return the accuracy of `networks` on validation items, with the channels that count for them."""
        return float(self._sweep(networks)[self._best_width(networks) - 1]) / len(self.held[1])


def _whole(features: Tensor) -> Tensor:
    return features
