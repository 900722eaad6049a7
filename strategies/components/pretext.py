"""A representation that is fitted to inputs alone before labels are looked at (Ge, Tang, Fan and Jin 2024, On the
Provable Advantage of Unsupervised Pretraining, arXiv 2303.01566).

The paper is a theory, with factor models, Gaussian mixtures and contrastive learning as its examples, and has no code.
Here:

- `factor`: probabilistic PCA in closed form; the first layer, which must read the whole input, starts with the rows of
  W^T as its first `width` units, at the size of its own weights. It counts as one pass.
- `mixture`: a diagonal Gaussian mixture of `width` components by EM, a pass a round for half of the passes; in the
  other half the encoder, with a linear layer that is dropped, learns the posterior probabilities.
- `contrastive`: two views of the protocol's augmentations; InfoNCE of features at unit length, over both directions,
  temperature 0.1. It is refused where the protocol has no augmentation.
- `denoise`: squared error of a linear decoder, which is dropped, for inputs with normal noise of deviation 0.2.

Inputs are those of the stage alone: none of validation or queries. `freeze` leaves the learner a linear head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.contracts import param
from harness.errors import Unsuitable
from strategies.components.before import Before, Stages
from strategies.components.contract import Rate, Task
from strategies.components.latent import factors_of, mixture_of
from strategies.components.modules import layers_of, write
from strategies.toolkit.augmentations import augmenting, generator_of
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.losses.robust import soft_cross_entropy
from strategies.toolkit.networks import drawn_from
from strategies.toolkit.training.loop import Batch

_TEMPERATURE = 0.1
_NOISE = 0.2


def info_nce(first: Tensor, second: Tensor, temperature: float = _TEMPERATURE) -> Tensor:
    """Return InfoNCE of two views' features (B, D): -log of the share of exp(cos / temperature) that an item's other
    view has among the other views of all items, mean over items and both directions.
    """
    alike = functional.normalize(first, dim=1) @ functional.normalize(second, dim=1).T / temperature
    own = torch.arange(len(alike), device=alike.device)
    return 0.5 * (functional.cross_entropy(alike, own) + functional.cross_entropy(alike.T, own))


class Pretext(Before):
    """Fit the encoder to the inputs before labels are learned."""

    kind: Literal["denoise", "contrastive", "factor", "mixture"] = param(
        "denoise", "what is fitted", ablate=["contrastive", "factor", "mixture"]
    )
    share: float = param(0.3, "passes of it, of the learner's; 0 for none", ge=0, lt=1, ablate=[0.1])
    width: int = param(16, "factors, or components of the mixture", ge=1)
    freeze: bool = param(False, "whether the encoder is frozen afterwards", ablate=[True])
    stages: Stages = param("first", "whether later stages are fitted too", ablate=["all"])
    pretext_lr: float = param(1e-3, "learning rate of the pretext, by AdamW", gt=0)

    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({"share": 0.0})

    def begin(self, task: Task) -> int:
        """Fit the encoder.

        Raises:
            Unsuitable: no pass would be left for the learner; views without augmentation; factors without a layer that
            could start with them.
        """
        if not self.share or (task.stage.index and self.stages == "first"):
            return 0
        passes, spent = self.passes(task, self.share)
        if self.kind == "factor":
            self._start_with_factors(task)
            return min(1, spent)
        if self.kind == "contrastive":
            self._contrast(task, passes)
        elif self.kind == "mixture":
            self._learn_posteriors(task, passes)
        else:
            self._denoise(task, passes)
        return spent

    def rates(self, network: Classifier) -> Mapping[nn.Parameter, Rate]:
        """Return no rate for the encoder where it is frozen."""
        return {weights: Rate(0.0, 0.0) for weights in network.backbone.parameters()} if self.freeze else {}

    def _start_with_factors(self, task: Task) -> None:
        layers = layers_of(task.network.backbone)
        size = math.prod(task.network.item_shape)
        if not layers or not isinstance(layers[0], nn.Linear) or layers[0].in_features != size:
            raise Unsuitable(
                f"has no first layer that reads all {size} numbers of an input, which {self.name}[kind=factor] starts"
            )
        weights = layers[0].weight.detach()
        if self.width >= size or self.width > len(weights):
            raise Unsuitable(
                f"has a first layer {size} -> {len(weights)}, too small for width={self.width} of component {self.name}"
            )
        rows = factors_of(task.items.inputs, self.width).weights.T.to(weights)
        scale = weights.std() / rows.std().clamp_min(1e-12)
        write(layers[0], "weight", torch.cat([rows * scale, weights[self.width :]]))

    def _contrast(self, task: Task, passes: int) -> None:
        if self.context.augmentations == "same":
            raise Unsuitable(
                f"has no augmentation in this protocol, whose views {self.name}[kind=contrastive] compares"
            )
        encoder = task.network.backbone
        first, second = (
            augmenting(self.context, f"{self.stream_name}-{place}") for place in ("one", "other")
        )

        def loss(batch: Batch) -> Tensor:
            return info_nce(encoder(first(batch.inputs)), encoder(second(batch.inputs)))

        self.train([encoder], task, loss, passes, lr=self.pretext_lr)

    def _learn_posteriors(self, task: Task, passes: int) -> None:
        rounds = -(-passes // 2)
        draws = generator_of(self.context, f"{self.stream_name}-mixture")
        mixture = mixture_of(task.items.inputs, self.width, rounds, draws)
        encoder, last = task.network.backbone, self._linear(task, len(mixture.shares))

        def loss(batch: Batch) -> Tensor:
            wanted = mixture.logs(batch.inputs).softmax(dim=1).float()
            return soft_cross_entropy(last(encoder(batch.inputs)).float(), wanted).mean()

        if passes > rounds:
            self.train([encoder, last], task, loss, passes - rounds, lr=self.pretext_lr)

    def _denoise(self, task: Task, passes: int) -> None:
        encoder, last = task.network.backbone, self._linear(task, math.prod(task.network.item_shape))
        draws = generator_of(self.context, f"{self.stream_name}-noise")

        def loss(batch: Batch) -> Tensor:
            noise = torch.randn(batch.inputs.shape, generator=draws, device=batch.inputs.device)
            found = last(encoder(batch.inputs + _NOISE * noise))
            return functional.mse_loss(found.float(), batch.inputs.flatten(1))

        self.train([encoder, last], task, loss, passes, lr=self.pretext_lr)

    def _linear(self, task: Task, outputs: int) -> nn.Linear:
        features: Any = task.network.backbone.features
        with drawn_from(self.context, f"{self.stream_name}-last"):
            return nn.Linear(features, outputs).to(self.context.device)
