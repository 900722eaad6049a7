"""Inputs that are too many to be floats all at once: they stay where they lie, as bytes, and become numbers a
few rows at a time.

A learner handles them like the tensor they stand for. What picks rows picks the numbers of rows; whatever
else is done reads the rows, moves them to the device and converts them there, and then is done to the result.
So every learner works with any number of items, and answers the same bytes as with all of them in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from harness.contracts import Inputs

AT_ONCE = 2**28
"""Bytes that items may take as float32 to be kept as such."""


def numbers(raw: Tensor, device: torch.device | str) -> Tensor:
    """Return items as float32 on `device`, where they are converted; bytes are scaled to [0, 1]."""
    there = raw.to(device, non_blocking=True)
    return there.float().div_(255) if there.dtype == torch.uint8 else there.float()


def is_large(items: int, item_shape: Sequence[int]) -> bool:
    """Return whether so many items are too large to be kept as float32."""
    return 4 * items * math.prod(item_shape) > AT_ONCE


class Source(Protocol):
    """Where items lie."""

    @property
    def in_memory(self) -> bool:
        """Whether fetching items takes no time worth hiding."""
        ...

    def raw(self, rows: Tensor) -> Tensor:
        """Return the items at int64 `rows` (B,) as they are kept. Safe to call from several threads."""
        ...


class FromInputs:
    """Items of an array or a loader."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs, self.in_memory = inputs, isinstance(inputs, np.ndarray)

    def raw(self, rows: Tensor) -> Tensor:
        """Return items in memory of their own."""
        return torch.from_numpy(np.asarray(self.inputs[rows.numpy()]))


@dataclass(frozen=True)
class Held:
    """Items that a device holds."""

    tensor: Tensor
    in_memory: bool = True

    def raw(self, rows: Tensor) -> Tensor:
        """Return items on the device."""
        return self.tensor[rows.to(self.tensor.device)]


class Joined:
    """Items of several sources, one after another."""

    def __init__(self, parts: Sequence[tuple[Source, Tensor]]) -> None:
        self.parts, self.in_memory = parts, all(source.in_memory for source, _ in parts)

    def raw(self, rows: Tensor) -> Tensor:
        """Return items as they are kept; where one part keeps bytes and another floats, all as floats on the
        CPU.
        """
        pieces, places, start = [], [], 0
        for source, own in self.parts:
            (inside,) = ((rows >= start) & (rows < start + len(own))).nonzero(as_tuple=True)
            pieces.append(source.raw(own[rows[inside] - start]))
            places.append(inside)
            start += len(own)
        if len({(piece.dtype, piece.device) for piece in pieces}) > 1:
            pieces = [numbers(piece, "cpu") for piece in pieces]
        whole = torch.cat(pieces)
        return whole[torch.cat(places).argsort().to(whole.device)]


class Stored(Tensor):
    """Stands for float32 (N, ...) on a device, of which nothing is there yet. Made by `as_tensor`, used as
    any tensor.
    """

    source: Source
    rows: Tensor

    @staticmethod
    def __new__(
        cls, source: Source, rows: Tensor, item_shape: Sequence[int], device: torch.device | str
    ) -> Stored:
        """Return the items of `source` at int64 `rows` (N,), each of `item_shape`."""
        shape = (len(rows), *item_shape)
        stored: Stored = Tensor._make_wrapper_subclass(
            cls, shape, dtype=torch.float32, device=torch.device(device)
        )
        stored.source, stored.rows = source, rows
        return stored

    def raw(self, index: Tensor) -> Tensor:
        """Return the items at int64 `index` (B,) on the CPU as they are kept."""
        return self.source.raw(self.rows[index])

    def loaded(self) -> Tensor:
        """Return all items as numbers on the device."""
        return numbers(self.source.raw(self.rows), self.device)

    def at(self, index: Tensor) -> Stored:
        """Return the items at `index`, which picks from (N,), still to be read."""
        return Stored(self.source, self.rows[index], self.shape[1:], self.device)

    def picked(self, index: Tensor) -> Tensor:
        """Return the items at `index`, read where they are few."""
        items = self.at(index.cpu())
        return items if is_large(len(items), items.shape[1:]) else items.loaded()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Pick rows, or read all and do `func` to that."""
        pick, kwargs = _PICKS.get(func), kwargs or {}
        found = pick(*args, **kwargs) if pick else None
        if found is not None:
            return found
        args, kwargs = tree_map_only(Stored, Stored.loaded, (args, kwargs))
        return func(*args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Be saved as numbers."""
        return self.loaded().__reduce_ex__(protocol)  # type: ignore[no-untyped-call]

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Stored(shape={tuple(self.shape)}, device={self.device})"


def _every(stored: Stored) -> Stored:
    return stored.at(torch.arange(len(stored)))


def _index(stored: Tensor, indices: Sequence[Tensor | None]) -> Tensor | None:
    index = indices[0]
    if not isinstance(stored, Stored) or len(indices) > 1 or index is None or index.ndim > 1:
        return None
    return stored.picked(index)


def _index_select(stored: Tensor, dim: int, index: Tensor) -> Tensor | None:
    return stored.picked(index) if isinstance(stored, Stored) and dim == 0 else None


def _select(stored: Stored, dim: int, index: int) -> Tensor | None:
    return stored.at(torch.arange(len(stored))[index][None]).loaded()[0] if dim == 0 else None


def _slice(
    stored: Stored, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Stored | None:
    return stored.at(torch.arange(len(stored))[slice(start, end, step)]) if dim == 0 else None


def _split(stored: Stored, size: int | list[int], dim: int = 0) -> list[Stored] | None:
    return [stored.at(part) for part in torch.split(torch.arange(len(stored)), size)] if dim == 0 else None


def _cat(tensors: Sequence[Tensor], dim: int = 0) -> Stored | None:
    if (
        dim != 0
        or len({each.shape[1:] for each in tensors}) > 1
        or not is_large(sum(map(len, tensors)), tensors[0].shape[1:])
    ):
        return None
    parts: list[tuple[Source, Tensor]] = [
        (each.source, each.rows) if isinstance(each, Stored) else (Held(each), torch.arange(len(each)))
        for each in tensors
    ]
    return Stored(
        Joined(parts), torch.arange(sum(map(len, tensors))), tensors[0].shape[1:], tensors[0].device
    )


_ATEN = torch.ops.aten
_PICKS: dict[Any, Callable[..., Any]] = {
    _ATEN.alias.default: _every,
    _ATEN.cat.default: _cat,
    _ATEN.detach.default: _every,
    _ATEN.index.Tensor: _index,
    _ATEN.index_select.default: _index_select,
    _ATEN.select.int: _select,
    _ATEN.slice.Tensor: _slice,
    _ATEN.split.Tensor: _split,
    _ATEN.split_with_sizes.default: _split,
}
"""What is done to numbers of rows instead; each returns None where it is about more than rows."""
