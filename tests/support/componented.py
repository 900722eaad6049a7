"""Small networks with components, in single or double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from fakes import FakeContext, stage_of

from harness.contracts import Stage
from strategies.components.chain import Chain
from strategies.components.contract import PLAIN, Component, Optimiser
from strategies.toolkit.classifier import Classifier


def networked(
    components: str = "",
    backbone: str = "mlp[width=16,depth=2]",
    shape: tuple[int, ...] = (5,),
    *,
    classes: int = 2,
    optimiser: Optimiser = PLAIN,
) -> Classifier:
    """Return a network with a head, from the same start whatever the components."""
    context: Any = FakeContext(backbone=backbone)
    chain = Chain(components, context, "init", optimiser) if components else None
    return Classifier(context, components=chain).grow(stage_like(0, classes, shape))


def stage_like(index: int, named: int, shape: tuple[int, ...] = (5,), items: int = 8) -> Stage:
    """Return a stage of noise in [0, 1], items of this shape, labels in turn."""
    labels = np.arange(items) % named
    inputs = np.random.default_rng(index).random((items, *shape)).astype(np.float32)
    return Stage(
        index=index,
        ids=stage_of(index, labels, named).ids + items * index,
        inputs=inputs,
        labels=labels,
        named_classes=named,
        new_classes=None,
    )


def only(network: Classifier) -> Any:
    """Return the one component of a network."""
    assert isinstance(network.components, Chain)
    (one,) = network.components.parts.values()
    assert isinstance(one, Component)
    return one
