"""The losses of category discovery, as plain functions on tensors.

Legend: B items with two views each make 2B rows, all first views before all second ones; K classes; d feature
dimensions. Logits are cosines in [-1, 1] unless said otherwise; a temperature divides them.
Sources: SimGCD (Wen et al. 2023), Happy (Ma et al. 2024), GCD (Vaze et al. 2022), AutoNovel (Han et al.
2020). Where Happy's paper and released code differ, the code is followed and the difference named.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, normalize, softmax


def self_distillation(
    logits: Tensor,
    teacher: Tensor,
    *,
    temperature: float,
    teacher_temperature: float,
    assign: Callable[..., Tensor] | None = None,
) -> Tensor:
    """Return the mean cross-entropy of each view against the sharper answer to the other view (Happy, eq. 3;
    SimGCD).

    Args:
        logits: (2B, K).
        teacher: (2B, K) logits, without gradient.
        temperature: of the student.
        teacher_temperature: of the teacher, smaller.
        assign: what makes answers of the teacher's logits, those of both views together; softmax by default.
    """
    answers = (
        softmax(teacher / teacher_temperature, dim=1)
        if assign is None
        else assign(teacher, epsilon=teacher_temperature)
    )
    first, second = answers.chunk(2)
    return cross_entropy(logits / temperature, torch.cat([second, first]))


def mean_entropy(logits: Tensor, *, temperature: float) -> Tensor:
    """Return log K minus the entropy of the mean answer: 0 where all classes are answered equally often
    (SimGCD).

    Args:
        logits: (N, K).
        temperature: of the softmax.
    """
    return _negentropy(softmax(logits / temperature, dim=1).mean(dim=0))


def group_entropy(
    logits: Tensor,
    n_old: int,
    *,
    temperature: float,
    between: float = 1.0,
    within_old: float = 1.0,
    within_new: float = 1.0,
    new_share: float | Tensor = 0.5,
) -> Tensor:
    """Return Happy's group-wise soft entropy regularisation (eq. 5; released code with constants, so that
    every term is 0 at its best).

    between: Kullback-Leibler divergence of the total probability of old and new classes from (1 - new_share,
    new_share); at 1/2 this is the paper's term plus log 2. within_*: `mean_entropy` inside a group, 0 for a
    group of one class or none.

    Args:
        logits: (N, K), old classes first.
        n_old: classes of the old group.
        temperature: of the softmax.
        between, within_old, within_new: weights; one each in the paper and the code's README.
        new_share: total probability that the new classes should get, in (0, 1).
    """
    mean = softmax(logits / temperature, dim=1).mean(dim=0)
    old, new = mean[:n_old], mean[n_old:]
    loss = logits.new_zeros(())
    if len(old) and len(new):
        share = torch.as_tensor(new_share, dtype=mean.dtype, device=mean.device)
        totals, wanted = torch.stack([old.sum(), new.sum()]), torch.stack([1 - share, share])
        loss = loss + between * (totals * (totals.clamp_min(_TINY).log() - wanted.log())).sum()
    for weight, group in ((within_old, old), (within_new, new)):
        if len(group) > 1:
            loss = loss + weight * _negentropy(group / group.sum().clamp_min(_TINY))
    return loss


def info_nce(projections: Tensor, *, temperature: float) -> Tensor:
    """Return the mean cross-entropy of finding an item's other view among all other rows (SimCLR; 5.3.5 of
    Happy's code).

    Args:
        projections: (2B, p), scaled to unit length here.
        temperature: 1.0 in GCD, SimGCD and Happy.
    """
    rows = len(projections)
    logits = _similarities(projections, temperature)
    target = (torch.arange(rows, device=logits.device) + rows // 2) % rows
    return cross_entropy(logits, target)


def supervised_contrastive(projections: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """Return the supervised contrastive loss over all rows of a label (Khosla et al. 2020, "L_out").

    Args:
        projections: (N, p), scaled to unit length here.
        labels: int (N,); every row should share its label with another, as its second view does.
        temperature: 0.07 in GCD, SimGCD and Happy.
    """
    log_p = log_softmax(_similarities(projections, temperature), dim=1)
    same = (labels[:, None] == labels).fill_diagonal_(False)
    return -(log_p.masked_fill(~same, 0.0).sum(dim=1) / same.sum(dim=1).clamp_min(1)).mean()


def feature_distance(features: Tensor, before: Tensor) -> Tensor:
    """Return the mean squared distance of unit features, 2 (1 - cos) (Happy's code; the paper writes 1 -
    cos).

    Args:
        features, before: (N, d), scaled to unit length here.
    """
    return (normalize(features, dim=1) - normalize(before, dim=1)).square().sum(dim=1).mean()


def answer_distance(logits: Tensor, before: Tensor, *, temperature: float) -> Tensor:
    """Return the mean divergence of the answers over the old classes from those of the previous network (Li
    and Hoiem 2018, LwF).

    Args:
        logits: (N, K); only the first K' columns count.
        before: (N, K') logits of the previous network.
        temperature: of both.
    """
    ours = log_softmax(logits[:, : before.shape[1]] / temperature, dim=1)
    return kl_div(ours, softmax(before / temperature, dim=1), reduction="batchmean")


def rank_pairs(features: Tensor, *, top: int) -> Tensor:
    """Return which rows share the set of their `top` largest features, bool (N, N) (AutoNovel).

    Equal sets get the same number, and numbers are compared; N^2 argsorts are not needed. Where the indices
    of a set fit into one integer side by side, this is its number.
    """
    sets = features.topk(top, dim=1, sorted=False).indices.sort(dim=1).values
    bits = max(1, (features.shape[1] - 1).bit_length())
    if top * bits < 64:
        number = (sets << bits * torch.arange(top, device=sets.device)).sum(dim=1)
    else:
        _, number = torch.unique(sets, dim=0, return_inverse=True)
    same: Tensor = number[:, None] == number
    return same


def pair_cross_entropy(first: Tensor, second: Tensor, same: Tensor) -> Tensor:
    """Return the binary cross-entropy between agreement of answers and `same` over all ordered pairs
    (AutoNovel).

    Args:
        first, second: (N, K) probabilities of the two views.
        same: bool (N, N).
    """
    agreement = first @ second.T
    return -torch.where(same, (agreement + 1e-7).log(), (1 - agreement + 1e-7).log()).mean()


_TINY = 1e-12
"""Below the smallest share that a softmax at temperature 0.1 gives; keeps p log p and its gradient finite at
p = 0.
"""


def _negentropy(shares: Tensor) -> Tensor:
    return (shares * shares.clamp_min(_TINY).log()).sum() + math.log(len(shares))


def _similarities(projections: Tensor, temperature: float) -> Tensor:
    """Return cosines over temperature, (N, N), with minus infinity on the diagonal."""
    unit = normalize(projections, dim=1)
    return (unit @ unit.T / temperature).fill_diagonal_(-torch.inf)
