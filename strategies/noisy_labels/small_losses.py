"""Selecting the items whose loss is small: how co-teaching and its kin decide which labels to believe."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.errors import UserError
from strategies.toolkit.losses.robust import cross_entropy


def forget_rate(rate: float, epoch: int, ramp: int, exponent: float) -> float:
    """Return R(e): from 0 in equal steps to rate^exponent over the first `ramp` epochs, then `rate` (Han et
    al. 2018, released code).
    """
    if epoch >= ramp:
        return rate
    return float(rate**exponent * epoch / max(1, ramp - 1))


def smallest(losses: Tensor, rate: float) -> Tensor:
    """Return the places of the int((1 - rate) B) smallest of B losses; one at least, for the last batch of a
    stage may be small.
    """
    return torch.topk(losses, max(1, kept(rate, len(losses))), largest=False, sorted=False).indices


def kept(rate: float, size: int) -> int:
    """Return how many of `size` items are left when a share `rate` is forgotten, rounded down."""
    return int((1 - rate) * size + 1e-9)


def checked_rate(rate: float, size: int) -> float:
    """Return the rate; raise `UserError` where forgetting it leaves nothing of a full batch of `size` items."""
    if kept(rate, size) == 0:
        raise UserError(
            f"forgetting a share of {rate:.3g} leaves nothing of a batch of {size} items; lower "
            "forget_rate or enlarge the batch"
        )
    return rate


def mean_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of labels (N,), mean over networks; logits (networks, N, C)."""
    return torch.stack([cross_entropy(own, labels) for own in logits]).mean(dim=0)


def noise_score_by_loss(losses: Tensor, bar: float) -> tuple[Tensor, Tensor]:
    """Return suspicion in [0, 1] and which labels are kept, for losses (N,): those up to `bar`, where
    suspicion is 1/2.
    """
    return losses / (losses + min(bar, 1e6)).clamp_min(1e-12), losses <= bar


def keeps(losses: Tensor, rate: float) -> float:
    """Return the largest loss (N,) that is kept when a share `rate` of all items is forgotten."""
    return float(losses.sort().values[max(1, kept(rate, len(losses))) - 1])
