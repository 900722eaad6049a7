"""Iterative soft shrinkage: after every step the smallest weights of a layer are multiplied by a number below one
(Wang et al. 2023, ISS-P, arXiv 2303.09650; released code at 37e1e9f).

S, the floor(share n) weights of smallest |w|, is chosen anew each time, so that what grows out of it is free again; w_S
becomes rho w_S, and the momentum stays. A weight leaves S only if it is pushed the same way for about 1 / (1 - rho)
steps. rho = 0 is iterative hard thresholding, share = 1 decoupled weight decay. Weights of linear and convolutional
layers, the head's where asked for; of parametrised layers what is trained. Followed is the released code, without its
counters, which say how long shrinking lasts, and without N:M patterns. Sparsity is a limit here, and saves no time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from harness.contracts import param
from strategies.components.contract import Component
from strategies.components.modules import layers_of, trained
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch


def smallest(weights: Tensor, count: int) -> Tensor:
    """Return which `count` entries are smallest by size, bool of the weights' shape; of equal ones the first."""
    if not count:
        return torch.zeros_like(weights, dtype=torch.bool)
    sizes = weights.detach().abs().flatten()
    bound = sizes.kthvalue(count).values
    below, equal = sizes < bound, sizes == bound
    return (below | (equal & (equal.cumsum(0) <= count - below.sum()))).view_as(weights)


class Shrink(Component):
    """Multiply the smallest weights of every layer by a number below one after every step."""

    share: float = param(
        0.9, "share of a layer's weights that shrink", ge=0, le=1, ablate=[0.5, 0.95, 0.99, 1.0]
    )
    rho: float = param(0.95, "what they are multiplied by", ge=0, le=1, ablate=[0.0])
    phase: float = param(1.0, "share of a stage in which they shrink", gt=0, le=1, ablate=[0.8])
    then: Literal["mask", "keep"] = param(
        "mask", "behind it: the smallest weights stay zero, or all weights are free", ablate=["keep"]
    )
    head: bool = param(
        False, "whether the head's shrink too, of which rows of new classes are small", ablate=[True]
    )

    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({"rho": 1.0})

    def step(
        self, network: Classifier, batch: Batch, loss: Callable[[], Tensor]
    ) -> Callable[[], None] | None:
        """Return what shrinks the weights behind the step, or masks them."""
        weights = [trained(layer) for layer in layers_of(network if self.head else network.backbone)]
        counts = [int(self.share * each.numel()) for each in weights]
        shrinking = batch.done < self.phase
        ends = shrinking and self.phase < 1 and (batch.step + 1) / batch.steps >= self.phase

        @torch.no_grad()
        def shrink() -> None:
            if shrinking:
                for each, count in zip(weights, counts, strict=True):
                    each.mul_(torch.where(smallest(each, count), self.rho, 1.0))
            if self.then == "keep":
                return
            if ends:
                self.masks = [~smallest(each, count) for each, count in zip(weights, counts, strict=True)]
            if ends or not shrinking:
                for each, mask in zip(weights, self.masks, strict=True):
                    each.mul_(mask)

        return shrink

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: every stage begins without a mask."""
        return {}
