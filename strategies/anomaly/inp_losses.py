"""The losses and maps of INP-Former (Luo et al., CVPR 2025, arXiv 2503.02424), as plain functions on tensors.

Soft mining weighs the gradient of every token by how badly it is rebuilt, and leaves the value of the loss
alone: the released code does it by a hook on the decoder's output. Here one function returns value and
weighted gradient from a single pass over the tokens, since the cosine of whole images is made of the same
products as the cosines of their tokens.

Legend: B images, G groups, P patches, C channels, M prototypes. Sections are those of the paper; where it and
the released code (17d2653) differ, the code is followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.linalg import vecdot
from torch.nn.functional import normalize

Normaliser = Literal["batch", "image"]
"""Over what the error of a token is compared with the mean: all tokens of the batch (the code), or those of
its own image.
"""

_TINY = 1e-8  # below it a length counts as this, as in torch.cosine_similarity


def prototype_distances(tokens: Tensor, prototypes: Tensor) -> Tensor:
    """Return 1 - cos of tokens (B, P, C) and prototypes (B, M, C) or (1, M, C), (B, P, M)."""
    lengths: Tensor = tokens.norm(dim=2, keepdim=True).clamp_min(_TINY)
    return 1 - tokens @ normalize(prototypes, dim=2, eps=_TINY).transpose(1, 2) / lengths


def nearest(distances: Tensor, *, softness: float = 0.0) -> Tensor:
    """Return the smallest of distances (..., M), (...); of equal ones the first, so that a prototype nearest
    to no token learns nothing.

    Args:
        distances: to every prototype.
        softness: temperature of a mean weighted by softmax(-distance / softness), through which all
            prototypes learn; 0 for the minimum itself (the code). A soft minimum is INP-Former++'s idea
            (arXiv 2506.03660); this form of it is ours.
    """
    if not softness:
        return distances.min(dim=-1).values
    return (torch.softmax(-distances / softness, dim=-1) * distances).sum(dim=-1)


def coherence_loss(tokens: Tensor, prototypes: Tensor, *, softness: float = 0.0) -> Tensor:
    """Return the mean distance of tokens (B, P, C), constants, from their nearest prototype (code:
    gather_loss).
    """
    return nearest(prototype_distances(tokens.detach(), prototypes), softness=softness).mean()


def mining_weights(errors: Tensor, *, gamma: float, normaliser: Normaliser = "batch") -> Tensor:
    """Return (error / mean error)^gamma, as `errors` (B, P); all one at gamma 0 and where there is no error
    at all.

    Args:
        errors: 1 - cos of every token, not below 0.
        gamma: 3 in the paper; at 4 times the mean error a token then counts 64-fold.
        normaliser: whose mean.
    """
    if not gamma:
        return torch.ones_like(errors)
    mean = errors.mean() if normaliser == "batch" else errors.mean(dim=1, keepdim=True)
    return torch.where(mean > 0, errors / mean.clamp_min(torch.finfo(errors.dtype).tiny), 1.0).pow(gamma)


class _Mined(torch.autograd.Function):
    """Mean over images of 1 - cos(E_b, D_b), flattened; the gradient of token p times w_p: w (cos D / |D| - E
    / |E|) / (B |D|).
    """

    @staticmethod
    def forward(ctx: Any, target: Tensor, rebuilt: Tensor, gamma: float, normaliser: Normaliser) -> Tensor:
        products, own, other = vecdot(target, rebuilt), rebuilt.norm(dim=2), target.norm(dim=2)
        errors = (1 - products / (own.clamp_min(_TINY) * other.clamp_min(_TINY))).clamp_min_(0)
        lengths = own.norm(dim=1).clamp_min_(_TINY), other.norm(dim=1).clamp_min_(_TINY)
        cosines: Tensor = products.sum(dim=1) / (lengths[0] * lengths[1])
        weights = mining_weights(errors, gamma=gamma, normaliser=normaliser) / len(target)
        towards = weights / (lengths[0] * lengths[1])[:, None]
        along = weights * (cosines / lengths[0].square())[:, None]
        ctx.save_for_backward(target, rebuilt, towards, along)
        return 1 - cosines.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        target, rebuilt, towards, along = ctx.saved_tensors
        slope = (along * gradient)[..., None] * rebuilt
        return None, slope.addcmul_((towards * gradient)[..., None], target, value=-1), None, None


def soft_mining_loss(
    targets: Sequence[Tensor], rebuilt: Sequence[Tensor], *, gamma: float, normaliser: Normaliser = "batch"
) -> Tensor:
    """Return the mean over groups and images of 1 - cos of whole feature maps (code:
    global_cosine_hm_adaptive).

    The value does not depend on gamma; the gradient of a rebuilt token is that of the value times its mining
    weight. It is a loss that cannot be differentiated twice.

    Args:
        targets: for each group the encoder's tokens (B, P, C), constants.
        rebuilt: for each group the decoder's.
        gamma, normaliser: see `mining_weights`; the mean is taken in each group by itself.
    """
    losses: list[Tensor] = [
        _Mined.apply(target, own.to(target.dtype), gamma, normaliser)
        for target, own in zip(targets, rebuilt, strict=True)
    ]
    return torch.stack(losses).mean()


def cosine_map(targets: Sequence[Tensor], rebuilt: Sequence[Tensor]) -> Tensor:
    """Return the mean over groups of 1 - cos of tokens (B, P, C), (B, P): the anomaly map on the encoder's
    grid.
    """
    cosines = [
        torch.cosine_similarity(target, own, dim=2) for target, own in zip(targets, rebuilt, strict=True)
    ]
    return 1 - torch.stack(cosines).mean(dim=0)
