"""Weight Compander: weights as a bounded function of what is trained (Cakaj, Mehnert and Yang 2023, arXiv
2306.16993).

w = a atan(v / b) for every weight of linear and convolutional layers, biases and norms apart. |w| stays below a pi /
2; the slope a / b / (1 + (v / b)^2) is a / b at zero, so that a step of v moves a small weight (a / b)^2 times as far
as one of w itself, and a large one less. Decay acts on v. No code was released; what a paper calls better may be a
larger learning rate, so compare with `rate[factor=...]` too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from harness.contracts import param
from strategies.components.contract import Component, Rate
from strategies.components.modules import layers_of
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.networks.lookups import is_transformed

_ROOM = 1.4
"""Largest |w| / a at the start that v is made from: tan grows without bound towards pi / 2 = 1.57."""


class Arctangent(torch.autograd.Function):
    """a atan(v / b) of v (...), a and b (1,), on the CPU, with its slopes in closed form, which can be differentiated
    again. The arc tangent is numpy's, which takes a tenth of the time of torch's.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Return the values."""
        ctx.save_for_backward(v, a, b)
        values = v / b
        np.arctan(values.numpy(), out=values.numpy())
        return values.mul_(a)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of v, a and b."""
        (gradient,), (v, a, b) = gradients, ctx.saved_tensors
        x = v / b
        if not torch.is_grad_enabled() and not any(ctx.needs_input_grad[1:]):  # in place, with one tensor
            return torch.div(gradient, x.mul_(x).add_(1), out=x).mul_(a / b), None, None
        along = gradient * (a / b) / (1 + x * x)
        of_a, of_b = (gradient * torch.atan(x)).sum().view(1), -(along * x).sum().view(1)
        return along, of_a, of_b


class Companded(nn.Module):
    """The function from v to w, (...) to (...), for one layer.

    Args:
        a, b: height and width.
        learned: whether their logarithms are trained.
        keep: whether the layer starts with the weights it has; else v takes their values.
    """

    def __init__(self, a: float, b: float, *, learned: bool, keep: bool) -> None:
        super().__init__()
        self.keep = keep
        self.log_a: Tensor
        self.log_b: Tensor
        for name, value in {"log_a": math.log(a), "log_b": math.log(b)}.items():
            if learned:
                self.register_parameter(name, nn.Parameter(torch.full((1,), value)))
            else:
                self.register_buffer(name, torch.full((1,), value))

    def forward(self, v: Tensor) -> Tensor:
        """Return a atan(v / b)."""
        a, b = self.log_a.exp(), self.log_b.exp()
        if v.device.type != "cpu" or is_transformed() or torch.compiler.is_compiling():
            return a * torch.atan(v / b)
        values: Tensor = Arctangent.apply(v, a, b)
        return values

    def right_inverse(self, w: Tensor) -> Tensor:
        """Return b tan(w / a), or w itself where the start is not kept."""
        return self.log_b.exp() * torch.tan(w / self.log_a.exp()) if self.keep else w


class WeightCompander(Component):
    """Train weights through a atan(v / b), which bounds them."""

    a: float = param(1.0, "height: weights stay below a pi / 2", gt=0)
    b: float = param(0.5, "width: small weights are spread by a / b", gt=0, ablate=[1.0])
    unit: Literal["one", "std"] = param(
        "one",
        "what a and b count: one, or the standard deviation of a layer's weights at the start",
        ablate=["std"],
    )
    learned: bool = param(False, "whether a and b of every layer are trained, without decay", ablate=[True])
    origin: Literal["keep", "raw"] = param(
        "keep",
        "v at the start: so that weights are those of the learner, for which a may have to be larger, or these weights",
        ablate=["raw"],
    )

    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({"a": 1e4, "b": 1e4})

    def network(self, network: Classifier, part: nn.Module) -> None:
        """Put the function between v and the weights of every layer."""
        for layer in layers_of(part):
            weights = layer.weight.detach()
            scale = float(weights.std()) if self.unit == "std" and weights.any() else 1.0
            a, keep = self.a * scale, self.origin == "keep"
            if keep:
                a = max(a, float(weights.abs().max()) / _ROOM)
            made = Companded(a, self.b * scale, learned=self.learned, keep=keep).to(weights.device)
            register_parametrization(layer, "weight", made)

    def rates(self, network: Classifier) -> Mapping[nn.Parameter, Rate]:
        """Return no decay for a and b."""
        found = [module for module in network.modules() if isinstance(module, Companded)]
        return {weights: Rate(decay=0.0) for module in found for weights in module.parameters()}
