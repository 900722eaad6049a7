"""A critical start: weights drawn so that signals and their gradients neither fade nor grow with depth (Roberts, Yaida
and Hanin 2021, The Principles of Deep Learning Theory, arXiv 2106.10165).

Weights are N(0, C_W / fan-in), biases N(0, C_b), with constants for the activation behind a layer. With K_l the
variance of a layer's outputs, K_l+1 = C_b + C_W <s(z)^2>, z ~ N(0, K_l); at the constants below both derivatives of
this map, C_W <s^2 (z^2 - K)> / (2 K^2) and C_W <s'^2>, are 1 where K rests. It changes the start alone, so that long
training may forget it, and where norms follow, layers do too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from harness.contracts import param
from harness.errors import Unsuitable
from strategies.components.contract import Component
from strategies.components.crrelu import CorrectedReLU
from strategies.components.modules import Layer, activations_behind, fan_in, write
from strategies.toolkit.classifier import Classifier

_CONSTANTS: dict[type[nn.Module], tuple[float, float]] = {
    nn.ReLU: (2.0, 0.0),
    CorrectedReLU: (2.0, 0.0),
    nn.Tanh: (1.0, 0.0),
    nn.GELU: (1.98305826, 0.17292239),
    nn.SiLU: (1.98800468, 0.55514317),
}
_NEVER = (nn.Sigmoid, nn.Softplus)


def constants(activation: nn.Module | None) -> tuple[float, float]:
    """Return C_W and C_b for the activation behind a layer; those of a linear one where nothing known is there.

    Raises:
        Unsuitable: sigmoid and softplus have no critical start.
    """
    if isinstance(activation, _NEVER):
        raise Unsuitable(f"no start is critical before {type(activation).__name__}")
    if isinstance(activation, nn.LeakyReLU):
        return 2 / (1 + activation.negative_slope**2), 0.0
    return (1.0, 0.0) if activation is None else _CONSTANTS.get(type(activation), (1.0, 0.0))


class Critical(Component):
    """Draw weights so that signals keep their size through the layers."""

    orthogonal: bool = param(
        False, "whether weights are orthogonal rows or columns of the same mean square", ablate=[True]
    )

    def network(self, network: Classifier, part: nn.Module) -> None:
        """Draw the weights of every layer anew; a head, with no activation behind it, with C_W = 1.

        Raises:
            Unsuitable: an activation without a critical start.
        """
        for layer, activation in activations_behind(part):
            of_weights, of_biases = constants(activation)
            write(layer, "weight", self._weights(layer) * (of_weights / fan_in(layer)) ** 0.5)
            if layer.bias is not None:
                write(layer, "bias", torch.randn(layer.bias.shape) * of_biases**0.5)

    def _weights(self, layer: Layer) -> Tensor:
        """Return weights of mean square one, of the layer's shape."""
        if not self.orthogonal:
            return torch.randn(layer.weight.shape)
        flat = torch.empty(len(layer.weight), fan_in(layer))
        nn.init.orthogonal_(flat)
        return flat.view(layer.weight.shape) * math.sqrt(max(flat.shape))
