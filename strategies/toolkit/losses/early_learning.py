"""Early-learning regularisation (Liu et al. 2020): running targets per item, and a term that rewards
agreement with them.

With p the softmax of the logits, clamped to [c, 1 - c], and t the item's target, in this order (released
ELR/model/loss.py):

    t <- beta t + (1 - beta) p / sum p        loss = cross-entropy + weight * log(1 - <t, p>)

The term is at most zero, so the loss may be negative. Targets start at zero and are not corrected for it: a
ramp built in.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy, one_hot

Regulariser = Literal["log", "kl", "squared"]
Start = Literal["zero", "uniform"]


class Targets:
    """Running targets of all items met, (N, C); rows are added with every stage, columns with every class."""

    def __init__(self, beta: float, start: Start) -> None:
        self.beta, self.start = beta, start
        self.table = torch.zeros(0, 0)

    def make_room(self, rows: int, classes: int, device: str) -> None:
        """Grow to (rows, classes); new classes are zero for known items."""
        known, before = self.table.shape
        grown = torch.zeros(rows, classes, device=device)
        grown[known:] = 1 / classes if self.start == "uniform" else 0.0
        grown[:known, :before] = self.table
        self.table = grown

    def update(self, rows: Tensor, distributions: Tensor) -> Tensor:
        """Move the targets of `rows` towards `distributions` (B, C); return them."""
        moved = self.table.index_select(0, rows).lerp_(distributions, 1 - self.beta)
        self.table.index_copy_(0, rows, moved)
        return moved

    def state_dict(self) -> dict[str, Any]:
        """Return the table."""
        return {"table": self.table}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what `state_dict` was taken from."""
        self.table = state["table"]


def clamped(p: Tensor, clamp: float) -> Tensor:
    """Return probabilities within [clamp, 1 - clamp], not normalised again."""
    return p.clamp(clamp, 1 - clamp)


def agreement(p: Tensor, targets: Tensor, kind: Regulariser) -> Tensor:
    """Return the regulariser of every item (B,), smaller for closer agreement; p (B, C) clamped, targets (B,
    C) constants.

    log: log(1 - <t, p>), the method.  kl: sum t log(t / p).  squared: sum (t - p)^2.
    """
    if kind == "log":
        return (1 - (targets * p).sum(dim=1)).log()
    if kind == "kl":
        return (targets * (targets.clamp_min(1e-12).log() - p.log())).sum(dim=1)
    return (targets - p).square().sum(dim=1)


class _Loss(torch.autograd.Function):
    """Mean of cross-entropy + weight * log(1 - <t, p>) with its gradient in closed form, in the fewest passes
    over (B, C).
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, p: Tensor, inside: Tensor, targets: Tensor, weight: float
    ) -> Tensor:
        column = labels[:, None]
        gap = 1 - (targets * inside).sum(dim=1, keepdim=True)
        # d/dz of log(1 - <t, p>) is p (g - <p, g>) with g = -t / gap where the clamp does not bite
        slope = (targets * (inside == p)).div_(gap)
        slope.sub_((slope * p).sum(dim=1, keepdim=True)).mul_(-weight).add_(1).mul_(p)
        ctx.save_for_backward(slope.scatter_(1, column, slope.gather(1, column).sub_(1)).div_(len(p)))
        return cross_entropy(logits, labels) + weight * gap.log_().mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * gradient, None, None, None, None, None


def early_learning_loss(
    logits: Tensor, labels: Tensor, p: Tensor, inside: Tensor, targets: Tensor, weight: float
) -> Tensor:
    """Return mean cross-entropy + weight * mean log(1 - <targets, clamped p>); gradient with respect to
    logits in closed form.

    Args:
        logits: (B, C) float32.
        labels: int64 (B,).
        p: (B, C), softmax of the detached logits.
        inside: (B, C), p clamped; the regulariser's gradient is zero where the clamp bites.
        targets: (B, C), constants.
        weight: lambda.
    """
    value: Tensor = _Loss.apply(logits, labels, p, inside, targets, weight)
    return value


def ramp(done: float, length: float) -> float:
    """Return exp(-5 (1 - done / length)^2), one from `length` on and where it is 0 (released ELR+)."""
    share = min(done / length, 1.0) if length else 1.0
    return float(torch.tensor(-5 * (1 - share) ** 2).exp())


def mixed_labels(labels: Tensor, other: Tensor, weight: float, classes: int) -> Tensor:
    """Return weight * onehot(labels) + (1 - weight) * onehot(labels[other]), (B, C)."""
    first = one_hot(labels, classes).float()
    return weight * first + (1 - weight) * first[other]
