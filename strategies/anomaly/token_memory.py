"""Where a stage's tokens are kept: float32 on the device within a budget of bytes, above it float16 in a
scratch file mapped into memory.

What is mapped is read a piece at a time, so that no detector holds a second copy of everything in float32:
MVTec-AD at 392 px on a ViT-B/14 has 17 GB of float32 tokens, 8.7 GB as they lie in the file. Whether a tensor
is kept in half precision tells where it lies. Within the budget every function here is the plain expression
it stands for, to the byte. The budget is part of the code and not of the machine, so that results do not
depend on where they were computed.

The file has lost its name as soon as it is mapped: it is gone when the last tensor that looks at it is, also
where the process is killed.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.contracts import Context
from harness.errors import UserError
from strategies.toolkit.training.lazy_tensor import Held, Stored

BUDGET = 4 << 30
"""Bytes of float32 that one set of tokens may take in memory."""

PIECE = 1 << 26
"""Bytes that are turned to float32 at once."""

_LARGEST = 65504.0


def fits(shape: Sequence[int]) -> bool:
    """Whether float32 numbers of this shape are within the budget."""
    return 4 * math.prod(shape) <= BUDGET


def rows_at_once(shape: Sequence[int]) -> int:
    """Return how many rows (images, vectors) of `shape` make a piece."""
    return max(1, PIECE // (4 * math.prod(shape[1:])))


def is_mapped(tokens: Tensor) -> bool:
    """Whether `tokens` are kept in half precision, in a file."""
    return tokens.dtype == torch.float16


def room(shape: Sequence[int], context: Context) -> Tensor:
    """Return an empty tensor: float32 on the device where that fits, otherwise float16 in a file of the
    scratch folder.

    Raises:
        UserError: the folder has no room for it.
    """
    if fits(shape):
        return torch.empty(*shape, device=context.device)
    size = 2 * math.prod(shape)
    try:
        with tempfile.TemporaryFile(dir=Path(context.scratch)) as file:
            _reserve(file.fileno(), size)
            content: np.memmap[tuple[int, ...], np.dtype[np.float16]] = np.memmap(
                file, dtype=np.float16, mode="r+", shape=tuple(shape)
            )
    except OSError as error:
        raise UserError(
            f"{context.scratch} cannot keep {size >> 20} MiB of tokens ({error.strerror or error}); the "
            "store needs a disk "
            "with room for them"
        ) from None
    return torch.from_numpy(content)


def _reserve(file: int, size: int) -> None:
    """Give a file its size at once: a mapped file that finds no room while it is filled kills the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:  # macOS
        os.truncate(file, size)


def filled(parts: Iterable[Tensor], shape: Sequence[int], context: Context) -> Tensor:
    """Return the parts one after another in new room of `shape`; what no half-precision number can hold
    becomes the largest it can.
    """
    tokens, at = room(shape, context), 0
    for part in parts:
        tokens[at : at + len(part)] = part.clamp(-_LARGEST, _LARGEST) if is_mapped(tokens) else part
        at += len(part)
    return tokens


def pieces(tokens: Tensor, context: Context) -> Iterator[tuple[slice, Tensor]]:
    """Yield all of `tokens`; what is mapped some rows at a time, each piece float32 on the device, with the
    rows it has.
    """
    if not is_mapped(tokens):
        yield slice(None), tokens
        return
    size = rows_at_once(tokens.shape)
    for start in range(0, len(tokens), size):
        rows = slice(start, start + size)
        yield rows, tokens[rows].to(context.device, torch.float32)


def changed(tokens: Tensor, change: Callable[[Tensor], Tensor], context: Context) -> Tensor:
    """Return `change(tokens)`, which treats every image by itself."""
    if not is_mapped(tokens):
        return change(tokens)
    one = change(tokens[:1].to(context.device, torch.float32))
    return filled(
        (change(part) for _, part in pieces(tokens, context)), (len(tokens), *one.shape[1:]), context
    )


def selected(tokens: Tensor, rows: Tensor, context: Context) -> Tensor:
    """Return `tokens[rows]`, rows as a mask or as numbers."""
    if not is_mapped(tokens):
        return tokens[rows]
    numbers = (torch.nonzero(rows)[:, 0] if rows.dtype == torch.bool else rows).cpu()
    found = (
        tokens[part].to(context.device, torch.float32)
        for part in torch.split(numbers, rows_at_once(tokens.shape))
    )
    return filled(found, (len(numbers), *tokens.shape[1:]), context)


def stacked(parts: Sequence[Tensor], context: Context) -> Tensor:
    """Return the parts one after another, as `torch.cat`."""
    if not any(map(is_mapped, parts)):
        return torch.cat(list(parts))
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    return filled((piece for part in parts for _, piece in pieces(part, context)), shape, context)


def to_train_on(tokens: Tensor, context: Context) -> Tensor:
    """Return `tokens` as the training loop takes them: batches of what is mapped come as float32 on the
    device.
    """
    return (
        Stored(Held(tokens), torch.arange(len(tokens)), tokens.shape[1:], context.device)
        if is_mapped(tokens)
        else tokens
    )
