"""What a remedy does to the gradients before the optimiser sees them: PerpGrad, Grokfast, clipping. Any chain
of them, per network.

A transform maps weights and gradients, tensors (K, ...) by name, to new gradients; those it is given stay as
they are. Memory of earlier steps is kept in plain tensors.
`transforms_of("grokfast-ema[strength=5]+clip[norm=1]")` is how a parameter names a chain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from harness.errors import UserError
from harness.syntax import chosen, split_outside
from strategies.grokking.optimisers import Weights, along

Gradients = Weights
Transform = Callable[[Weights, Gradients], Gradients]

NOISE = 1e-6
"""A rest shorter than this share of the gradient is rounding, not direction."""


class PerpGrad:
    """Take out of the gradient its part along the weights, so that a step cannot merely scale the network
    (Prieto et al. 2025, eq. 11-12).

    paper: g - (w.g / w.w) w with w all weights of a network as one vector.
    released: tensor by tensor, with 1e-30 added to w.w, and scaled back to the length of g. The released code
    scales rounding noise up to that length too where g is parallel to w; here it is left as it is.
    """

    def __init__(self, form: Literal["released", "paper"] = "released") -> None:
        self.form = form

    def __call__(self, weights: Weights, gradients: Gradients) -> Gradients:
        """Return the perpendicular gradients; those of weights that are all zero stay as they are."""
        if self.form == "released":
            return {name: self._rescaled(weights[name], gradient) for name, gradient in gradients.items()}
        square = product(weights, weights)
        share = torch.where(square > 0, product(gradients, weights) / square, 0)
        return {
            name: gradient - along(share, gradient) * weights[name] for name, gradient in gradients.items()
        }

    def _rescaled(self, weights: Tensor, gradient: Tensor) -> Tensor:
        share = inner(weights, gradient) / (inner(weights, weights) + 1e-30)
        rest = torch.addcmul(gradient, along(share, gradient), weights, value=-1)
        before, after = inner(gradient, gradient).sqrt(), inner(rest, rest).sqrt()
        return rest.mul_(along(torch.where(after <= NOISE * before, 1, before / (after + 1e-30)), rest))


class GrokfastEMA:
    """Amplify the slow part of the gradients: h <- decay h + (1 - decay) g, then g + strength h (Lee et al.
    2024, arXiv 2405.20233).

    h starts as the first gradient, without bias correction, so the first step is (1 + strength) g.
    """

    def __init__(self, decay: float = 0.98, strength: float = 2.0) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"decay of grokfast-ema should be at least 0 and less than 1, got {decay}")
        self.decay, self.strength = decay, strength
        self.averages: dict[str, Tensor] = {}

    def __call__(self, _: Weights, gradients: Gradients) -> Gradients:
        """Return the gradients with their average added."""
        if not self.averages:
            self.averages = {name: gradient.clone() for name, gradient in gradients.items()}
        else:
            for name, gradient in gradients.items():
                self.averages[name].lerp_(gradient, 1 - self.decay)
        return {
            name: torch.add(gradient, self.averages[name], alpha=self.strength)
            for name, gradient in gradients.items()
        }


class GrokfastMA:
    """Amplify the slow part of the gradients: once `window` of them are stored, g + strength * their mean
    (Lee et al. 2024).

    Before that nothing is added. The sum over the window is carried along in float64, in which what leaves it
    leaves no trace.
    """

    def __init__(self, window: int = 100, strength: float = 5.0) -> None:
        if window < 1:
            raise UserError(f"window of grokfast-ma should be at least 1, got {window}")
        self.window, self.strength = window, strength
        self.seen = 0
        self.stored: dict[str, Tensor] = {}
        self.sums: dict[str, Tensor] = {}

    def __call__(self, _: Weights, gradients: Gradients) -> Gradients:
        """Return the gradients, with their mean added once there are enough."""
        if not self.stored:
            self.stored = {
                name: gradient.new_zeros((self.window, *gradient.shape))
                for name, gradient in gradients.items()
            }
            self.sums = {
                name: torch.zeros_like(gradient, dtype=torch.float64) for name, gradient in gradients.items()
            }
        place = self.seen % self.window
        for name, gradient in gradients.items():
            oldest = self.stored[name][place]
            self.sums[name].add_(gradient).sub_(oldest)
            oldest.copy_(gradient)
        self.seen += 1
        if self.seen < self.window:
            return gradients
        factor = self.strength / self.window
        return {
            name: gradient + (factor * self.sums[name]).to(gradient.dtype)
            for name, gradient in gradients.items()
        }


class Clip:
    """Shorten the whole gradient of a network to at most `norm`, as torch.nn.utils.clip_grad_norm_ does."""

    def __init__(self, norm: float = 1.0) -> None:
        if norm <= 0:
            raise UserError(f"norm of clip should be greater than 0, got {norm}")
        self.norm = norm

    def __call__(self, _: Weights, gradients: Gradients) -> Gradients:
        """Return the gradients, scaled down where they are too long."""
        length = product(gradients, gradients).sqrt()
        factor = (self.norm / (length + 1e-6)).clamp_max(1)
        return {name: gradient * along(factor, gradient) for name, gradient in gradients.items()}


TRANSFORMS: dict[str, Callable[..., Transform]] = {
    "perp-grad": PerpGrad,
    "grokfast-ema": GrokfastEMA,
    "grokfast-ma": GrokfastMA,
    "clip": Clip,
}


def transforms_of(text: str) -> list[Transform]:
    """Return fresh transforms, in the order of `text`: names with parameters, joined by `+`; none where it is
    empty or `none`.

    Raises:
        UserError: no transform of that name, or a parameter it does not have.
    """
    if text.strip() == "none":
        return []
    return [chosen("gradient transform", part.strip(), TRANSFORMS)() for part in split_outside(text, "+")]


def transformed(transforms: Sequence[Transform], weights: Weights, gradients: Gradients) -> Gradients:
    """Return the gradients after all transforms, the first one first."""
    for transform in transforms:
        gradients = transform(weights, gradients)
    return gradients


def inner(first: Tensor, second: Tensor) -> Tensor:
    """Return the inner product of two tensors for every network, (K,)."""
    return torch.mul(first, second).flatten(1).sum(dim=1)


def product(first: Weights, second: Weights) -> Tensor:
    """Return the inner product over all tensors of `first` for every network, (K,)."""
    return torch.stack([inner(tensor, second[name]) for name, tensor in first.items()]).sum(dim=0)


__all__ = [
    "TRANSFORMS",
    "Clip",
    "Gradients",
    "GrokfastEMA",
    "GrokfastMA",
    "PerpGrad",
    "Transform",
    "inner",
    "product",
    "transformed",
    "transforms_of",
]
