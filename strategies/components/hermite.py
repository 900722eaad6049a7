"""Hermite activations, whose infinitely wide and deep network is a singular kernel of exponent d (Radhakrishnan,
Belkin and Uhler 2023, arXiv 2204.14126).

phi = c1 h1 + c2 h2 + c3 h3 with the normalised polynomials h1 = x, h2 = (x^2 - 1) / sqrt 2, h3 = (x^3 - 3 x) / sqrt 6,
c1^2 = c3^2 = 2^(-d/2), c2^2 = 1 - 2^(1 - d/2). For correlation r of two standard normal inputs the outputs have
correlation c1^2 r + c2^2 r^2 + c3^2 r^3, with slope 2^(-d/2) at 0 and 2 at 1, from which -4 log A' / log B' = d. For d
= 1, phi = (h1 + h7) / sqrt 2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.contracts import param
from strategies.components.contract import Component
from strategies.components.modules import fan_in, layers_of, replaced, write
from strategies.toolkit.classifier import Classifier


class Hermite(nn.Module):
    """The activation of exponent d, (N, ...) to (N, ...); every item is scaled to mean square one first, since the
    polynomial overflows otherwise.
    """

    def __init__(self, d: int, *, scaled: bool = True) -> None:
        super().__init__()
        self.d, self.scaled = d, scaled
        self.outer, self.inner = 2 ** (-d / 4), max(0.0, 1 - 2 ** (1 - d / 2)) ** 0.5

    def forward(self, inputs: Tensor) -> Tensor:
        """Return phi."""
        x = inputs.float() if inputs.dtype in (torch.float16, torch.bfloat16) else inputs
        if self.scaled:
            size = x.square().mean(dim=tuple(range(1, x.ndim)), keepdim=True)
            x = x * (size + torch.finfo(x.dtype).tiny).rsqrt()
        square = x.square()
        if self.d == 1:
            seventh = x * (((square - 21) * square + 105) * square - 105) / 5040**0.5
            phi = (x + seventh) / 2**0.5
        else:
            third = x * (square - 3) / 6**0.5
            phi = self.outer * (x + third) + self.inner * (square - 1) / 2**0.5
        return phi.to(inputs.dtype)  # type: ignore[no-any-return]


class HermiteNetwork(Component):
    """Replace every ReLU by a Hermite polynomial, with weights N(0, 1 / fan-in) and no bias at the start."""

    d: int = param(2, "exponent of the limit: the dimension of the data's sphere", ge=1, ablate=[1, 4, 8])

    def network(self, network: Classifier, part: nn.Module) -> None:
        """Replace the activations of a backbone and draw its weights, and those of a head.

        Raises:
            Unsuitable: it has no ReLU as a module.
        """
        if part is not network.head:
            replaced(part, nn.ReLU, lambda: Hermite(self.d), self.name)
        for layer in layers_of(part):
            write(layer, "weight", torch.randn(layer.weight.shape) / fan_in(layer) ** 0.5)
            if layer.bias is not None:
                write(layer, "bias", torch.zeros(layer.bias.shape))
