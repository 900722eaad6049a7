"""Quantised weights, and a penalty on how weights are distributed (Xu et al. 2023, EQ-Net; released code at 86b9e41).

w_q = round(clamp(w / s, lo, hi)) s with lo = -2^(b-1), hi = 2^(b-1) - 1, one learned step s for every layer. The
gradient goes straight through where w / s lies inside and is zero outside; that of s is scaled by 1 / sqrt(hi
numel). s starts at the best of 80 ranges, from the largest |w| down by a hundredth each, by mean |w - w_q|^2.4. The
penalty, over all layers but the first, is (kurtosis - 1.8)^2, 1.8 that of the uniform distribution, and (skewness)^2.
Followed is the symmetric form for whole tensors, without the elastic training of several widths.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from harness.contracts import param
from strategies.components.contract import Component
from strategies.components.modules import layers_of, trained
from strategies.ood_scores import Seen
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch

_EPSILON = 1e-6
OFF = 32
"""Bits at which weights stay as they are."""


class Quantised(nn.Module):
    """The function from weights to quantised ones, (...) to (...), for one layer, evaluated as it is trained."""

    def __init__(self, weights: Tensor, bits: int) -> None:
        super().__init__()
        self.low, self.high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        self.step = nn.Parameter(self._best_step(weights.detach()))

    def forward(self, weights: Tensor) -> Tensor:
        """Return round(clamp(w / s, lo, hi)) s."""
        share = (self.high * weights.numel()) ** -0.5
        step = (self.step.detach() + share * (self.step - self.step.detach())) + _EPSILON
        inside = (weights / step).clamp(self.low, self.high)
        rounded: Tensor = (inside + (inside.round() - inside).detach()) * step
        return rounded

    def right_inverse(self, weights: Tensor) -> Tensor:
        """Return the weights, for which the step is chosen anew: another component has drawn them."""
        self.step.data.copy_(self._best_step(weights.detach()))
        return weights

    def _best_step(self, weights: Tensor) -> Tensor:
        largest = weights.abs().max()
        steps = torch.stack([largest * (1 - place / 100) / self.high for place in range(80)])
        wide = steps.view(-1, *[1] * weights.ndim) + _EPSILON
        errors = (weights / wide).round().clamp(self.low, self.high) * wide - weights
        return steps[errors.abs().pow(2.4).flatten(1).mean(dim=1).argmin()][None]


def moments(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return kurtosis and skewness of all entries, standardised by the unbiased standard deviation."""
    standard = (weights - weights.mean()) / (weights.std() + 1e-12)
    return standard.pow(4).mean(), standard.pow(3).mean()


class Quantise(Component):
    """Let weights take few values, which limits what a network can hold."""

    bits: int = param(
        4, f"bits of a weight; {OFF} leaves weights as they are", ge=2, le=OFF, ablate=[2, 3, 8, OFF]
    )
    kurtosis: float = param(0.0, "weight of (kurtosis - 1.8)^2 (published 0.015)", ge=0, ablate=[0.015])
    skewness: float = param(0.0, "weight of (skewness)^2 (published 1)", ge=0, ablate=[1.0])

    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({"bits": OFF})

    def network(self, network: Classifier, part: nn.Module) -> None:
        """Put the function behind the weights of every layer."""
        if self.bits < OFF:
            for layer in layers_of(part):
                register_parametrization(layer, "weight", Quantised(layer.weight, self.bits))

    def term(self, network: Classifier, batch: Batch, seen: Seen) -> Tensor | None:
        """Return the penalty, on weights before they are quantised; None where it has no weight."""
        if not self.kurtosis and not self.skewness:
            return None
        total = torch.zeros((), device=seen.logits.device)
        layers = layers_of(network)[1:]
        for layer in layers:
            kurtosis, skewness = moments(trained(layer).float())
            total = total + self.kurtosis * (kurtosis - 1.8).square() + self.skewness * skewness.square()
        return total / max(1, len(layers))
