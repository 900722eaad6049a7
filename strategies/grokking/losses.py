"""Losses of K stacked networks with the gradient in closed form: squared error, cross-entropy in 16, 32 or 64
bits, stable cross-entropy.

Cross-entropy is a lesson in absorption: once the correct logit leads by more than the format can add to 1
(about 8 in float16, 17 in float32, 37 in float64), sum_k exp(z_k - max) is exactly 1, and loss and gradient
of the correct class are exactly 0. StableMax replaces exp by a function that grows like x, so that this does
not happen (Prieto, Barsbey, Mediano, Birdal, "Grokking at the Edge of Numerical Stability", ICLR 2025, arXiv
2501.04697).

Legend: K networks, n rows, C classes; z logits, y labels.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Loss = Literal["mse", "cross-entropy", "stable"]
Bits = Literal[16, 32, 64]

FORMATS: dict[int, torch.dtype] = {16: torch.float16, 32: torch.float32, 64: torch.float64}
"""The number format of a softmax, by its bits."""


class Losses(NamedTuple):
    """losses: float64 (K, n).  gradient: (K, n, C) in the dtype of the logits, of the mean over the rows of
    each network.
    """

    losses: Tensor
    gradient: Tensor


def losses_and_gradient(logits: Tensor, labels: Tensor, *, loss: Loss, precision: Bits = 32) -> Losses:
    """Return the loss of every row, and the gradient of their mean with respect to the logits.

    Args:
        logits: (K, n, C).
        labels: int64 (K, n).
        loss: `mse` to the one-hot label, the mean over the classes too; `cross-entropy`; `stable` for -log
            StableMax(z)_y.
        precision: bits in which cross-entropy and its gradient are computed; the others do not look at it.
    """
    if loss == "mse":
        return _squared_error(logits, labels)
    if loss == "stable":
        return _stable_cross_entropy(logits, labels)
    return _cross_entropy(logits, labels, FORMATS[precision])


def collapsed(logits: Tensor, labels: Tensor, precision: Bits) -> Tensor:
    """Return where the softmax has collapsed: the label is the argmax and sum_k exp(z_k - max) is exactly 1;
    bool (K, n).

    The released code does not ask for the label, so there a row that is confidently wrong counts as well.
    """
    exponentials = _shifted(logits, FORMATS[precision]).exp_()
    return (exponentials.sum(dim=-1) == 1) & (exponentials.gather(-1, labels[..., None])[..., 0] == 1)


def _squared_error(logits: Tensor, labels: Tensor) -> Losses:
    """Mean over the classes of (z - onehot(y))^2; the gradient is 2 (z - onehot(y)) / (n C)."""
    errors = _less_onehot(logits.clone(), labels)
    losses = errors.square().mean(dim=-1)
    return Losses(losses.double(), errors.mul_(2 / (errors.shape[-2] * errors.shape[-1])))


def _cross_entropy(logits: Tensor, labels: Tensor, dtype: torch.dtype) -> Losses:
    """log sum_k exp(z_k - max) - (z_y - max); the gradient is (softmax(z) - onehot(y)) / n.

    The mean over the rows is taken outside the format: in float16, 1 / n would underflow on its own account.
    """
    shifted = _shifted(logits, dtype)
    of_label = shifted.gather(-1, labels[..., None])
    exponentials = shifted.exp_()
    total = exponentials.sum(dim=-1, keepdim=True)
    losses = total.log() - of_label
    gradient = _less_onehot(exponentials.div_(total), labels).to(logits.dtype)
    return Losses(losses[..., 0].double(), gradient.div_(logits.shape[-2]))


def _stable_cross_entropy(logits: Tensor, labels: Tensor) -> Losses:
    """-log StableMax(z)_y, always in float64 as in the released code: float32 would change the values of
    large logits.

    s(x) = x + 1 from 0 on, 1 / (1 - x) below; s'(x) / s(x) = 1 / (1 + |x|), so the gradient is (StableMax_i -
    [i = y]) / ((1 + |z_i|) n).
    """
    z = logits.double()
    reach = z.abs().add_(1)
    grown = torch.where(z < 0, reach.reciprocal(), reach)
    shares = grown / grown.sum(dim=-1, keepdim=True)
    losses = -shares.gather(-1, labels[..., None])[..., 0].log()
    gradient = _less_onehot(shares, labels).div_(reach.mul_(z.shape[-2]))
    return Losses(losses, gradient.to(logits.dtype))


def _shifted(logits: Tensor, dtype: torch.dtype) -> Tensor:
    """Return z - max in `dtype`. Logits beyond its range become its largest number: infinity less infinity
    would not be a number.
    """
    z = logits.to(dtype)
    if torch.finfo(dtype).max < torch.finfo(logits.dtype).max:
        largest = torch.finfo(dtype).max
        z = z.clamp(-largest, largest)
    return z - z.amax(dim=-1, keepdim=True)


def _less_onehot(values: Tensor, labels: Tensor) -> Tensor:
    """Return `values` less 1 at each row's label, in place."""
    return values.scatter_add_(-1, labels[..., None], values.new_full((1, 1, 1), -1).expand(*labels.shape, 1))


__all__ = ["FORMATS", "Bits", "Loss", "Losses", "collapsed", "losses_and_gradient"]
