"""A weight for every item, learned so that what is trained with them does well on the validation split (Hao, Gong and
Liu 2024, Bilevel Optimization under Unbounded Smoothness, BO-REP; released code at 1b06bcf).

Upper: f = mean cross-entropy of validation items at the weights y. Lower: g = mean_i sigmoid(x_i) CE_i + c |y|^2. The
learner's own steps are the lower steps, with items weighted by sigmoid(x_i) over the batch's mean. Every few of them

    z <- z - nu (d2_yy g z - d_y f),   h_i = -(1/B) sigmoid'(x_i) <d_y CE_i, z> for the batch's items,
    m <- beta m + (1 - beta) h,        x <- x - eta sqrt(N) m / |m|,

z for H^-1 d_y f, so that no Hessian is inverted. Steps are scaled with sqrt(N), N the stage's items, so that an item's
share of one does not fall with N. `form=released` is what the released loop does instead: the upper loss is that of the
training batch, the regulariser c |y|, and gradients are added up over ten lower steps. Its labels, flipped anew at
every access, belong to the data, and are not built. CE is cross-entropy whatever the learner's own loss.

What it thinks of a label is x: suspicion is -x, and kept are labels whose sigmoid(x) is above half of its median.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from harness.contracts import param
from strategies.components.contract import Component, Need, Task
from strategies.components.held import Held
from strategies.toolkit.augmentations import generator_of
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.losses.robust import cross_entropy
from strategies.toolkit.training.eval_mode import eval_mode
from strategies.toolkit.training.loop import Batch

_START = 1.0
"""x of every item."""
_ADDED_UP = 10
"""Lower steps over which the released loop adds up gradients."""


def refined(
    losses: Tensor,
    weights: Sequence[Tensor],
    x: Tensor,
    z: Sequence[Tensor],
    upper: Sequence[Tensor],
    *,
    nu: float,
    decay: float,
    squared: bool = True,
) -> tuple[list[Tensor], Tensor]:
    """Return z after its step, and with it the hypergradient h of the batch's items (B,).

    Args:
        losses: CE (B,) at the weights, with its graph.
        weights: y, tensors.
        x: (B,) of the items.
        z: one for every weight.
        upper: d_y f, one for every weight.
        nu: rate of z.
        decay: c.
        squared: whether the regulariser is c |y|^2, or c |y|.
    """
    x = x.detach().requires_grad_()
    size: Tensor = sum((each.square().sum() for each in weights), start=losses.new_zeros(()))
    lower = (torch.sigmoid(x) * losses).mean() + decay * (size if squared else size.sqrt())
    slopes = _slopes(lower, weights, again=True, graph=True)
    curved = _slopes(_product(slopes, z), weights, again=True)
    z = [each - nu * (bent - pull) for each, bent, pull in zip(z, curved, upper, strict=True)]
    (mixed,) = torch.autograd.grad(_product(slopes, z), x)
    return z, -mixed


def _product(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    return torch.stack([(one * other).sum() for one, other in zip(first, second, strict=True)]).sum()


def _slopes(
    loss: Tensor, weights: Sequence[Tensor], *, again: bool = False, graph: bool = False
) -> tuple[Tensor, ...]:
    """Return the gradient of a loss, zero for weights that had no part in it; with a graph of its own, or leaving that
    of the loss for use again.
    """
    found: tuple[Tensor, ...] = torch.autograd.grad(
        loss, weights, retain_graph=again, create_graph=graph, allow_unused=True, materialize_grads=True
    )
    return found


class HyperClean(Component):
    """Learn a weight for every item by the validation split."""

    eta: float = param(
        0.15, "step of the items' weights, times sqrt(items) (published 0.05, not scaled)", ge=0
    )
    nu: float = param(0.01, "rate of z, which stands for the inverse Hessian", gt=0)
    beta: float = param(0.9, "share of the old direction that is kept", ge=0, lt=1)
    every: int = param(2, "training steps between two of the items' weights", ge=1, ablate=[1, 4])
    decay: float = param(1e-4, "c, of the squared length of the weights", ge=0)
    first: int = param(10, "training steps before the first of the items' weights", ge=0)
    form: Literal["paper", "released"] = param(
        "paper", "the paper's loop, or the released one", ablate=["released"]
    )

    needs: ClassVar[frozenset[Need]] = frozenset({"validation", "targets"})
    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({"eta": 0.0})

    x: Tensor
    """(N,) of the stage's items; sigmoid(x) is an item's weight."""
    earlier: Tensor
    """x of the items of earlier stages."""

    def begin(self, task: Task) -> int:
        """Take the validation items; every stage's items and weights begin anew. No pass over the stage's."""
        self.held = Held.of(task.stage, self.context)
        self.draws = generator_of(self.context, f"{self.stream_name}-draws")
        device = task.items.labels.device
        self.earlier = (
            torch.cat([self.earlier, self.x]) if hasattr(self, "x") else torch.zeros(0, device=device)
        )
        self.x = torch.full((len(task.items),), _START, device=device)
        self.m = torch.zeros_like(self.x)
        self.z = [torch.zeros_like(each) for each in _weights_of(task.network)]
        self.added = [torch.zeros_like(each) for each in self.z] if self.form == "released" else []
        return 0

    def change(self, network: Classifier, batch: Batch) -> Batch:
        """Return the batch with the weights of its items."""
        own = torch.sigmoid(self.x[batch.rows])
        own = own / own.mean()
        return batch._replace(weights=own if batch.weights is None else batch.weights * own)

    def step(
        self, network: Classifier, batch: Batch, loss: Callable[[], Tensor]
    ) -> Callable[[], None] | None:
        """Let the items' weights take a step behind the learner's where it is their turn."""
        if self.form == "released":
            self._add_up(network, batch.step)
        behind = batch.step + 1
        due = bool(self.eta) and behind >= self.first and behind % self.every == 0
        return (lambda: self._outer(network, batch)) if due else None

    def judge(self, rows: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return -x, and whether sigmoid(x) is above half of its median; None where x stands still."""
        if not self.eta:
            return None
        x = torch.cat([self.earlier, self.x]).cpu()
        own = torch.sigmoid(x)
        return -x[rows], own[rows] > own.median() / 2

    def state_dict(self) -> dict[str, Any]:
        """Return x of all stages, by which labels are judged."""
        return {"x": self.x, "earlier": self.earlier} if hasattr(self, "x") else {}

    def _outer(self, network: Classifier, batch: Batch) -> None:
        weights = _weights_of(network)
        losses = cross_entropy(network(batch.inputs).float(), batch.labels)
        upper = losses.mean() if self.form == "released" else self._held_loss(network, len(batch.labels))
        slopes = _slopes(upper, weights, again=self.form == "released")
        self.z, h = refined(
            losses,
            weights,
            self.x[batch.rows],
            self.z,
            slopes,
            nu=self.nu,
            decay=self.decay,
            squared=self.form == "paper",
        )
        self.m *= self.beta
        self.m[batch.rows] += (1 - self.beta) * h
        length = torch.linalg.vector_norm(self.m)
        self.x -= self.eta * len(self.x) ** 0.5 * self.m / length.clamp_min(1e-12)

    def _held_loss(self, network: Classifier, size: int) -> Tensor:
        inputs, labels = self.held.some(self.draws, size)
        with eval_mode(network), torch.enable_grad():
            return cross_entropy(network(inputs).float(), labels).mean()

    def _add_up(self, network: Classifier, step: int) -> None:
        for own, total in zip(_weights_of(network), self.added, strict=True):
            if step % _ADDED_UP == 0:
                total.zero_()
            if own.grad is not None:
                total += own.grad
                own.grad.copy_(total)


def _weights_of(network: Classifier) -> list[nn.Parameter]:
    return [weights for weights in network.parameters() if weights.requires_grad]
