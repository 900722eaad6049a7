"""Inputs as tensors: a stage that fits in memory is converted once and then only indexed, without a
DataLoader.

A larger one is read as it is needed (`strategies.toolkit.training.lazy_tensor`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.contracts import AnyArray, Context, Inputs, Stage
from strategies.toolkit.training.lazy_tensor import FromInputs, Held, Source, Stored, is_large, numbers


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
    """Return all inputs as float32 on `device`; uint8 images are scaled to [0, 1].

    Bytes and loaders that would take more than 256 MiB as floats are read when they are used. Bytes of an
    array are moved to the device.
    """
    array = inputs if isinstance(inputs, np.ndarray) else None
    if not is_large(len(inputs), inputs.shape[1:]) or (array is not None and array.dtype != np.uint8):
        return numbers(torch.from_numpy(np.asarray(inputs[np.arange(len(inputs))])), device)
    source: Source = FromInputs(inputs)
    if array is not None and torch.device(device).type != "cpu":
        source = Held(torch.from_numpy(array.copy()).to(device))
    return Stored(source, torch.arange(len(inputs)), inputs.shape[1:], device)


def as_array(values: Tensor) -> AnyArray:
    """Return numbers of a tensor as a float32 array of their own."""
    array: AnyArray = values.detach().to("cpu", torch.float32, copy=True).numpy()
    return array


def items_of(stage: Stage, context: Context) -> Items:
    """Return the stage as tensors on the context's device."""
    return Items(as_tensor(stage.inputs, context.device), torch.tensor(stage.labels, device=context.device))
