"""Fire together wire together: every layer predicts from its input which of its channels will fire, and the others
are set to zero (Elkerdawy et al. 2022, arXiv 2110.08232; released code at fc9e27f).

A channel's heat is its largest |activation| over positions. Targets keep the hottest channels while their share of
all heat adds up to at most `keep` + 1e-5 (for 1: those with a share above 1e-5). The predictor is linear in the
softmax of the input's mean over positions; a channel is on where its sigmoid is above a half. The loss is the mean over
layers of binary cross-entropy, summed over channels and averaged over the batch.

Differences: at least one channel stays on, where the code keeps none if one has more than `keep` of the heat; a network
is trained from its start instead of from pretrained weights, so that predictors begin with all channels on (bias 2) and
masks are off in a warm-up; linear layers count as convolutions with one position. Nothing gets faster here: masks
are a limit on what an item may use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, linear

from harness.contracts import param
from harness.errors import Unsuitable
from strategies.components.contract import Component, Rate
from strategies.components.crrelu import CorrectedReLU
from strategies.components.modules import Layer, activations_behind
from strategies.ood_scores import Seen
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch

_ROOM = 1e-5
_BIAS = 2.0


def kept_by_mass(heat: Tensor, keep: float) -> Tensor:
    """Return which channels are kept, 0 or 1 (B, C), for their heat (B, C)."""
    shares = heat / heat.sum(dim=1, keepdim=True).clamp_min(torch.finfo(heat.dtype).tiny)
    if keep == 1:
        kept = shares > _ROOM
    else:
        ordered, places = shares.sort(dim=1, descending=True, stable=True)
        kept = torch.zeros_like(shares, dtype=torch.bool)
        kept.scatter_(1, places, ordered.cumsum(dim=1) <= keep + _ROOM)
    kept.scatter_(1, heat.argmax(dim=1, keepdim=True), True)
    return kept.to(heat.dtype)


class Gated(nn.Module):
    """An activation (B, C, ...) or (B, ..., C) times the mask that is predicted from what its layer is given."""

    def __init__(self, activation: nn.Module, layer: Layer, keep: float, *, joint: bool) -> None:
        super().__init__()
        self.activation, self.keep, self.joint = activation, keep, joint
        self.flat = isinstance(layer, nn.Linear)
        inputs = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
        outputs = len(layer.weight)
        bound = inputs**-0.5
        # no layer of its own: other components look for those of the network
        self.predictor = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.full((outputs,), _BIAS))
        self.on: Tensor
        self.register_buffer("on", torch.zeros((), dtype=torch.bool))
        self.told: tuple[Tensor, Tensor] | None = None
        layer.register_forward_pre_hook(self._look)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the activation, masked where masks are on."""
        active: Tensor = self.activation(inputs)
        logits = self._logits()
        if self.training and self.told is None:
            heat = self._by_position(active.detach()).abs().amax(dim=1).to(logits.dtype)
            self.told = (logits, kept_by_mass(heat, self.keep))
        hard = (logits > 0).to(logits.dtype)  # a sigmoid above a half
        if self.joint:
            chance = logits.sigmoid()
            hard = hard + chance - chance.detach()
        mask = torch.where(self.on, hard, 1.0)
        places = active.ndim - 2
        shape = (len(mask), *[1] * places, -1) if self.flat else (len(mask), -1, *[1] * places)
        return active * mask.view(shape).to(active.dtype)

    def loss(self) -> Tensor | None:
        """Return the predictor's loss in the first pass since the last call; None where there was none."""
        if self.told is None:
            return None
        (logits, wanted), self.told = self.told, None
        return binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(dim=1).mean()

    def _look(self, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        pooled = self._by_position(given[0] if self.joint else given[0].detach()).mean(dim=1)
        self.pooled = pooled

    def _logits(self) -> Tensor:
        pooled = self.pooled
        with torch.autocast(pooled.device.type, enabled=False):
            wide = pooled.float() if pooled.dtype in (torch.float16, torch.bfloat16) else pooled
            return linear(wide.softmax(dim=1), self.predictor, self.bias)

    def _by_position(self, values: Tensor) -> Tensor:
        """Return (B, positions, C)."""
        if self.flat:
            return values.reshape(len(values), -1, values.shape[-1])
        return values.flatten(2).transpose(1, 2)


class FireTogether(Component):
    """Let every layer predict which of its channels an item needs, and set the others to zero."""

    keep: float = param(
        0.9,
        "share of a layer's heat that the channels kept have at most",
        gt=0,
        le=1,
        ablate=[0.5, 0.8, 0.95],
    )
    mode: Literal["decoupled", "joint"] = param(
        "decoupled", "whether the learner's gradient also goes through the masks", ablate=["joint"]
    )
    warmup: float = param(0.1, "share of a stage before masks are on", ge=0, le=1, ablate=[0.5])
    cooldown: float = param(0.5, "share of a stage after which predictors learn no more", ge=0, le=1)
    predictor_lr: float = param(
        10.0, "learning rate of the predictors as a factor on the learner's (published 0.1 beside 0.01)", gt=0
    )

    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({"warmup": 1.0})

    def network(self, network: Classifier, part: nn.Module) -> None:
        """Put a mask behind every ReLU that follows a layer of a backbone.

        Raises:
            Unsuitable: there is none.
        """
        if part is network.head:
            return
        found = [
            (layer, behind)
            for layer, behind in activations_behind(part)
            if isinstance(behind, nn.ReLU | CorrectedReLU)
        ]
        if not found:
            raise Unsuitable(
                f"has a network without ReLU modules behind layers, which component {self.name} masks"
            )
        for layer, behind in found:
            made = Gated(behind, layer, self.keep, joint=self.mode == "joint")
            for parent in list(part.modules()):
                for own, child in list(parent.named_children()):
                    if child is behind and parent is not made:
                        setattr(parent, own, made)

    def rates(self, network: Classifier) -> Mapping[nn.Parameter, Rate]:
        """Return the rate of the predictors, which do not decay."""
        rate = Rate(lr=self.predictor_lr, decay=0.0)
        return {weights: rate for each in _gates(network) for weights in (each.predictor, each.bias)}

    def change(self, network: Classifier, batch: Batch) -> Batch:
        """Return the batch as it is; masks are on behind the warm-up."""
        for each in _gates(network):
            each.on.fill_(batch.done >= self.warmup)
            each.told = None
        return batch

    def term(self, network: Classifier, batch: Batch, seen: Seen) -> Tensor | None:
        """Return the mean loss of the predictors; None after the cool-down."""
        losses = [loss for each in _gates(network) if (loss := each.loss()) is not None]
        return torch.stack(losses).mean() if losses and batch.done < self.cooldown else None


def _gates(network: Classifier) -> Iterator[Gated]:
    return (module for module in network.modules() if isinstance(module, Gated))
