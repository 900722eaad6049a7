"""Models of inputs alone that are fitted by maximum likelihood: factors in closed form, mixtures by EM.

Sums are float64. Inputs are read in chunks, and flattened.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor

_CHUNK = 4096
_SMALLEST = 1e-3
"""Variances of a mixture stay above this share of the inputs' mean variance."""


class Factors(NamedTuple):
    """Probabilistic PCA: x = mean + W t + noise, t and noise normal, the noise of variance `noise` (Tipping and Bishop
    1999).

    mean: (D,).  weights: W (D, q).  noise: ().
    """

    mean: Tensor
    weights: Tensor
    noise: Tensor

    def features(self, inputs: Tensor) -> Tensor:
        """Return (W^T W + noise I)^-1 W^T (x - mean), (N, q), the mean of t for inputs (N, D)."""
        size = self.weights.T @ self.weights
        size.diagonal().add_(self.noise)
        found: Tensor = torch.linalg.solve(size, self.weights.T @ (inputs - self.mean).T)
        return found.T


def factors_of(inputs: Tensor, width: int) -> Factors:
    """Return the likeliest W = U_q (L_q - s I)^(1/2), U_q and L_q the first `width` eigenvectors and eigenvalues of the
    covariance of inputs (N, ...), s the mean of the others.

    The sign of an eigenvector is such that its largest entry is positive.
    """
    total, square = torch.zeros(()), torch.zeros(())
    for part in _flat(inputs):
        total, square = total + part.sum(dim=0), square + part.T @ part
    mean = total / len(inputs)
    values, vectors = torch.linalg.eigh(square / len(inputs) - torch.outer(mean, mean))
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)[:, :width]
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    noise = values[width:].mean()
    return Factors(mean, vectors * largest.sign() * (values[:width] - noise).clamp_min(0).sqrt(), noise)


class Mixture(NamedTuple):
    """A mixture of normal laws with a variance for every dimension: shares (K,), means and variances (K, D)."""

    shares: Tensor
    means: Tensor
    variances: Tensor

    def logs(self, inputs: Tensor) -> Tensor:
        """Return the log density of inputs (N, ...) and a component, (N, K)."""
        precisions = 1 / self.variances
        parts = []
        for part in _flat(inputs):
            squares = (
                part.square() @ precisions.T
                - 2 * part @ (self.means * precisions).T
                + (self.means.square() * precisions).sum(dim=1)
            )
            parts.append(
                self.shares.log() - 0.5 * (squares + (2 * math.pi * self.variances).log().sum(dim=1))
            )
        return torch.cat(parts)


def mixture_of(inputs: Tensor, width: int, rounds: int, draws: Generator) -> Mixture:
    """Return a mixture of `width` components after so many rounds of EM, which begins at inputs that are drawn, with
    the variance of all.
    """
    total, square = torch.zeros(()), torch.zeros(())
    for part in _flat(inputs):
        total, square = total + part.sum(dim=0), square + part.square().sum(dim=0)
    variance = square / len(inputs) - (total / len(inputs)).square()
    least = _SMALLEST * variance.mean().clamp_min(1e-12)
    rows = torch.randperm(len(inputs), generator=draws, device=draws.device)[:width]
    (means,) = _flat(inputs[rows])
    found = Mixture(
        torch.full_like(means[:, 0], 1 / len(rows)), means, variance.clamp_min(least).expand_as(means)
    )
    for _ in range(rounds):
        found = _refined(found, inputs, least)
    return found


def _refined(mixture: Mixture, inputs: Tensor, least: Tensor) -> Mixture:
    """Return the mixture after a round of EM."""
    given = mixture.logs(inputs).softmax(dim=1)
    weight = given.sum(dim=0).clamp_min(1e-9)
    total, square = torch.zeros_like(mixture.means), torch.zeros_like(mixture.means)
    for own, part in zip(torch.split(given, _CHUNK), _flat(inputs), strict=True):
        total, square = total + own.T @ part, square + own.T @ part.square()
    means = total / weight[:, None]
    variances = (square / weight[:, None] - means.square()).clamp_min(least)
    return Mixture(weight / weight.sum(), means, variances)


def _flat(inputs: Tensor) -> Iterator[Tensor]:
    """Yield inputs (n, D) in float64."""
    for part in torch.split(inputs, _CHUNK):
        yield part.flatten(1).double()
