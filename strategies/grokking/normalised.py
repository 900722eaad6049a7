"""The quadratic network with batch norm on the square, f = W BN((U[x] + V[y])^2), where Doshi et al. 2024
(eq. 5) put it.

With a = h^2, its mean and (biased) variance over the rows of a batch, n = (a - mean) / sqrt(variance + 1e-5),
D the gradient for gamma n:

    dgamma = sum of D n,   dbeta = sum of D,   da = gamma (D - mean of D - n * mean of D n) / sqrt(variance +
    1e-5).

Statistics run over whole batches, so rows are not cut into tiles in training. Running means move by a tenth a
step (variances unbiased), as in torch.nn.BatchNorm1d; evaluation uses them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from strategies.grokking.networks import Weights
from strategies.grokking.quadratic import Quadratic
from strategies.grokking.tiles import Pass, Tile

SMALL = 1e-5
MOMENTUM = 0.1


class Normalised(Quadratic):
    """Adds gamma, beta (K, width), which are trained, and running_mean, running_variance (K, width), which
    are not.
    """

    statistics = ("running_mean", "running_variance")

    def initial(self, rng: np.random.Generator) -> Weights:
        """Start as the plain network does, under a norm that changes nothing yet."""
        zeros, ones = torch.zeros(1, self.width), torch.ones(1, self.width)
        norm = {"gamma": ones, "beta": zeros, "running_mean": zeros.clone(), "running_variance": ones.clone()}
        return {**super().initial(rng), **norm}

    def seen(self, weights: Weights, tile: Tile, active: Tensor) -> Tensor:
        """Return the norm by running statistics."""
        mean, variance, gamma, beta = (
            tile.of(weights[name])[:, None] for name in ("running_mean", "running_variance", "gamma", "beta")
        )
        return ((active - mean) * ((variance + SMALL).rsqrt() * gamma) + beta).to(active.dtype)

    def batch(self, items: Tensor, labels: Tensor) -> list[Tile]:
        """Return tiles that hold all rows of a network."""
        return list(self._tiles(items, labels, None))

    def above(self, top: Tensor, active: Tensor, tile: Tile, current: Pass) -> Tensor:
        """Go through the norm and back."""
        weights, gradients, rows = current.weights, current.gradients, current.rows
        gamma, beta = (tile.of(weights[name])[:, None] for name in ("gamma", "beta"))
        whole = active.to(gamma.dtype)
        variance, mean = torch.var_mean(whole, dim=1, keepdim=True, correction=0)
        scale = (variance + SMALL).rsqrt()
        near = (whole - mean).mul_(scale)
        back = (
            super()
            .above(top, torch.addcmul(beta, near, gamma).to(active.dtype), tile, current)
            .to(gamma.dtype)
        )
        along_near, total = (back * near).sum(dim=1, keepdim=True), back.sum(dim=1, keepdim=True)
        steep = 2 if self.activation == "square" else 1
        tile.of(gradients["gamma"]).copy_(along_near[:, 0] / steep)
        tile.of(gradients["beta"]).copy_(total[:, 0] / steep)
        tile.of(weights["running_mean"]).lerp_(mean[:, 0], MOMENTUM)
        tile.of(weights["running_variance"]).lerp_(variance[:, 0] * (rows / max(rows - 1, 1)), MOMENTUM)
        return (back - total / rows - near * (along_near / rows)).mul_(scale * gamma)


__all__ = ["Normalised"]
