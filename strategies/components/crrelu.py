"""CRReLU, an activation found by moving away from the one of worst entropy (Sun et al. 2024, arXiv 2405.12954).

f(x) = max(0, x) + e x exp(-x^2 / 2), with e one learned number for every activation, 0.01 at the start. Its slope is
1[x > 0] + e (1 - x^2) exp(-x^2 / 2), and the correction is largest, |e| exp(-1 / 2), at |x| = 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.contracts import param
from strategies.components.contract import Component, Rate
from strategies.components.modules import replaced
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.networks.lookups import is_transformed


class Corrected(torch.autograd.Function):
    """max(0, x) + e x exp(-x^2 / 2) of x (...), e (1,), with its slopes in closed form, which can be differentiated
    again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, e: Tensor) -> Tensor:
        """Return the values."""
        ctx.save_for_backward(x, e)
        ctx.bell = torch.mul(x, x).mul_(-0.5).exp_()
        ctx.odd = x * ctx.bell
        return torch.mul(ctx.odd, e).add_(x.clamp_min(0))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x and e."""
        (gradient,), (x, e) = gradients, ctx.saved_tensors
        if torch.is_grad_enabled():
            bell = torch.exp(-0.5 * x * x)
            slope = (x > 0) + e * (1 - x * x) * bell
            return gradient * slope, (gradient * x * bell).sum().view(1)
        above = torch.sign(x).clamp_min_(0)  # 1[x > 0], without a bool in between
        slope = torch.addcmul(ctx.bell, x, ctx.odd, value=-1).mul_(e).add_(above)
        of_e = torch.mul(gradient, ctx.odd).sum().view(1) if ctx.needs_input_grad[1] else None
        return slope.mul_(gradient), of_e


class CorrectedReLU(nn.Module):
    """The activation, (...) to (...). In half precision the exponential is taken in float32."""

    def __init__(self, start: float, learned: bool) -> None:
        super().__init__()
        self.correction: Tensor
        if learned:
            self.correction = nn.Parameter(torch.full((1,), start))
        else:
            self.register_buffer("correction", torch.full((1,), start))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return max(0, x) + e x exp(-x^2 / 2)."""
        wide = inputs.float() if inputs.dtype in (torch.float16, torch.bfloat16) else inputs
        if is_transformed() or torch.compiler.is_compiling():
            bell = torch.exp(-0.5 * wide.square())
            return (wide.clamp_min(0) + self.correction * wide * bell).to(inputs.dtype)
        values: Tensor = Corrected.apply(wide, self.correction)
        return values.to(inputs.dtype)


class CRReLU(Component):
    """Replace every ReLU by CRReLU, whose correction is learned."""

    start: float = param(0.01, "correction e at the start", ablate=[0.0, -0.05, 0.05])
    learned: bool = param(True, "whether e is trained", ablate=[False])
    decay: bool = param(False, "whether weight decay pulls e to 0, which is ReLU", ablate=[True])

    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({"start": 0.0, "learned": False})

    def network(self, network: Classifier, part: nn.Module) -> None:
        """Replace the ReLUs of a backbone.

        Raises:
            Unsuitable: it has none as modules.
        """
        if part is not network.head:
            replaced(part, nn.ReLU, lambda: CorrectedReLU(self.start, self.learned), self.name)

    def rates(self, network: Classifier) -> Mapping[nn.Parameter, Rate]:
        """Return no decay for the corrections."""
        if self.decay:
            return {}
        found = [module.correction for module in network.modules() if isinstance(module, CorrectedReLU)]
        return {one: Rate(decay=0.0) for one in found if isinstance(one, nn.Parameter)}
