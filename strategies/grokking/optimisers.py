"""Optimisers of K stacked networks, each with its own learning rate and weight decay: AdamW, SGD, Muon.

Weights and gradients are tensors (K, ...) by name; `step` changes the weights in place and no network looks
at another. Values are those of torch.optim, one network at a time: Loshchilov and Hutter 2019 (AdamW), Keller
Jordan 2024 (Muon).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""a, b, c of X <- a X + (b A + c A^2) X with A = X X^T; five times bring singular values from a hundredth to
1 near 1.
"""


class Optimiser(Protocol):
    """What the engine steps with."""

    def step(self, weights: Weights, gradients: Weights) -> None:
        """Move the weights against the gradients, in place."""
        ...


class AdamW:
    """Adam with decoupled decay: w <- (1 - lr wd) w - lr m / (sqrt(v) + eps), moments corrected for their
    start at zero.

    Runs in torch's fused kernel, one call for all networks that share a learning rate; the decay is one
    multiplication before it.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        lr: Tensor,
        weight_decay: Tensor,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
    ) -> None:
        """Start with empty moments.

        Args:
            weights: contiguous tensors (K, ...) by name.
            lr, weight_decay: float64 (K,); a rate in float32 is that of float32.
            betas: decay of the two moments.
            eps: added to the root of the second moment; 1e-8 freezes a network whose gradients have become
                smaller than that.
        """
        assert all(tensor.is_contiguous() for tensor in weights.values()), (
            "the fused kernel reads memory as it lies"
        )
        self.betas, self.eps = betas, eps
        self.moments = {
            name: (torch.zeros_like(tensor), torch.zeros_like(tensor)) for name, tensor in weights.items()
        }
        self.steps = torch.zeros((), device=next(iter(weights.values())).device)
        self.kept = kept(weights, lr, weight_decay)
        rates = lr.tolist()
        self.members = {rate: [k for k, other in enumerate(rates) if other == rate] for rate in rates}

    def step(self, weights: Weights, gradients: Weights) -> None:
        """Move the weights against the gradients, in place."""
        self.steps += 1
        decay(weights, self.kept)
        for lr, members in self.members.items():
            self._step(weights, gradients, lr, members if len(self.members) > 1 else None)

    def _step(self, weights: Weights, gradients: Weights, lr: float, members: list[int] | None) -> None:
        """Step the networks in `members`, or all at once."""
        # a gradient that came through a transpose lies in another order, which the fused kernel does not look
        # at
        columns = zip(
            *(
                (tensor, gradients[name].contiguous(), *self.moments[name])
                for name, tensor in weights.items()
            ),
            strict=True,
        )
        ours, theirs, first, second = (
            list(column) if members is None else [tensor[k] for tensor in column for k in members]
            for column in columns
        )
        torch._fused_adamw_(
            ours,
            theirs,
            first,
            second,
            [],
            [self.steps] * len(ours),
            lr=lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=0.0,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )


class SGD:
    """Gradient steps with momentum: b <- momentum b + g, w <- w - lr b, where g holds wd w, as in
    torch.optim.
    """

    def __init__(self, weights: Weights, *, lr: Tensor, weight_decay: Tensor, momentum: float = 0.0) -> None:
        """Start at rest. weights: tensors (K, ...) by name.  lr, weight_decay: (K,).  momentum: share of a
        step that is kept.
        """
        self.lr, self.weight_decay, self.momentum = (
            spread(lr, weights),
            spread(weight_decay, weights),
            momentum,
        )
        self.velocities = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}

    def step(self, weights: Weights, gradients: Weights) -> None:
        """Move the weights against the gradients, in place."""
        for name, tensor in weights.items():
            gradient = torch.addcmul(gradients[name], tensor, self.weight_decay[name])
            velocity = self.velocities[name].mul_(self.momentum).add_(gradient)
            tensor.addcmul_(velocity, self.lr[name], value=-1)


class Muon:
    """Momentum whose matrix is replaced by its nearest orthogonal one, roughly: five Newton-Schulz
    iterations. Decay is decoupled.

    Follows torch.optim.Muon, but iterates in the format of the weights where that takes bfloat16. Only
    matrices (K, a, b) have an orthogonal factor; all other tensors go to AdamW with the same rates, as usual.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        lr: Tensor,
        weight_decay: Tensor,
        momentum: float = 0.95,
        nesterov: bool = True,
        matched: bool = False,
    ) -> None:
        """Start with an empty average.

        Args:
            weights: tensors (K, ...) by name.
            lr, weight_decay: (K,).
            momentum: decay of the averaged gradient.
            nesterov: look ahead, averaging the gradient in once more.
            matched: scale steps by 0.2 sqrt(max(a, b)) to the size of AdamW's (Moonshot 2025), in place of
                sqrt(max(1, a / b)).
        """
        self.momentum, self.nesterov, self.matched = momentum, nesterov, matched
        matrices = {name: tensor for name, tensor in weights.items() if tensor.ndim == 3}
        self.averages = {name: torch.zeros_like(tensor) for name, tensor in matrices.items()}
        self.lr, self.kept = spread(lr, matrices), kept(matrices, lr, weight_decay)
        others = {name: tensor for name, tensor in weights.items() if tensor.ndim != 3}
        self.others = AdamW(others, lr=lr, weight_decay=weight_decay) if others else None

    def step(self, weights: Weights, gradients: Weights) -> None:
        """Move the weights against the gradients, in place."""
        decay(weights, self.kept)
        for name, average in self.averages.items():
            gradient, tensor = gradients[name], weights[name]
            average.lerp_(gradient, 1 - self.momentum)
            update = orthogonal(gradient.lerp(average, self.momentum) if self.nesterov else average)
            tensor.addcmul_(update, self.lr[name], value=-self._scale(*tensor.shape[1:]))
        if self.others:
            self.others.step({name: weights[name] for name in self.others.moments}, gradients)

    def _scale(self, rows: int, columns: int) -> float:
        return 0.2 * math.sqrt(max(rows, columns)) if self.matched else math.sqrt(max(1, rows / columns))


def orthogonal(matrices: Tensor, *, iterations: int = 5) -> Tensor:
    """Return about U V^T for every matrix U S V^T, (K, a, b): singular values near 1, by Newton-Schulz from
    Frobenius norm 1.
    """
    a, b, c = NEWTON_SCHULZ
    wide = matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices
    x: Tensor = wide / torch.linalg.matrix_norm(wide, keepdim=True).clamp_min(1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide is matrices else x.transpose(-2, -1)


def kept(weights: Weights, lr: Tensor, weight_decay: Tensor) -> dict[str, Tensor]:
    """Return 1 - lr wd by name, what decoupled decay leaves of the weights (K, ...) of every network; nothing
    where none decays.
    """
    return spread(1 - lr.double() * weight_decay.double(), weights) if weight_decay.any() else {}


def decay(weights: Weights, factors: Weights) -> None:
    """Multiply the weights that have a factor by it, in place."""
    if factors:
        torch._foreach_mul_([weights[name] for name in factors], list(factors.values()))


def spread(values: Tensor, weights: Weights) -> dict[str, Tensor]:
    """Return one value per network (K,) for every tensor, in a shape and dtype to multiply it with."""
    return {name: along(values, tensor) for name, tensor in weights.items()}


def along(values: Tensor, tensor: Tensor) -> Tensor:
    """Return one value per network (K,) in a shape and dtype to multiply `tensor` (K, ...) with."""
    return values.to(tensor).view(-1, *[1] * (tensor.ndim - 1))


__all__ = [
    "NEWTON_SCHULZ",
    "SGD",
    "AdamW",
    "Muon",
    "Optimiser",
    "Weights",
    "along",
    "decay",
    "kept",
    "orthogonal",
    "spread",
]
