"""The training loss of a network as a function of its weights, for probes of curvature."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from strategies.toolkit.training.eval_mode import eval_mode


class LossSurface:
    """Cross-entropy of a network that gives logits, around its weights as they are; see `harness.contracts.Surface`."""

    name = "cross-entropy"

    def __init__(self, network: nn.Module, inputs: Tensor, labels: Tensor) -> None:
        """Take items (N, ...) and their labels (N,); nothing is known of the gradient steps."""
        self.network, self.inputs, self.labels = network, inputs, labels
        self.rate = self.momentum = math.nan

    def stepped(self, *, rate: float, momentum: float) -> Self:
        """Take the rate and the momentum of gradient descent; return the surface."""
        self.rate, self.momentum = rate, momentum
        return self

    def parameters(self) -> list[Tensor]:
        """Return the weights that are trained."""
        return [weights for weights in self.network.parameters() if weights.requires_grad]

    def loss(self, rows: slice) -> Tensor:
        """Return the mean loss of the items in `rows`, a scalar with its graph."""
        with eval_mode(self.network), torch.enable_grad():
            logits: Tensor = self.network(self.inputs[rows])
            return cross_entropy(logits.float(), self.labels[rows])


__all__ = ["LossSurface"]
