"""Losses of labelled items that any strategy can take: plain functions of logits (B, C) and labels (B,) that
return losses (B,).

p is the softmax of the logits, p_y the probability of the label. `loss_of("gce[q=0.7]")` is how a strategy's
parameter names one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import Tensor
from torch.nn import functional

from harness.errors import UserError
from harness.syntax import chosen

ItemLoss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return -log p_y."""
    return functional.cross_entropy(logits, labels, reduction="none")


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return -sum_k t_k log p_k for target distributions (B, C)."""
    return -(targets * logits.log_softmax(dim=1)).sum(dim=1)


def label_smoothing(logits: Tensor, labels: Tensor, *, smoothing: float = 0.1) -> Tensor:
    """Return cross-entropy to (1 - e) onehot + e / K (Szegedy et al. 2016)."""
    return functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)


def bootstrapping(
    logits: Tensor, labels: Tensor, *, trust: float = 0.95, hard: bool = False, detach: bool = True
) -> Tensor:
    """Return cross-entropy to trust * onehot + (1 - trust) * own prediction (Reed et al. 2015).

    Soft takes p itself (published trust 0.95), hard its argmax (0.8). Most ports detach the soft target,
    loss-correction does not.
    """
    logs = logits.log_softmax(dim=1)
    if hard:
        own = -logs.amax(dim=1)
    else:
        p = logs.exp()
        own = -((p.detach() if detach else p) * logs).sum(dim=1)
    return trust * functional.nll_loss(logs, labels, reduction="none") + (1 - trust) * own


def generalised_cross_entropy(logits: Tensor, labels: Tensor, *, q: float = 0.7) -> Tensor:
    """Return (1 - p_y^q) / q (Zhang and Sabuncu 2018, eq. 6): cross-entropy as q goes to 0, 1 - p_y at q = 1."""
    return -torch.expm1(-q * cross_entropy(logits, labels)) / q


def symmetric_cross_entropy(
    logits: Tensor, labels: Tensor, *, alpha: float = 0.1, beta: float = 1.0, floor: float = 1e-4
) -> Tensor:
    """Return alpha * CE + beta * RCE, RCE = -sum_k p_k log max(onehot_k, floor) = -log(floor) (1 - p_y) (Wang
    et al. 2019, eq. 5).

    The released code clamps p from below at 1e-7, which changes nothing that float32 can see.
    """
    ce = cross_entropy(logits, labels)
    return alpha * ce - beta * math.log(floor) * -torch.expm1(-ce)


def z_loss(
    logits: Tensor, labels: Tensor, *, a: float = 1.0, b: float = 2.0, epsilon: float = 1e-5
) -> Tensor:
    """Return log(1 + exp(a (b - z_y))) / a, z the scores with mean 0 and variance 1 over the classes (de
    Brebisson and Vincent 2016).

    Shifting or scaling the scores changes nothing. z_y is at most sqrt(K - 1), so b has to be chosen with K
    in mind; epsilon is added to the standard deviation, for constant scores.
    """
    centred = logits - logits.mean(dim=1, keepdim=True)
    z = centred / (centred.square().mean(dim=1, keepdim=True).clamp_min(1e-24).sqrt() + epsilon)
    return functional.softplus(a * (b - z.gather(1, labels[:, None])[:, 0])) / a


def comp_sum(logits: Tensor, labels: Tensor, *, tau: float = 1.0) -> Tensor:
    """Return (p_y^(tau - 1) - 1) / (1 - tau), log(1 / p_y) at tau = 1 (Mao, Mohri and Zhong 2023, eq. 2 with
    u = 1 / p_y - 1).

    tau 0 is the sum-exponential loss, 1 cross-entropy, between 1 and 2 GCE with q = tau - 1, 2 the mean
    absolute error 1 - p_y.
    """
    ce = cross_entropy(logits, labels)
    return ce if tau == 1 else torch.expm1((1 - tau) * ce) / (1 - tau)


def forward_corrected(logits: Tensor, labels: Tensor, matrix: Tensor) -> Tensor:
    """Return -log (p^T T)_y with T[i, j] = P(label j | true class i), (C, C) (Patrini et al. 2017, theorem
    2).
    """
    return -(logits.log_softmax(dim=1) + matrix.clamp_min(1e-12).log().T[labels]).logsumexp(dim=1)


def backward_corrected(logits: Tensor, labels: Tensor, matrix: Tensor) -> Tensor:
    """Return sum_k T^-1[y, k] * (-log p_k); unbiased, and it can be negative (Patrini et al. 2017, theorem
    1).

    Raises:
        UserError: T cannot be inverted.
    """
    try:
        inverse = torch.linalg.inv(matrix)
    except RuntimeError:  # torch.linalg.LinAlgError is one
        raise UserError("backward correction needs a transition matrix that can be inverted") from None
    losses: Tensor = -(inverse[labels] * logits.log_softmax(dim=1)).sum(dim=1)
    return losses


LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross-entropy": cross_entropy,
    "label-smoothing": label_smoothing,
    "bootstrapping": bootstrapping,
    "gce": generalised_cross_entropy,
    "sce": symmetric_cross_entropy,
    "z-loss": z_loss,
    "comp-sum": comp_sum,
}


def loss_of(text: str) -> ItemLoss:
    """Return the loss that `text` selects, such as `gce[q=0.7]`.

    Raises:
        UserError: no loss of that name, or a parameter it does not have.
    """
    return chosen("loss", text, LOSSES, given=("logits", "labels"))


def _known(text: str) -> str:
    loss_of(text)
    return text


Named = Annotated[str, AfterValidator(_known)]
"""A parameter that names a loss; a wrong one is refused before anything runs."""


def sharpened(distribution: Tensor, temperature: float) -> Tensor:
    """Return p^(1/T), normalised (Berthelot et al. 2019, MixMatch); distribution (B, C)."""
    powered = distribution.pow(1 / temperature)
    return powered / powered.sum(dim=1, keepdim=True)


__all__ = [
    "LOSSES",
    "ItemLoss",
    "Named",
    "backward_corrected",
    "bootstrapping",
    "comp_sum",
    "cross_entropy",
    "forward_corrected",
    "generalised_cross_entropy",
    "label_smoothing",
    "loss_of",
    "sharpened",
    "soft_cross_entropy",
    "symmetric_cross_entropy",
    "z_loss",
]
