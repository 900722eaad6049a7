"""The maximal-update parametrisation: starts and rates under which a step moves every layer as far whatever the
width (Yang and Hu 2021, Feature Learning in Infinite-Width Neural Networks, arXiv 2011.14522; released code at b640ba7,
in its practical form microsoft/mup at 1981497).

With m the width over that of a base network, at which nothing changes:

    weights                      start                    forward   SGD rate   Adam rate
    of inputs, biases, norms     as in the base network   1         m          1
    hidden                       1 / sqrt(fan-in)         1         1          1 / m
    of outputs                   as in the base network   1 / m     m          1

Which weights are which is read off the shapes of the two networks, as mup does. Followed is the multiplier form of
mup, which also brings the biases that torch starts by fan-in back to those of the base network, and scales decay
inside the gradient so that rate x decay stays, that of AdamW not. A bias of outputs has no width and keeps its rate.
Transformers are compared with one of the same width of a head and fewer heads, so that attention needs no scale of
its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from harness.contracts import param
from harness.errors import Unsuitable, UserError
from harness.networks import maker, parameters_of
from harness.plugins import entry_of, find
from harness.syntax import single
from strategies.components.compander import Companded
from strategies.components.contract import Component, Rate
from strategies.components.modules import Layer, write
from strategies.toolkit.classifier import Classifier

_OWN, _USUAL = 0, -1
_BASE, _BASE_OF_CNN = 64, 8


class Multiplied(nn.Module):
    """The function from what is trained to weights, (...) to (...): times a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, weights: Tensor) -> Tensor:
        """Return weights x factor."""
        return weights * self.factor

    def right_inverse(self, weights: Tensor) -> Tensor:
        """Return weights / factor."""
        return weights / self.factor


@dataclass(frozen=True)
class Base:
    """Shapes and standard deviations of a base network's weights by name, and its number of features."""

    shapes: Mapping[str, tuple[int, ...]]
    deviations: Mapping[str, float]
    features: int


@lru_cache(maxsize=8)
def base_of(text: str, item_shape: tuple[int, ...]) -> Base:
    """Return the base network that `text` names, drawn from a seed of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = maker("backbone", text)(item_shape)
    weights = dict(network.named_parameters())
    return Base(
        shapes={name: tuple(each.shape) for name, each in weights.items()},
        deviations={name: float(each.detach().std(correction=0)) for name, each in weights.items()},
        features=network.features,
    )


class MaximalUpdate(Component):
    """Start and train weights so that a step moves every layer as far whatever the network's width."""

    base_width: int = param(
        _USUAL,
        f"width of the base network; {_USUAL} for {_BASE}, of cnn {_BASE_OF_CNN}; {_OWN} for the network's own, at "
        "which nothing changes",
        ge=_USUAL,
        ablate=[_OWN, 16, 256],
    )
    zero_head: bool = param(False, "whether the head starts at zero, as mup advises", ablate=[True])

    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({"base_width": _OWN})

    def network(self, network: Classifier, part: nn.Module) -> None:
        """Bring weights to the start of their kind, with the multiplier before those of outputs.

        Raises:
            Unsuitable: there is no network of another width to compare with, or weights are companded.
        """
        if any(isinstance(module, Companded) for module in network.modules()):
            raise Unsuitable(f"has companded weights, whose rates component {self.name} does not know")
        base = self._base(network)
        if part is network.head:
            assert network.head is not None
            _to_output(network.head, self._wider(network, base), follows=True)
            if self.zero_head:
                for name, weights in [("weight", network.head.weight), ("bias", network.head.bias)]:
                    if weights is not None:
                        write(network.head, name, torch.zeros_like(weights))
            return
        for name, layer in list(part.named_modules()):
            if (
                isinstance(layer, Layer) and f"{name}.weight" in base.shapes
            ):  # not what another component added
                self._start(layer, f"{name}.weight", base)

    def rates(self, network: Classifier) -> Mapping[nn.Parameter, Rate]:
        """Return the rates of the learner's optimiser."""
        base = self._base(network)
        rates = {}
        for name, weights in network.backbone.named_parameters():
            known = name.replace(".parametrizations", "").removesuffix(".original")
            if known in base.shapes:
                rates[weights] = self._rate(*_scaled(tuple(weights.shape), base.shapes[known]))
        assert network.head is not None
        for weights in network.head.parameters():
            rates[weights] = self._rate(1.0, self._wider(network, base) if weights.ndim > 1 else 1.0)
        return rates

    def _wider(self, network: Classifier, base: Base) -> float:
        features: Any = network.backbone.features
        return float(features / base.features)

    def _start(self, layer: Layer, name: str, base: Base) -> None:
        outputs, inputs = _scaled(tuple(layer.weight.shape), base.shapes[name])
        if inputs == 1:
            return
        own = float(layer.weight.detach().std(correction=0))
        # drawn by fan-in, or with the same deviation at every width
        follows = own > 0 and abs(math.log(base.deviations[name] / own)) > abs(math.log(inputs)) / 4
        if outputs == 1:
            _to_output(layer, inputs, follows=follows)
            return
        if not follows:
            write(layer, "weight", layer.weight.detach() / inputs**0.5)
        if layer.bias is not None:
            write(layer, "bias", layer.bias.detach() * inputs**0.5)

    def _rate(self, outputs: float, inputs: float) -> Rate:
        """Return the rate of weights that scale with the width by these factors along outputs and inputs."""
        if self.optimiser.kind == "adamw":
            return Rate(lr=1 / inputs if outputs != 1 else 1.0)
        factor = outputs / inputs if outputs != 1 else inputs
        return Rate(lr=factor, decay=1 / factor)

    def _base(self, network: Classifier) -> Base:
        if hasattr(network.backbone, "new_head"):
            raise Unsuitable(
                f"has a network with a head of its own, which component {self.name} cannot scale"
            )
        text = self.context.backbone
        if self.base_width != _OWN:
            text = self._narrowed(network, text)
        try:
            return base_of(text, network.item_shape)
        except UserError as error:
            raise Unsuitable(f"has no base network for component {self.name}: {error}") from None

    def _narrowed(self, network: Classifier, text: str) -> str:
        """Return the backbone's text with the base width."""
        selection = single(text)
        width = self.base_width
        if width == _USUAL:
            width = _BASE_OF_CNN if selection.name == "cnn" else _BASE
        if "width" in parameters_of("backbone", find("backbone", entry_of(selection.name)).cls):
            return selection.changed(width=width).as_written
        own: list[Any] = [each.num_heads for each in network.backbone.modules() if hasattr(each, "num_heads")]
        if not own:
            raise Unsuitable(
                f"has backbone {text}, which has no width that component {self.name} could change"
            )
        features: Any = network.backbone.features
        heads, rest = divmod(own[0] * width, features)
        if rest:
            raise Unsuitable(
                f"has heads of {features // own[0]} numbers, of which the base width {width} of component "
                f"{self.name} is no multiple"
            )
        return selection.changed(embed_dim=width, num_heads=heads).as_written


def _scaled(shape: tuple[int, ...], base: tuple[int, ...]) -> tuple[float, float]:
    """Return the factors of weights along outputs and inputs; a vector, wherever it lies, has outputs alone."""
    factors = [own / other for own, other in zip(shape, base, strict=True)]
    if len(shape) > 1 and factors[1] != 1:
        return factors[0], factors[1]
    return math.prod(factors), 1.0


def _to_output(layer: Layer, inputs: float, *, follows: bool) -> None:
    """Start a layer of outputs as the base network's, with 1 / inputs before it in the forward pass."""
    if inputs == 1:
        return
    write(layer, "weight", layer.weight.detach() / (inputs**0.5 if follows else inputs))
    if layer.bias is not None:
        write(layer, "bias", layer.bias.detach() * inputs**0.5)
    register_parametrization(layer, "weight", Multiplied(1 / inputs))
