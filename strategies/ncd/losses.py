"""The losses of UNO and Cr-KD, as plain functions on tensors.

Legend: V views of an item, of which the first L are large; H heads; B items, Bu of them unlabelled; Cl known
and Cu novel classes, known ones first, C together. Sources: UNO (Fini et al. 2021), Cr-KD (Gu et al. 2023);
where paper and released code differ, the code is followed and the difference named.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softmax

Weighting = Literal["mass", "none", "mass-unscaled", "mass-constant", "teacher-confidence"]
Divergence = Literal["cross-entropy", "kl"]


def joint_targets(
    novel: Tensor,
    labels: Tensor,
    known: int,
    assign: Callable[[Tensor], Tensor],
    *,
    among_all: Tensor | None = None,
    queue: Tensor | None = None,
) -> Tensor:
    """Return what every item should answer (UNO, section 3.2), (L, H, B, C): its label, or what it
    is assigned where it has none.

    Args:
        novel: (L, H, B, K) scores of the K novel rows.
        labels: int (B,), negative where there is none.
        known: Cl.
        assign: soft labels (L, H, N, rows) of scores (L, H, N, rows), a problem for every view and head.
        among_all: (L, H, B, Cl + K) scores of all rows, where unlabelled items may be of known classes too
            (GCD); by default they get novel rows only.
        queue: (L, H, Q, rows) scores of earlier items that stand beside these while they are assigned, or
            None.
    """
    views, heads, items, rows = novel.shape
    targets = torch.zeros(views, heads, items, known + rows, device=novel.device)
    given = labels >= 0
    targets[:, :, given.nonzero()[:, 0], labels[given]] = 1.0
    open_scores = (novel if among_all is None else among_all)[:, :, ~given].detach()
    if open_scores.shape[2]:
        first = known if among_all is None else 0
        together = open_scores if queue is None else torch.cat([open_scores, queue], dim=2)
        targets[:, :, ~given, first:] = assign(together)[:, :, : open_scores.shape[2]]
    return targets


def swapped_prediction(logits: Tensor, targets: Tensor) -> Tensor:
    """Return for every head the mean cross-entropy of each view against the targets of all other large views,
    (H,) (UNO, eq. 4).

    Args:
        logits: (V, H, B, C), divided by their temperature already. Small views are predicted and give no
            targets.
        targets: (L, H, B, C) constants.
    """
    views, large = len(logits), len(targets)
    log_p = log_softmax(logits.float(), dim=-1)
    everything = (targets.sum(dim=0) * log_p.sum(dim=0)).sum(dim=-1)
    same = (targets * log_p[:large]).sum(dim=(0, -1))
    return -(everything - same).mean(dim=-1) / (large * (views - 1))


def relation_loss(
    known: Tensor,
    novel: Tensor,
    teacher: Tensor,
    *,
    tau: float = 0.1,
    temperature: float = 4.0,
    weighting: Weighting = "mass",
    divergence: Divergence = "cross-entropy",
    per_head: bool = False,
) -> Tensor:
    """Return the class-relation distillation of Cr-KD over unlabelled items, a scalar; zero without any item.

    q = softmax(teacher / (tau T)), p = softmax(known / (tau T)), eta the mass of the known classes in the
    joint softmax at tau T:

        mean over views, heads and items of  eta / mean(eta) * T^2 * H(q, p)

    The weight is not detached, so items whose relation fits worse than average are told to lose known mass.
    The paper writes KL(q || p): the same value up to the entropy of q, not the same gradient, for the weight
    multiplies it.

    Args:
        known: (V, B, Cl) student scores, the same for all heads.
        novel: (V, H, B, Cu) student scores.
        teacher: (V, B, Cl) scores of the network of stage 0 on the same views.
        tau, temperature: classification temperature and T on top of it.
        weighting: mass (eta over its mean); none; mass-unscaled (eta); mass-constant (as mass, a constant to
            the gradient); teacher-confidence (the largest entry of q, over its mean).
        divergence: cross-entropy (the code) or kl (the paper).
        per_head: whether eta is divided by the mean of its head instead of the mean over all heads.
    """
    if not known.shape[1]:
        return known.new_zeros(())
    scale = tau * temperature
    q = softmax(teacher.float() / scale, dim=-1)
    log_p = log_softmax(known.float() / scale, dim=-1)
    each = -(q * log_p).sum(dim=-1)
    if divergence == "kl":
        each = each + (q * q.clamp_min(1e-30).log()).sum(dim=-1)
    each = temperature**2 * each[:, None]  # (V, 1, B), the same for all heads
    heads = novel.shape[1]
    if weighting == "none":
        return each.mean()
    if weighting == "teacher-confidence":
        surest = q.amax(dim=-1)[:, None]
        return (surest / surest.mean() * each).mean()
    joint = torch.cat([known[:, None].expand(-1, heads, -1, -1), novel], dim=-1).float() / scale
    mass = (joint[..., : known.shape[-1]].logsumexp(dim=-1) - joint.logsumexp(dim=-1)).exp()
    if weighting == "mass-unscaled":
        return (mass * each).mean()
    weight = mass / mass.mean(dim=(0, 2) if per_head else None, keepdim=True)
    return ((weight.detach() if weighting == "mass-constant" else weight) * each).mean()


def relation_shift(known: Tensor, teacher: Tensor, *, tau: float = 0.1, temperature: float = 4.0) -> Tensor:
    """Return KL(teacher's relation || student's) of every item, (N,): how far the distribution over known
    classes has moved.

    Args:
        known, teacher: (N, Cl) scores.
        tau, temperature: as in `relation_loss`.
    """
    log_q, log_p = (log_softmax(scores.float() / (tau * temperature), dim=-1) for scores in (teacher, known))
    return (log_q.exp() * (log_q - log_p)).sum(dim=-1).clamp_min(0)


def warm_cosine(done: float, *, warmup: float, floor: float) -> float:
    """Return the factor on the learning rate: a line from `floor` to 1 over the share `warmup`, then half a
    cosine back to `floor`.
    """
    if done < warmup:
        return floor + (1 - floor) * done / warmup
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
