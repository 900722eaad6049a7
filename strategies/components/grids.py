"""Grids of few values that weights are brought to, a module a layer: with a learned step, or with noise in
training.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

_EPSILON = 1e-6
Noise = Literal["none", "uniform", "gaussian"]
Saliency = Literal["none", "gradient", "input"]
_KEEPS = 0.99
"""Share of a running mean that stays from step to step."""


class Grid(nn.Module):
    """A function from weights (...) to others near few values (...), with a saliency for each.

    Args:
        weights: those at the start.
        saliency: what it is a running mean of; of inputs there is one a column.
    """

    def __init__(self, weights: Tensor, saliency: Saliency) -> None:
        super().__init__()
        shapes = {"gradient": weights.shape, "input": (1, *weights.shape[1:2], *[1] * (weights.ndim - 2))}
        self.saliency: Tensor | None
        self.register_buffer("saliency", None if saliency == "none" else torch.zeros(shapes[saliency]))

    def rounded(self, weights: Tensor) -> Tensor:
        """Return the values of the grid."""
        raise NotImplementedError

    def weigh(self, squares: Tensor) -> None:
        """Let the running mean follow squares of the saliency's shape."""
        assert self.saliency is not None
        self.saliency.lerp_(squares.to(self.saliency), 1 - _KEEPS)

    def pulled(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return sum s (w - Q(w))^2 and sum s."""
        assert self.saliency is not None
        away = (weights - self.rounded(weights).detach()).square()
        return (self.saliency * away).sum(), self.saliency.expand_as(weights).sum()


class Noisy(Grid):
    """Weights with noise of the size of rounding while training, else rounded, (...) to (...), for one layer."""

    def __init__(
        self, weights: Tensor, bits: int, saliency: Saliency, kind: Noise, draws: torch.Generator
    ) -> None:
        super().__init__(weights, saliency)
        self.levels, self.kind, self.draws = 2**bits - 1, kind, draws

    def forward(self, weights: Tensor) -> Tensor:
        """Return w + step u in training mode, else the values of the grid."""
        if not self.training:
            return self.rounded(weights)
        draw = torch.rand if self.kind == "uniform" else torch.randn
        u = draw(weights.shape, generator=self.draws, device=weights.device, dtype=weights.dtype)
        return weights + self._step(weights) * (u - 0.5 if self.kind == "uniform" else u / 2)

    def rounded(self, weights: Tensor) -> Tensor:
        """Return min + round((w - min) / step) step."""
        step, low = self._step(weights), weights.detach().min()
        values: Tensor = low + ((weights - low) / step).round() * step
        return values

    def right_inverse(self, weights: Tensor) -> Tensor:
        """Return the weights: another component has drawn them."""
        return weights

    def _step(self, weights: Tensor) -> Tensor:
        given = weights.detach()
        step: Tensor = (given.max() - given.min()) / self.levels
        return step.clamp_min(torch.finfo(given.dtype).tiny)


class Quantised(Grid):
    """The function from weights to quantised ones, (...) to (...), for one layer, evaluated as it is trained."""

    def __init__(self, weights: Tensor, bits: int, saliency: Saliency = "none") -> None:
        super().__init__(weights, saliency)
        self.low, self.high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        self.step = nn.Parameter(self._best_step(weights.detach()))

    def forward(self, weights: Tensor) -> Tensor:
        """Return the values of the grid, with gradients."""
        return self.rounded(weights)

    def rounded(self, weights: Tensor) -> Tensor:
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
