"""A start from generalised Gaussians: weights of another shape and the same variance (Wu, Xiong, Wen and Han 2025,
arXiv 2506.00486).

The density is nu / (2 a Gamma(1 / nu)) exp(-(|w| / a)^nu) with variance a^2 Gamma(3 / nu) / Gamma(1 / nu): nu = 2 is
the Gaussian, 1 the Laplace distribution, and smaller ones have heavier tails. A draw is a sign times a g^(1 / nu)
with g from Gamma(1 / nu, 1). The variance is that of the weights as the learner draws them; the published one, 2 / n,
is for ReLU. Not followed is the released code, which takes for n the outputs of a layer and sets to one every weight
that is no matrix, convolutions too. It changes the start alone, which long training may forget.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Gamma

from harness.contracts import param
from strategies.components.contract import Component
from strategies.components.modules import layers_of, write
from strategies.toolkit.classifier import Classifier


def width(variance: float, nu: float) -> float:
    """Return a for a variance and a shape."""
    return math.sqrt(variance * math.exp(math.lgamma(1 / nu) - math.lgamma(3 / nu)))


def drawn(shape: torch.Size, variance: float, nu: float) -> Tensor:
    """Return draws of torch's generator, float32 of the shape."""
    sizes = Gamma(torch.tensor(1 / nu), torch.tensor(1.0)).sample(shape) ** (1 / nu)
    signs = torch.randint(2, shape) * 2 - 1
    return width(variance, nu) * signs * sizes


class GeneralisedGaussianStart(Component):
    """Draw the weights of every layer from a generalised Gaussian of the variance they had."""

    nu: float = param(1.0, "shape: 2 is Gaussian, less has heavier tails", gt=0.1, le=20, ablate=[0.5, 2.0])

    def network(self, network: Classifier, part: nn.Module) -> None:
        """Draw the weights of every layer anew, those of the head too; biases stay."""
        for layer in layers_of(part):
            variance = float(layer.weight.detach().var(correction=0))
            write(layer, "weight", drawn(layer.weight.shape, variance, self.nu))
