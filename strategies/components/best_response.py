"""Layers that answer to hyperparameters, and the hyperparameters themselves (MacKay et al. 2019, arXiv 1903.03088;
released code at 3c42049).

A layer x W^T + b becomes s (x W^T + b) + (V1 h) * (x U^T) + (V2 h) * c, h the unconstrained hyperparameters of a row:
how the best weights answer to h, to first order, unit by unit. U and c start as W and b do in torch, V as N(0, 0.01^2),
the scale s, which the paper lacks, as 1. A value is low + (high - low) sigmoid(h), or low + softplus(h) where no upper
end is. Rows are trained at h + softplus(r) e, e standard normal, whose entropy is sum log(softplus(r) sqrt(2 pi e)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from strategies.components.modules import Layer, fan_in

_SPREAD = 0.5
"""Standard deviation of the perturbation at the start."""
_BETAS, _EPSILON = (0.9, 0.999), 1e-8


class Range(NamedTuple):
    """From where to where a hyperparameter goes, and where it starts."""

    low: float
    high: float
    start: float

    def value(self, h: Tensor) -> Tensor:
        """Return the hyperparameter for its unconstrained form, of the same shape."""
        if math.isinf(self.high):
            return self.low + functional.softplus(h)
        return self.low + (self.high - self.low) * torch.sigmoid(h)

    def unconstrained(self) -> float:
        """Return the unconstrained form of the start."""
        above = self.start - self.low
        if math.isinf(self.high):
            return math.log(math.expm1(above))
        return math.log(above / (self.high - self.start))


def perturbed(h: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
    """Return h + softplus(spread) noise, (B, H), for h and spread (H,) and noise (B, H)."""
    return h + functional.softplus(spread) * noise


def entropy(spread: Tensor) -> Tensor:
    """Return the entropy of the perturbation, sum log(softplus(spread) sqrt(2 pi e))."""
    return (functional.softplus(spread) * math.sqrt(2 * math.pi * math.e)).log().sum()


class Tuned(nn.Module):
    """Hyperparameters of a network: `h` and `spread`, float32 (H,), with the moments of their steps by Adam.

    rows: (B, H) those of the rows that are shown, which layers take while this is in training mode; else they take
    `h`.  draws: what dropout is drawn from; None for no dropout.
    """

    def __init__(self, ranges: Sequence[Range]) -> None:
        super().__init__()
        self.ranges = list(ranges)
        self.h: Tensor
        self.spread: Tensor
        self.moments: Tensor
        self.updates: Tensor
        self.register_buffer("h", torch.tensor([one.unconstrained() for one in ranges]))
        self.register_buffer("spread", torch.full((len(ranges),), math.log(math.expm1(_SPREAD))))
        self.register_buffer("moments", torch.zeros(2, 2, len(ranges)))
        self.register_buffer("updates", torch.zeros(1))
        self.rows: Tensor | None = None
        self.draws: Generator | None = None

    def given(self) -> Tensor:
        """Return the hyperparameters for the rows at hand, (B, H), or for all of them, (H,)."""
        return self.rows if self.training and self.rows is not None else self.h

    def values(self, place: int) -> Tensor:
        """Return hyperparameter `place` of every row that is shown, (B,)."""
        return self.ranges[place].value(self.given()[..., place])

    def move(self, gradients: Tensor, lr: float) -> None:
        """Take a step of Adam against `gradients` (2, H), of `h` and `spread`."""
        first, second = self.moments
        self.updates += 1
        first.lerp_(gradients, 1 - _BETAS[0])
        second.lerp_(gradients.square(), 1 - _BETAS[1])
        count = float(self.updates)
        size = (second / (1 - _BETAS[1] ** count)).sqrt() + _EPSILON
        of_h, of_spread = lr * first / (1 - _BETAS[0] ** count) / size
        self.h -= of_h
        self.spread -= of_spread


class Response(nn.Module):
    """What a layer's output gains from hyperparameters.

    place: the hyperparameter that is the dropout of the layer's inputs; None for a layer without.
    """

    def __init__(self, layer: Layer, tuned: Tuned, place: int | None) -> None:
        super().__init__()
        self.beside, self.place = [tuned], place  # a list: it is a part of the backbone, not of this layer
        bound = fan_in(layer) ** -0.5
        units, count = len(layer.weight), len(tuned.h)
        self.weight = nn.Parameter(torch.empty(layer.weight.shape).uniform_(-bound, bound))
        self.gates = nn.Parameter(0.01 * torch.randn(units, count))
        self.scale = nn.Parameter(torch.ones(1))
        self.bias: nn.Parameter | None = None
        if layer.bias is not None:
            self.bias = nn.Parameter(torch.empty(units).uniform_(-bound, bound))
            self.bias_gates = nn.Parameter(0.01 * torch.randn(units, count))

    def forward(self, layer: Layer, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return s out + (V1 h) * (x U^T) + (V2 h) * c, of the shape of the outputs.

        Args:
            layer: whose response it is.
            inputs: what the layer was given, (B, ...).
            outputs: what it makes of them.
        """
        h = self.beside[0].given()
        if h.ndim == 1:
            h = h[None]
        shape = self._units_of(layer, outputs, len(h))
        offsets = None if self.bias is None else functional.linear(h, self.bias_gates * self.bias[:, None])
        if isinstance(layer, nn.Linear):
            bent = functional.linear(inputs, self.weight)
        else:
            bent = layer._conv_forward(inputs, self.weight, None)
        total = torch.addcmul(self.scale * outputs, functional.linear(h, self.gates).view(shape), bent)
        return total if offsets is None else total + offsets.view(shape)

    def dropped(self, inputs: Tensor) -> Tensor:
        """Return a layer's inputs with the dropout of their rows."""
        tuned = self.beside[0]
        if self.place is None or tuned.draws is None or not tuned.training:
            return inputs
        rate = tuned.values(self.place).view(-1, *[1] * (inputs.ndim - 1))
        drawn = torch.rand(inputs.shape, generator=tuned.draws, device=inputs.device)
        return inputs * ((drawn >= rate) / (1 - rate)).to(inputs.dtype)

    def _units_of(self, layer: Layer, outputs: Tensor, rows: int) -> list[int]:
        """Return the shape in which (rows, units) meets the outputs."""
        between = [1] * (outputs.ndim - 2)
        units = len(self.weight)
        return [rows, *between, units] if isinstance(layer, nn.Linear) else [rows, units, *between]


def answering(layer: Layer, tuned: Tuned, place: int | None) -> None:
    """Let a layer answer to hyperparameters; its response becomes a part of it."""
    layer.add_module("response", Response(layer, tuned, place))
    layer.register_forward_pre_hook(_dropped)
    layer.register_forward_hook(_answered)


def _response_of(layer: nn.Module) -> Response:
    response = layer.get_submodule("response")
    assert isinstance(response, Response)
    return response


def _dropped(layer: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (_response_of(layer).dropped(given[0]), *given[1:])


def _answered(layer: Any, given: tuple[Tensor, ...], outputs: Tensor) -> Tensor:
    answer: Tensor = _response_of(layer)(layer, given[0], outputs)
    return answer
