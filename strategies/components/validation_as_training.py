"""The validation split as further training items: the control beside components that learn from it in another way
(`self-tuning`, `hyper-clean`), whose gain may be what these labels are worth by themselves.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from harness.errors import Unsuitable
from strategies.components.chain import chain_of
from strategies.components.contract import Component, Need, Task
from strategies.toolkit.training.tensors import Items, as_tensor


class ValidationAsTraining(Component):
    """Train on the validation items too; passes are as many, and longer by these items."""

    needs: ClassVar[frozenset[Need]] = frozenset({"validation"})

    def begin(self, task: Task) -> int:
        """Add the items to those of the stage.

        Raises:
            Unsuitable: another component counts the stage's items before training.
        """
        chain, held = chain_of(task.network), task.stage.validation
        assert chain is not None
        assert held is not None
        others = [one.name for one in chain.with_hook("begin") if one is not self]
        if others:
            raise Unsuitable(f"adds items by component {self.name}, which {others[0]} would not know of")
        labels = torch.tensor(held.labels, device=self.context.device)
        task.items = task.items.joined_with(Items(as_tensor(held.inputs, self.context.device), labels))
        return 0
