"""A bottleneck by Cauchy-Schwarz information: features are to tell less of the inputs (Yu et al., ICLR 2024, Cauchy-
Schwarz Divergence Information Bottleneck for Regression; released code at 252f86b).

With Gaussian kernels K of the inputs and L of the features of a batch of B items, k_i and l_i the means of their rows,

    I(K, L) = log mean(K o L) + log(mean K mean L) - 2 log mean_i(k_i l_i)

is 0 where the two are independent, never below, and beta I(K, L) / sqrt(I(K, K) I(L, L)) is added to the loss. It is a
ratio, so the base of the logarithm does not matter, and no bound of 1.

The paper's task is regression, with a divergence of predictions from targets in the loss's place; here the learner's
own loss stays. The released bandwidth is 10 times the median squared distance, which makes all kernels 1 and the
information 0; here it is `width` times the median distance of a batch, a constant to the gradient, so that scale is no
way out. There the encoder's noise is off while it trains; here is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.contracts import param
from strategies.components.contract import Component
from strategies.ood_scores import Seen
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch

_TINY = 1e-6
"""Information of a kernel with itself below which it says nothing, as where all items are the same."""


def kernel(items: Tensor, width: float) -> Tensor:
    """Return exp(-|x_i - x_j|^2 / (2 s^2)), (B, B), of items (B, d), s `width` times the median distance of pairs.

    Where that is 0, the root of their mean squared distance has its place; it is at least a thousandth of |x|.
    """
    products = items @ items.T
    squares = products.diagonal()
    distances = (squares[:, None] + squares - 2 * products).clamp_min(0)
    above = torch.triu_indices(len(items), len(items), offset=1, device=items.device)
    pairs = distances.detach()[above[0], above[1]]
    scale = torch.where(pairs.median() > 0, pairs.median(), pairs.mean())
    least = 1e-6 * squares.detach().mean() + torch.finfo(items.dtype).tiny
    return torch.exp(-distances / (2 * width**2 * scale.clamp_min(least)))


def information(one: Tensor, other: Tensor) -> Tensor:
    """Return I of two kernels (B, B), a scalar."""
    across = (one.mean(dim=1) * other.mean(dim=1)).mean()
    return (one * other).mean().log() + one.mean().log() + other.mean().log() - 2 * across.log()


def normalised_information(one: Tensor, other: Tensor) -> Tensor:
    """Return I(K, L) / sqrt(I(K, K) I(L, L)); 0 where either says nothing."""
    own = information(one, one), information(other, other)
    if min(own) < _TINY:
        return (one * other).sum() * 0
    return information(one, other) / (own[0] * own[1]).sqrt()


class CSIB(Component):
    """Hold the features to little information of the inputs."""

    beta: float = param(0.01, "weight of the information", ge=0, ablate=[0.0, 0.001, 0.1, 1.0])
    width: float = param(1.0, "bandwidth of the kernels, in median distances", gt=0, ablate=[0.5])

    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({"beta": 0.0})

    def term(self, network: Classifier, batch: Batch, seen: Seen) -> Tensor | None:
        """Return beta times the information of the inputs and their features; None for fewer than three items, which
        have no median to speak of.
        """
        shown = batch.inputs.flatten(start_dim=1)
        if not self.beta or len(shown) < 3:
            return None
        shown, features = shown.float(), seen.features[: len(shown)].flatten(start_dim=1).float()
        with torch.autocast(shown.device.type, enabled=False):
            return self.beta * normalised_information(kernel(shown, self.width), kernel(features, self.width))
