"""The validation split of a stage, as components ask it in the middle of training."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from harness.contracts import Context, Stage
from strategies.toolkit.training.tensors import as_tensor


class Held(NamedTuple):
    """Validation items: inputs float32 (V, ...), labels int64 (V,), both on the context's device."""

    inputs: Tensor
    labels: Tensor

    @classmethod
    def of(cls, stage: Stage, context: Context) -> Held:
        """Return those of a stage that has some."""
        held = stage.validation
        assert held is not None, "a component that needs validation items is not begun without"
        return cls(as_tensor(held.inputs, context.device), torch.tensor(held.labels, device=context.device))

    def some(self, draws: Generator, size: int) -> tuple[Tensor, Tensor]:
        """Return inputs and labels of `size` of them, drawn without repetition; of all where there are fewer."""
        rows = torch.randperm(len(self.labels), generator=draws, device=draws.device)[:size]
        return self.inputs[rows], self.labels[rows]
