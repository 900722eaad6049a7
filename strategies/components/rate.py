"""Another learning rate: the control beside components that speed training up or slow it down."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from torch import nn

from harness.contracts import param
from strategies.components.contract import Component, Rate
from strategies.toolkit.classifier import Classifier


class RateMatched(Component):
    """Multiply the learner's rate, and nothing else: what changes training may only change its speed."""

    factor: float = param(0.25, "on the learning rate of every weight", gt=0, ablate=[0.5, 2.0, 4.0])

    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({"factor": 1.0})

    def rates(self, network: Classifier) -> Mapping[nn.Parameter, Rate]:
        """Return the factor for every weight."""
        return {weights: Rate(lr=self.factor) for weights in network.parameters()}
