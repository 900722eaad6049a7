"""Regression with the kernel of an infinitely wide network of any depth (Radhakrishnan, Belkin and Uhler 2023, arXiv
2204.14126; released code at 25514ed).

With dual(s) = E phi(u) phi(v) for standard normal u, v of correlation s and dual(1) = 1, items x on the unit sphere and
s = <x, x'>, `nngp` takes s <- dual(s) so many times; `ntk` takes K <- dual(s) + K dual'(s), from K = s. The answer is
the largest of k(x) K^-1 Y, Y one-hot. It goes through every item that was handed over. What deep ones become depends on
the activation: for `hermite[d]` the vote by |x - x_i|^-d of `hilbert`; for `relu`, slowly, a majority vote. The
released script runs `nngp`. What the other items say of a label is known too, -sum_{j != i} (K^-1)_ij y_j / (K^-1)_ii.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from harness.contracts import param
from harness.errors import Diverged, Unsuitable
from strategies.noisy_labels.interpolating import Interpolating

LARGEST = 5000
"""Items of which the kernel is inverted."""
_JITTERS = (1e-10, 1e-8, 1e-6, 1e-4)
_ROUNDING = 1e-12


def dual(s: Tensor, activation: str, d: int) -> tuple[Tensor, Tensor]:
    """Return dual(s) and dual'(s) for correlations s, for relu, erf or hermite of exponent d."""
    if activation == "relu":
        angle = torch.arccos(s)
        return ((1 - s.square()).clamp_min(0).sqrt() + s * (math.pi - angle)) / math.pi, 1 - angle / math.pi
    if activation == "erf":
        scale = math.asin(2 / 3)
        inner = 2 * s / 3
        return torch.arcsin(inner) / scale, (2 / 3) / (1 - inner.square()).sqrt() / scale
    if d == 1:
        return (s + s**7) / 2, (1 + 7 * s**6) / 2
    outer, inner_share = 2 ** (-d / 2), 1 - 2 ** (1 - d / 2)
    return (outer * (s + s**3) + inner_share * s.square(), outer * (1 + 3 * s.square()) + 2 * inner_share * s)


class DeepKernel(Interpolating):
    """Regress on labels with the kernel of an infinitely wide network; no network, no gradient step."""

    kernel: Literal["nngp", "ntk"] = param("nngp", "which of the two kernels", ablate=["ntk"])
    activation: Literal["relu", "erf", "hermite"] = param("hermite", "of the network", ablate=["relu", "erf"])
    d: int = param(2, "exponent of the hermite activation", ge=1, ablate=[1, 4, 8])
    depth: int = param(50, "layers (published 50 to 200)", ge=1, ablate=[1, 5])

    def fit(self) -> None:
        """Solve for the weights of all items.

        Raises:
            Unsuitable: there are too many items.
            Diverged: the kernel cannot be inverted.
        """
        size = len(self.points)
        if size > LARGEST:
            raise Unsuitable(f"inverts a kernel of at most {LARGEST} items, and has been handed {size}")
        kernel = self.between(self.points, self.points)
        is_alone = ((self.points @ self.points.T) > 1 - _ROUNDING).sum(dim=1) <= 1
        # labels of one direction may contradict each other: the less is added, the larger weights cancel there
        for jitter in _JITTERS if is_alone.all() else _JITTERS[-1:]:
            factor, failed = torch.linalg.cholesky_ex(
                kernel + jitter * kernel.diagonal().mean() * torch.eye(size)
            )
            if not failed:
                break
        else:
            raise Diverged(f"the kernel of {size} items has no inverse")
        self.weights = torch.cholesky_solve(self.one_hot, factor)
        inverse = torch.cholesky_inverse(factor)
        own = inverse.diagonal().clone()
        self.left_out = -(inverse.fill_diagonal_(0) @ self.one_hot) / own[:, None]  # nothing cancels

    def between(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the kernel (M, N) of points (M, d) and (N, d)."""
        s = (first @ second.T).clamp(-1, 1)
        s = s.masked_fill(s > 1 - _ROUNDING, 1.0)  # of one direction: layer upon layer would take them apart
        kernel = s
        for _ in range(self.depth):
            value, slope = dual(s, self.activation, self.d)
            s = value.clamp(-1, 1)
            kernel = s if self.kernel == "nngp" else s + kernel * slope
        return kernel

    def shares(self, points: Tensor) -> Tensor:
        """Return the regression, without what is negative."""
        return (self.between(points, self.points) @ self.weights).clamp_min(0)

    def shares_of_others(self, rows: Tensor) -> Tensor:
        """Return the regression on all other items, without what is negative."""
        return self.left_out[rows].clamp_min(0)
