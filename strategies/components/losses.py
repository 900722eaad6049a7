"""Losses of a batch to which a component may have given targets or weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from strategies.toolkit.losses.robust import ItemLoss, cross_entropy, soft_cross_entropy
from strategies.toolkit.training.loop import Batch

AT_ONCE = 2**22
"""Numbers of the logits of which losses are taken at once."""


def mean_of(item_losses: ItemLoss, logits: Tensor, batch: Batch) -> Tensor:
    """Return the mean loss of a batch: of its labels, or where it has targets of their expectation, sum_k t_k loss(z,
    k), each item times its weight where it has one.

    For cross-entropy the expectation is soft cross-entropy; for other losses it is an extension of this project.

    Args:
        item_losses: losses (B,) of logits (B, C) and labels (B,).
        logits: (B, C).
        batch: what was shown.
    """
    if batch.targets is None:
        losses = item_losses(logits, batch.labels)
    elif item_losses is cross_entropy:
        losses = soft_cross_entropy(logits, batch.targets)
    else:
        labels = torch.arange(batch.targets.shape[1], device=logits.device)
        by_class = [
            item_losses(logits.repeat(len(some), 1), some.repeat_interleave(len(logits)))
            for some in torch.split(labels, max(1, AT_ONCE // logits.numel()))
        ]
        losses = (batch.targets * torch.cat(by_class).view(len(labels), -1).T).sum(dim=1)
    return (losses if batch.weights is None else batch.weights * losses).mean()


def wide(values: Tensor) -> Tensor:
    """Return values of half precision as float32, others as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def cross_entropies(logits: Tensor, batch: Batch) -> Tensor:
    """Return the cross-entropy (B,) of logits (B, C) to a batch's targets, or its labels, in float32 at least."""
    if batch.targets is not None:
        return soft_cross_entropy(wide(logits), batch.targets)
    return cross_entropy(wide(logits), batch.labels)


def mean_cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """Return the same of cross-entropy, in one kernel where no item has a weight."""
    if batch.weights is not None:
        return mean_of(cross_entropy, logits, batch)
    return functional.cross_entropy(logits, batch.labels if batch.targets is None else batch.targets)
