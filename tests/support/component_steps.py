"""Components on a learner from labels, hook by hook."""

from __future__ import annotations

from typing import Any

from fakes import FakeContext

from harness.contracts import Stage
from harness.selection import configured
from strategies.components.contract import Task
from strategies.toolkit.training.tensors import items_of


def learner_with(components: str, **context: Any) -> Any:
    """Return a cross-entropy learner with components, before its first stage; four passes, two hidden layers."""
    learner = configured(
        "strategy", f"cross-entropy[components={components}]" if components else "cross-entropy"
    )
    learner.start(FakeContext(**{"epochs": 4, "backbone": "mlp[width=16,depth=2]", **context}))
    return learner


def begun(learner: Any, stage: Stage, *, which: str = "", teacher: Any = None) -> tuple[Any, Any]:
    """Return a component of a learner at the beginning of a stage, and its network.

    which: its name, where there are several.  teacher: what gives a teacher, for a component that asks for one.
    """
    network = learner.models[0].grow(stage)
    parts = network.components.parts
    one = parts[which or next(iter(parts))]
    one.passes_taken = one.begin(task_of(learner, stage, teacher=teacher))
    return one, network


def task_of(learner: Any, stage: Stage, *, teacher: Any = None) -> Task:
    """Return what components are given at the beginning of a stage, for which the network has been grown."""
    context, network = learner.context, learner.models[0]
    items = items_of(stage, context)
    return Task(stage=stage, items=items, network=network, passes=context.epochs, teacher=teacher)
