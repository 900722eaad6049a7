"""Pruning a trained quadratic network without further training: the least periodic neurons first, the most
periodic first, or at random.

Where a network knows the rule and remembers wrong labels at once, the rule sits in neurons with a high
inverse participation ratio (IPR) and the memory in the others, so pruning the lowest 70 % un-learns the wrong
labels (Doshi et al. 2024, arXiv 2310.13061). The random order is a control of equal size; the paper has none.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from torch import Tensor

from harness.contracts import FloatArray, IntArray
from harness.errors import UserError
from harness.metrics.grokking import neuron_ipr
from strategies.grokking.optimisers import Weights

First = Literal["low", "high", "random"]
"""Which neurons go first."""


def removal_order(rows: FloatArray, first: First, rng: np.random.Generator) -> IntArray:
    """Return the neurons in order of removal, int64 (N,); equal ratios in order of their numbers.

    Args:
        rows: (3, N, p), rows of U, rows of V, columns of W.
        first: lowest IPR first, highest first, or a permutation drawn from `rng`.
        rng: not touched unless the order is random.

    Raises:
        UserError: no order of that name.
    """
    if first not in get_args(First):
        raise UserError(f"order of pruning should be one of {', '.join(get_args(First))}, got {first!r}")
    if first == "random":
        return rng.permutation(rows.shape[1])
    ratios = neuron_ipr(rows)
    return np.argsort(ratios if first == "low" else -ratios, kind="stable")


def neuron_rows(weights: Weights, network: int) -> FloatArray:
    """Return the rows of U, rows of V and columns of W of one of K stacked quadratic networks, float32 (3, N,
    p).

    weights: U, V, W, each (K, p, N): neurons along the last axis.
    """
    return np.stack([weights[name][network].detach().cpu().float().numpy().T for name in ("U", "V", "W")])


def zero_neurons(weights: Weights, network: int, neurons: IntArray) -> None:
    """Set the weights of `neurons` of one of K stacked quadratic networks to zero, in place. weights: as for
    `neuron_rows`.
    """
    for name in ("U", "V", "W"):
        tensor: Tensor = weights[name]
        tensor[network, :, neurons] = 0


def prune(weights: Weights, network: int, share: float, first: First, rng: np.random.Generator) -> IntArray:
    """Zero a share of one network's neurons in place, rounded to whole neurons; return which, int64, in order
    of removal.
    """
    order = removal_order(neuron_rows(weights, network), first, rng)
    gone = order[: round(share * len(order))]
    zero_neurons(weights, network, gone)
    return gone


__all__ = ["First", "neuron_rows", "prune", "removal_order", "zero_neurons"]
