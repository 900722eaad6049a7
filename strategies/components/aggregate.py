"""Learning from bags: of k items only the shares of their labels are seen (Javanmard, Chen, Mirrokni, Badanidiyuru and
Fu 2024, Learning from Aggregate Responses: Instance Level versus Bag Level Loss Functions; no code).

With y_a the mean label of bag a and p_a the mean probability of its items,

    cross-entropy:  L_bag = -mean_a sum_c y_ac log p_ac,         L_ins = -mean_i sum_c y_ac log p_ic,
    squared:        L_bag = mean_a sum_c (y_ac - p_ac)^2,        L_ins = mean_i sum_c (y_ac - p_ic)^2,

and L_rho = (1 - rho) L_bag + rho L_ins is minimised. L_ins is L_bag plus what pulls the items of a bag together; for
squares that is their variance. Bags are a fixed partition of a stage, drawn once; batches are made of whole bags, so
that a batch's size is a multiple of k. Left-over items make a smaller bag, which counts by its items and is always
shown last. A learner is given y_a as the target of every item, and what its loss, which should be cross-entropy,
differs from L_rho by is added.

With `privacy` noise of Laplace's law of scale 2 / (k privacy) is added to y_a once; one label moves two of its entries
by 1/k, so that y_a is private to that epsilon for the labels, and it is then brought back to shares, negative ones as
0. The component sees single labels and throws them away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from harness.contracts import param
from harness.errors import Unsuitable
from strategies.components.contract import Component, Need, Task
from strategies.ood_scores import Seen
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.losses.robust import soft_cross_entropy
from strategies.toolkit.training.loop import Batch

Kind = Literal["cross-entropy", "squared"]


def bag_loss(logits: Tensor, shares: Tensor, size: int, kind: Kind) -> Tensor:
    """Return L_bag, bags weighted by their items.

    Args:
        logits: (B, C), bag by bag, `size` items each; those left over are a bag too.
        shares: (B, C) y of the bag of every item.
        size: items of a bag.
        kind: of the loss.
    """
    whole = len(logits) // size * size
    logs, total = logits.log_softmax(dim=1), logits.new_zeros(())
    for own, y in (
        (logs[:whole].view(whole // size, size, logits.shape[1]), shares[:whole:size]),
        (logs[None, whole:], shares[whole : whole + 1]),
    ):
        if own.numel():
            means = own.logsumexp(dim=1) - math.log(own.shape[1])
            lost = -y * means if kind == "cross-entropy" else (y - means.exp()).square()
            total = total + own.shape[1] * lost.sum()
    return total / len(logits)


def instance_loss(logits: Tensor, shares: Tensor, kind: Kind) -> Tensor:
    """Return L_ins of logits (B, C) for the y of the bag of every item (B, C)."""
    if kind == "squared":
        return functional.mse_loss(logits.softmax(dim=1), shares, reduction="sum") / len(logits)
    return soft_cross_entropy(logits, shares).mean()


class Aggregate(Component):
    """Learn from the shares of labels in bags of items."""

    size: int = param(2, "k, items of a bag", ge=1, ablate=[4, 8])
    rho: float = param(0.3, "share of the instances' loss beside the bags'", ge=0, le=1, ablate=[0.0, 1.0])
    kind: Kind = param("cross-entropy", "the loss", ablate=["squared"])
    privacy: float = param(0.0, "epsilon of the noise on a bag's shares; 0 for no noise", ge=0, ablate=[1.0])

    needs: ClassVar[frozenset[Need]] = frozenset({"targets"})
    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({"size": 1})

    def begin(self, task: Task) -> int:
        """Draw the bags and take their shares; no pass over the stage's items.

        Raises:
            Unsuitable: batches are not made of whole bags.
        """
        if self.context.batch_size % self.size:
            raise Unsuitable(
                f"has batches of {self.context.batch_size} in this protocol, which bags of {self.size} of component "
                f"{self.name} do not fill"
            )
        items, labels = len(task.items), task.items.labels
        order = torch.from_numpy(self.stream("bags").permutation(items)).to(labels.device)
        self.bag_of = torch.empty_like(order)
        self.bag_of[order] = torch.arange(items, device=order.device) // self.size
        hard = functional.one_hot(labels, task.stage.named_classes).float()
        bags = -(-items // self.size)
        total = hard.new_zeros(bags, hard.shape[1]).index_add(0, self.bag_of, hard)
        self.shares = self._with_noise(total / total.sum(dim=1, keepdim=True))
        return 0

    def order(self, rows: Tensor) -> Tensor:
        """Return the rows bag by bag, bags as they first come; the smaller one last."""
        bags = self.bag_of[rows]
        first = torch.argsort(bags, stable=True)[:: self.size]
        if len(rows) % self.size:
            first[-1] = len(rows)
        return rows[torch.argsort(first[bags], stable=True)]

    def change(self, network: Classifier, batch: Batch) -> Batch:
        """Return the batch with the shares of its items' bags as targets."""
        return batch._replace(targets=self.shares[self.bag_of[batch.rows]])

    def term(self, network: Classifier, batch: Batch, seen: Seen) -> Tensor | None:
        """Return what L_rho differs by from the cross-entropy to the targets."""
        if self.size == 1 and self.kind == "cross-entropy":
            return None
        shares = self.shares[self.bag_of[batch.rows]]
        logits = seen.logits[: len(shares)].float()
        wanted = (1 - self.rho) * bag_loss(logits, shares, self.size, self.kind)
        wanted = wanted + self.rho * instance_loss(logits, shares, self.kind)
        return wanted - instance_loss(logits, shares, "cross-entropy")

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: every stage has bags of its own."""
        return {}

    def _with_noise(self, shares: Tensor) -> Tensor:
        if not self.privacy:
            return shares
        noise = self.stream("privacy").laplace(scale=2 / (self.size * self.privacy), size=tuple(shares.shape))
        noisy = (shares + torch.from_numpy(noise).to(shares)).clamp_min(0)
        total = noisy.sum(dim=1, keepdim=True)
        return torch.where(total > 0, noisy / total, 1 / shares.shape[1])
