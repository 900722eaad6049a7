"""What the engine asks of a network: K of them are stacked, so that one computation trains all, each with
weights and rows of its own.

Inputs are pairs of residues, or tokens: whole numbers that address rows of a table. So a first layer is a
lookup and a sum; the product with one-hot vectors, two thirds of the work of the usual code, does not exist.

Legend: K networks, n rows, C classes. Weights are named and have shape (K, ...).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from strategies.grokking.dropout import Dropout
from strategies.grokking.losses import Bits, Loss, losses_and_gradient

Weights = dict[str, Tensor]
"""By name, each (K, ...)."""


class Seen(NamedTuple):
    """features: (K, n, d) below the last layer.  head: (K, C, d), its rows; bias: (K, C), or None. The logits are
    features times head, plus bias.
    """

    features: Tensor
    head: Tensor
    bias: Tensor | None = None


class Slope(NamedTuple):
    """losses: (K,), the mean over the rows.  gradients: by name, each (K, ...), of these means; overwritten
    by the next call.
    """

    losses: Tensor
    gradients: Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The loss of a row and the bits its softmax is computed in."""

    loss: Loss = "mse"
    bits: Bits = 32


class Network(ABC):
    """A network of one shape; weights are handed in at every call, for as many networks as there are."""

    classes: int
    tokens: int = 2
    """How many whole numbers of an item it looks up."""

    vocabulary: int
    """These numbers lie in [0, vocabulary)."""

    drops: ClassVar[bool] = False
    """Whether it can leave hidden units out."""

    statistics: ClassVar[tuple[str, ...]] = ()
    """The weights that no gradient trains, such as running means."""

    @abstractmethod
    def initial(self, rng: np.random.Generator) -> Weights:
        """Return fresh weights of one network, float32 (1, ...), drawn from `rng`."""

    @abstractmethod
    def forward(self, weights: Weights, items: Tensor) -> Tensor:
        """Return logits (K, n, C) in evaluation mode of items int64 (K, n, tokens)."""

    def observed(self, weights: Weights, items: Tensor) -> Seen | None:
        """Return what the last layer sees in evaluation mode of items int64 (K, n, tokens), and that layer; None where
        it shows nothing to probes.
        """
        return None

    def trained(self, weights: Weights) -> Weights:
        """Return the weights that gradients train."""
        return {name: values for name, values in weights.items() if name not in self.statistics}

    def batch(self, items: Tensor, labels: Tensor) -> Any:
        """Return what `slope` needs of a batch, items int64 (K, n, tokens) and labels int64 (K, n), and that
        can be used again.
        """
        return items, labels

    def slope(
        self, weights: Weights, batch: Any, objective: Objective, dropout: Dropout | None = None
    ) -> Slope:
        """Return losses and gradients in training mode; here by automatic differentiation of `forward`."""
        assert dropout is None, "dropout needs a slope of the network's own"
        items, labels = batch
        leaves = {name: values.detach().requires_grad_() for name, values in weights.items()}
        with torch.enable_grad():
            logits = self.forward(leaves, items)
        losses, gradient = losses_and_gradient(
            logits.detach(), labels, loss=objective.loss, precision=objective.bits
        )
        found = torch.autograd.grad(logits, list(leaves.values()), gradient)
        return Slope(losses.mean(dim=1), dict(zip(leaves, found, strict=True)))


def stacked(each: list[Weights]) -> Weights:
    """Return the weights of several networks as one stack."""
    return {name: torch.cat([weights[name] for weights in each]) for name in each[0]}


def place(weights: Mapping[str, Tensor], index: int) -> Weights:
    """Return the weights of the network at `index`, (1, ...), in the memory of the stack."""
    return {name: values[index : index + 1] for name, values in weights.items()}


def normal(rng: np.random.Generator, deviation: float, *shape: int) -> Tensor:
    """Return normal numbers, float32."""
    return torch.from_numpy(rng.normal(0.0, deviation, shape).astype(np.float32))


def uniform(rng: np.random.Generator, reach: float, *shape: int) -> Tensor:
    """Return numbers between -reach and reach, float32."""
    return torch.from_numpy(rng.uniform(-reach, reach, shape).astype(np.float32))


__all__ = ["Network", "Objective", "Seen", "Slope", "Weights", "normal", "place", "stacked", "uniform"]
