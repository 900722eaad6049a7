"""OOD scores as formulas of features and logits: pure functions, larger is more out of distribution.

Legend: N items, C classes, d features. All is computed in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_CHUNK = 512


def max_softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return 1 - max softmax(f / T), (N,) (Hendrycks and Gimpel 2017, "A baseline"), as the sum of the
    others: it never rounds to 0.

    Args:
        logits: (N, C).
        temperature: T.
    """
    ordered = logits.sort(dim=1, descending=True).values
    others = ((ordered[:, 1:] - ordered[:, :1]) / temperature).exp().sum(dim=1)
    share: Tensor = others / (1 + others)
    return share


def max_logit(logits: Tensor) -> Tensor:
    """Return -max f, (N,) (Hendrycks et al. 2022, "Scaling out-of-distribution detection"); logits (N, C)."""
    return -logits.amax(dim=1)


def energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return -T log sum exp(f / T), (N,) (Liu et al. 2020, "Energy-based out-of-distribution detection", eq.
    4); logits (N, C).
    """
    free: Tensor = -temperature * (logits / temperature).logsumexp(dim=1)
    return free


def whitening(covariance: Tensor, ridge: float) -> Tensor:
    """Return W (d, d) with W W' = the pseudo-inverse of S + ridge * (mean variance) * I.

    Args:
        covariance: S, (d, d), symmetric.
        ridge: share of the mean variance, not negative; at 0 directions without variance do not count.
    """
    size = len(covariance)
    ridged = covariance + ridge * covariance.trace() / size * torch.eye(size, dtype=covariance.dtype)
    values, vectors = torch.linalg.eigh(ridged)
    smallest = values.amax() * size * torch.finfo(values.dtype).eps
    white: Tensor = vectors * torch.where(values > smallest, values.clamp_min(1e-300).rsqrt(), 0.0)
    return white


def mahalanobis(features: Tensor, means: Tensor, white: Tensor) -> Tensor:
    """Return min over classes of (z - mu)' S^-1 (z - mu), squared, (N,) (Lee et al. 2018, "A simple unified
    framework", eq. 2).

    Args:
        features: (N, d).
        means: (C, d).
        white: (d, d) of `whitening`.
    """
    return _distances(features @ white, means @ white).amin(dim=1).square()


def kth_nearest(features: Tensor, bank: Tensor, k: int) -> Tensor:
    """Return the Euclidean distance to the k-th nearest row of the bank, (N,), or to the farthest where it
    has fewer.

    Args:
        features: (N, d).
        bank: (M, d).
        k: from 1.
    """
    place = min(k, len(bank))
    return torch.cat(
        [_distances(part, bank).kthvalue(place, dim=1).values for part in torch.split(features, _CHUNK)]
    )


def origin_of(head: nn.Linear) -> Tensor:
    """Return o = -W^+ b, (d,): where the logits W z + b are smallest (ViM, section 4.1); zero without bias."""
    weight = head.weight.detach().cpu().double()
    if head.bias is None:
        return weight.new_zeros(weight.shape[1])
    origin: Tensor = -torch.linalg.pinv(weight) @ head.bias.detach().cpu().double()
    return origin


def _distances(first: Tensor, second: Tensor) -> Tensor:
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")


__all__ = ["energy", "kth_nearest", "mahalanobis", "max_logit", "max_softmax", "origin_of", "whitening"]
