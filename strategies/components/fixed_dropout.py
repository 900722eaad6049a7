"""Dropout of one rate in every hidden layer (Srivastava et al. 2014): the control beside `self-tuning`, which finds
the rate while training.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.contracts import param
from harness.errors import Unsuitable
from strategies.components.contract import Component
from strategies.components.modules import layers_of
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch


class FixedDropout(Component):
    """Leave units out at random, of what every layer but the first is given."""

    rate: float = param(0.5, "share of the units left out", ge=0, lt=1, ablate=[0.1, 0.3, 0.6])

    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({"rate": 0.0})

    def network(self, network: Classifier, part: nn.Module) -> None:
        """Put dropout before the layers of a backbone but the first, and behind all of them.

        Raises:
            Unsuitable: it has no layer.
        """
        if part is network.head:
            return
        layers = layers_of(part)
        if not layers:
            raise Unsuitable(f"has no hidden layer, of which component {self.name} leaves units out")
        self.draws = torch.Generator(self.context.device)
        for layer in layers[1:]:
            layer.register_forward_pre_hook(
                lambda own, given: (self._dropped(given[0], own.training), *given[1:])
            )
        part.register_forward_hook(lambda own, _, out: self._dropped(out, own.training))

    def change(self, network: Classifier, batch: Batch) -> Batch:
        """Return the batch as it is; the draws of its step begin."""
        self.draws.manual_seed(int(self.stream(f"units-{batch.step}").integers(2**62)))
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: every stage has draws of its own."""
        return {}

    def _dropped(self, units: Tensor, training: bool) -> Tensor:
        if not training or not self.rate:
            return units
        kept = torch.rand(units.shape, generator=self.draws, device=units.device) >= self.rate
        return units * kept / (1 - self.rate)
