"""How far points are from the others, by a denoiser that is exactly a proximal operator (Fang, Buchanan and Sulam 2024,
What's in a prior? Learned proximal networks for inverse problems, arXiv 2310.14344).

psi(y) = w' h2 + a |y|^2 / 2 with h1 = s(W0 y + b0), h2 = s(W1 h1 + V y + b1), s the softplus, W1, w and a positive, is
convex, so f = grad psi is the proximal operator of some R. The Moreau envelope of that R needs no inversion,

    M(y) = min_x |x - y|^2 / 2 + R(x) = |y|^2 / 2 - psi(y).

Trained with squared error to find x from y = x + sigma n, f is the posterior mean, and M(y) = -sigma^2 log p(y) +
const, p the density of the noisy points (Tweedie's formula): a log-density in one forward pass, where the residual
|y - f(y)| is none. sigma is its bandwidth. Points are brought to their first principal directions, of mean variance
one. Not built: the paper's loss for the mode in the place of the mean, and R itself, which needs an inversion.

Legend: N points, D dimensions, d principal directions, H units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Generator, Tensor
from torch.nn import functional

_LR, _BATCH = 0.01, 128
_NAMES = ("w0", "b0", "w1", "v", "b1", "w", "a")
_POSITIVE = frozenset({"w1", "w", "a"})
"""Weights of which the softplus is taken."""


def potential(weights: Mapping[str, Tensor], y: Tensor) -> Tensor:
    """Return psi (N,) of y (N, d)."""
    _, second = _inner(weights, y)
    return functional.softplus(second) @ weights["w"] + weights["a"] * y.square().sum(dim=1) / 2


def proximal(weights: Mapping[str, Tensor], y: Tensor) -> Tensor:
    """Return f (N, d), the gradient of psi at y (N, d)."""
    first, second = _inner(weights, y)
    behind = torch.sigmoid(second) * weights["w"]
    ahead = torch.sigmoid(first) * (behind @ weights["w1"])
    return behind @ weights["v"] + ahead @ weights["w0"] + weights["a"] * y


def trained(
    points: Tensor, *, dimensions: int, sigma: float, width: int, steps: int, draws: Generator
) -> dict[str, Tensor]:
    """Return what `envelope` needs, float64: the principal directions of points and the weights of psi.

    Args:
        points: float64 (N, D).
        dimensions: principal directions; fewer where the points have fewer.
        sigma: deviation of the noise, where the mean variance along the directions is one.
        width: units of both hidden layers.
        steps: gradient steps, of 128 points each, by Adam at a rate that falls from 0.01 to zero.
        draws: where start, points and noise come from.
    """
    mean = points.mean(dim=0)
    covariance = (points - mean).T @ (points - mean) / len(points)
    values, vectors = torch.linalg.eigh(covariance)
    kept = min(dimensions, len(values))
    scale = values[-kept:].clamp_min(0).mean().sqrt().clamp_min(1e-6)
    frame = {"mean": mean, "directions": vectors[:, -kept:] / scale}
    seen = _framed(frame, points).float()
    free = _started(kept, width, draws)
    optimiser = torch.optim.Adam(free.values(), lr=_LR)
    with torch.enable_grad():
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = _LR * (1 - step / steps)
            x = seen[torch.randint(len(seen), (_BATCH,), generator=draws)]
            y = x + sigma * torch.randn(x.shape, generator=draws)
            loss = (proximal(_constrained(free), y) - x).square().sum(dim=1).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    weights = _constrained({name: each.detach().double() for name, each in free.items()})
    return {**frame, **weights}


def envelope(fitted: Mapping[str, Tensor], points: Tensor) -> Tensor:
    """Return M (N,), larger is stranger, for points float64 (N, D)."""
    y = _framed(fitted, points)
    return y.square().sum(dim=1) / 2 - potential(fitted, y)


def _framed(frame: Mapping[str, Tensor], points: Tensor) -> Tensor:
    return (points - frame["mean"]) @ frame["directions"]


def _inner(weights: Mapping[str, Tensor], y: Tensor) -> tuple[Tensor, Tensor]:
    """Return what goes into the two softplus layers, (N, H) each."""
    first = y @ weights["w0"].T + weights["b0"]
    second = functional.softplus(first) @ weights["w1"].T + y @ weights["v"].T + weights["b1"]
    return first, second


def _started(inputs: int, width: int, draws: Generator) -> dict[str, Tensor]:
    """Return weights at the start: normal at 1 / sqrt(inputs), positive ones at 1 / width, which is close to flat."""
    shapes = {"w0": (width, inputs), "w1": (width, width), "v": (width, inputs), "w": (width,)}
    flat = math.log(math.expm1(1 / width))
    free = {name: torch.zeros(shapes.get(name, (width,) if name != "a" else ())) for name in _NAMES}
    for name in ("w0", "v"):
        free[name] = torch.randn(shapes[name], generator=draws) / math.sqrt(inputs)
    for name in ("w1", "w"):
        free[name] = flat + 0.1 * torch.randn(shapes[name], generator=draws)
    return {name: each.requires_grad_() for name, each in free.items()}


def _constrained(free: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: functional.softplus(each) if name in _POSITIVE else each for name, each in free.items()}
