"""Class prototypes: where the classes known so far lie in feature space, how wide they spread, and which are
easily confused.

From them old classes are rehearsed without any stored item (Happy, section 4.2: a class is drawn, then a
Gaussian around its prototype).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize

Hardness = Literal["mean", "max", "standardised"]


def class_means(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return the mean unit feature of every class, (classes, d), zero where it has no item, and the counts,
    (classes,).

    Args:
        features: (N, d), scaled to unit length here.
        labels: int (N,).
        classes: how many.
    """
    unit = normalize(features, dim=1)
    sums = unit.new_zeros(classes, unit.shape[1]).index_add_(0, labels, unit)
    counts = torch.bincount(labels, minlength=classes)
    return sums / counts.clamp_min(1)[:, None], counts


def spreads(features: Tensor, labels: Tensor, means: Tensor) -> Tensor:
    """Return the variance per class and coordinate around `means`, (classes, d), divisor the class's count; 0
    where it has no item.

    Args:
        features: (N, d), scaled to unit length here.
        labels: int (N,).
        means: (classes, d), not scaled.
    """
    squares = (normalize(features, dim=1) - means[labels]).square()
    sums = torch.zeros_like(means).index_add_(0, labels, squares)
    return sums / torch.bincount(labels, minlength=len(means)).clamp_min(1)[:, None]


def least_like(centres: Tensor, known: Tensor, count: int) -> Tensor:
    """Return the positions of the `count` centres whose largest cosine with a known class is smallest, in
    that order (Happy, section 4.2).

    Args:
        centres: (K, d) of unit length.
        known: (K', d) of unit length.
        count: at most this many.
    """
    return (centres @ known.T).amax(dim=1).argsort(stable=True)[:count]


def hardness(prototypes: Tensor, kind: Hardness = "mean") -> Tensor:
    """Return how close every class is to the others, (K,): the mean cosine with them (Happy, eq. 6), the
    largest, or the mean standardised.

    A single prototype has hardness 0.
    """
    unit = normalize(prototypes, dim=1)
    cosines = unit @ unit.T
    others = len(unit) - 1
    if not others:
        return unit.new_zeros(1)
    if kind == "max":
        return cosines.fill_diagonal_(-torch.inf).amax(dim=1)
    mean = (cosines.sum(dim=1) - cosines.diagonal()) / others
    return (mean - mean.mean()) / mean.std().clamp_min(1e-12) if kind == "standardised" else mean


def rehearsed(
    prototypes: Tensor, deviation: Tensor, weights: Tensor, size: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Draw classes, then features around their prototypes; return (size, d) features, not scaled, and int
    (size,) labels.

    Args:
        prototypes: (K, d) of unit length.
        deviation: standard deviation per coordinate: (1, 1) one for all, (K, 1) per class, or (K, d).
        weights: (K,) chance of each class, not negative.
        size: draws, with replacement.
        generator: on the device of the prototypes.
    """
    labels = torch.multinomial(weights, size, replacement=True, generator=generator)
    noise = torch.randn(size, prototypes.shape[1], generator=generator, device=prototypes.device)
    return prototypes[labels] + deviation.expand(len(prototypes), -1)[labels] * noise, labels


def drift_corrected(prototypes: Tensor, before: Tensor, after: Tensor, *, width: float = 0.3) -> Tensor:
    """Return unit prototypes moved as the features near them moved (Yu et al. 2020, "Semantic drift
    compensation", eq. 8 to 10).

    Args:
        prototypes: (K, d) in the feature space of the previous network.
        before, after: (N, d) features of the same items by the previous and the current network, scaled to
            unit length here.
        width: standard deviation of the Gaussian by which items count, in unit feature space.
    """
    old, moved = normalize(before, dim=1), normalize(after, dim=1)
    weight = torch.softmax(-torch.cdist(prototypes, old).square() / (2 * width**2), dim=1)
    return normalize(prototypes + weight @ (moved - old), dim=1)
