"""Inputs as tensors: a stage that fits in memory is converted once and then only indexed, without a DataLoader."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.contracts import Context, Inputs, Stage


class Items(NamedTuple):
    """A stage as tensors: inputs float32 (N, ...), labels int64 (N,), both on the context's device."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:  # a NamedTuple would answer 2
        return len(self.labels)

    @classmethod
    def all_of(cls, parts: Iterable[Iterable[Tensor]]) -> Items:
        """Return the items of all parts, each inputs and labels, one after another."""
        inputs, labels = zip(*parts, strict=True)
        return cls(torch.cat(inputs), torch.cat(labels))

    def joined_with(self, other: Items) -> Items:
        """Return the items of both, these first."""
        return Items(torch.cat([self.inputs, other.inputs]), torch.cat([self.labels, other.labels]))


def as_tensor(inputs: Inputs, device: str) -> Tensor:
    """Return all inputs as float32 on `device`; uint8 images are scaled to [0, 1]."""
    array = np.asarray(inputs[np.arange(len(inputs))])
    tensor = torch.from_numpy(array).to(device)
    return tensor.float().div_(255) if tensor.dtype == torch.uint8 else tensor.float()


def items_of(stage: Stage, context: Context) -> Items:
    """Return the stage as tensors on the context's device."""
    return Items(as_tensor(stage.inputs, context.device), torch.tensor(stage.labels, device=context.device))
