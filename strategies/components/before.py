"""Components that train before the learner does, on passes taken from the learner's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from harness.contracts import param
from harness.errors import Unsuitable
from strategies.components.contract import Component, Task
from strategies.components.unheard import unheard
from strategies.toolkit.training.loop import Augment, Batch, train

Stages = Literal["first", "all"]


class Before(Component):
    """A component that takes passes before the learner trains."""

    extra: bool = param(
        False, "whether its passes come on top of the learner's, and are not taken from them", ablate=[True]
    )

    def passes(self, task: Task, share: float, networks: int = 1) -> tuple[int, int]:
        """Return the passes of each network for a share of the learner's, and how many the learner trains less.

        Raises:
            Unsuitable: no pass would be left for the learner, or the protocol counts gradient steps.
        """
        if not task.passes:
            raise Unsuitable(f"counts steps in this protocol, and component {self.name} takes passes")
        each = max(1, round(share * task.passes)) if share else 0
        spent = 0 if self.extra else networks * each
        if spent >= task.passes:
            raise Unsuitable(
                f"is left no pass to learn in: component {self.name} takes {spent} of {task.passes}"
            )
        return each, spent

    def train(
        self,
        parts: Sequence[nn.Module],
        task: Task,
        loss: Callable[[Batch], Tensor],
        passes: int,
        *,
        lr: float,
        augment: Augment | None = None,
    ) -> None:
        """Train parts of a network by AdamW without decay on the inputs of a stage.

        Args:
            parts: whose weights move.
            task: the stage.
            loss: scalar loss of a batch.
            passes: over the stage's items.
            lr: constant learning rate.
            augment: the augmentation of the inputs, or None for as they are.
        """
        whole = nn.ModuleList(parts)
        optimiser = torch.optim.AdamW(whole.parameters(), lr=lr, weight_decay=0.0, fused=True)
        train(whole, task.items, loss, optimiser, unheard(self.context), augment=augment, epochs=passes)
        optimiser.zero_grad()
