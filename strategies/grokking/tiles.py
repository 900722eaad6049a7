"""Rows in tiles that stay in the cache: how a stack of networks and their rows are cut, and what all networks
do with a tile.

Small networks are worked on many at a time, so that a call of a kernel pays; of a large one, a part of its
rows at a time, so that the buffers of a tile are still in the cache when they are read again. How many rows
there are to a tile depends on the width alone: what a network computes does not depend on how many others
there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from strategies.grokking.losses import losses_and_gradient
from strategies.grokking.networks import Objective, Weights

TILE = 2**18
"""Numbers in a buffer of a tile, 1 MiB: 524 rows at width 500."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Rows that are worked on at once: of g networks, c rows each. Tables of a network hold rows for x, and
    below them rows for y.

    What only training needs is made when it is first asked for, and stays, so that a full batch makes it
    once.

    inner: which networks, None for all.  rows: which of their rows.  shape: (g, c).  labels: int64 (g, c),
    zeros where there are none.
    pairs: int64 (2 * g * c,), where x and y of every row are in the tables of these g networks laid end to
    end.
    table_rows: of these tables together.  classes: logits of a row.
    """

    inner: slice | None
    rows: slice
    shape: tuple[int, int]
    pairs: Tensor
    labels: Tensor
    table_rows: int
    classes: int

    @cached_property
    def evens(self) -> Tensor:
        """Where in `pairs` each row begins, int64 (g * c,)."""
        return torch.arange(0, self.pairs.numel(), 2, device=self.pairs.device)

    @cached_property
    def looking(self) -> tuple[Tensor, Tensor]:
        """Rows in the order of where they look, int64 (2 * g * c,), and where in there each row of the tables
        begins, (table rows,).
        """
        places, order = self.pairs.view(-1, 2).T.flatten().sort(stable=True)
        return order % (self.pairs.numel() // 2), torch.searchsorted(
            places, torch.arange(self.table_rows, device=places.device)
        )

    @cached_property
    def targets(self) -> Tensor:
        """-1 at the labels, else 0, float32 (g, C, c)."""
        hot = torch.zeros(*self.labels.shape, self.classes, device=self.labels.device)
        return hot.scatter_(2, self.labels[..., None], -1.0).mT.contiguous()

    @property
    def first(self) -> int:
        """The first of its networks."""
        return int(self.inner.start) if self.inner else 0

    @property
    def begins(self) -> bool:
        """Whether its rows are the first ones."""
        return not self.rows.start

    def of(self, values: Tensor) -> Tensor:
        """Return what belongs to its networks of `values` (K, ...), in their memory."""
        return values if self.inner is None else values[self.inner]

    def looked_up(self, tables: Tensor) -> Tensor:
        """Return the sum of both rows of the tables (K, 2 vocabulary, width), in one pass: (g, c, width)."""
        found = embedding_bag(self.pairs, self.of(tables).flatten(0, 1), self.evens, mode="sum")
        return found.view(*self.shape, tables.shape[2])

    def handed_back(self, gradient: Tensor, tables: Tensor) -> None:
        """Add the gradient of what was looked up (g, c, width) to that of the tables (K, 2 vocabulary,
        width).

        Every row of a table collects its own, in the order of the rows, as an indexed sum does; only in one
        pass.
        """
        order, starts = self.looking
        collected = embedding_bag(order, gradient.flatten(0, 1), starts, mode="sum")
        own = self.of(tables).flatten(0, 1)
        if self.begins:
            own.copy_(collected)
        else:
            own.add_(collected)

    def multiplied(self, first: Tensor, second: Tensor, total: Tensor, *, factor: float) -> None:
        """Add `factor` times a product (g, a, b) to `total` (K, a, b)."""
        own = self.of(total)
        if first.dtype == own.dtype:
            torch.baddbmm(own, first, second, beta=0 if self.begins else 1, alpha=factor, out=own)
        elif self.begins:
            torch.mul(torch.bmm(first, second), factor, out=own)
        else:
            own.add_(torch.bmm(first, second), alpha=factor)


def tiles(
    items: Tensor,
    labels: Tensor | None,
    *,
    vocabulary: int,
    classes: int,
    width: int,
    room: int | None = TILE,
) -> Iterator[Tile]:
    """Cut the rows of K networks: many networks to a tile where all rows of one are few, else many tiles to a
    network.

    Args:
        items: int64 (K, n, 2 or more), of which the first two are looked up.
        labels: int64 (K, n); None where there are none, and then those of the tiles say nothing.
        vocabulary: how many residues there are.
        classes: logits of a row.
        width: numbers of a row in the widest buffer.
        room: numbers in a buffer; None keeps the rows of a network together, however many they are.
    """
    networks, rows = items.shape[:2]
    height = rows if room is None else max(1, min(rows, room // width))
    together = max(1, (room or TILE) // (height * width)) if height == rows else 1
    for first in range(0, networks, together):
        inner = slice(first, min(first + together, networks))
        number = torch.arange(inner.stop - first, device=items.device)[:, None, None]
        both = torch.tensor([0, vocabulary], device=items.device) + number * (2 * vocabulary)
        for start in range(0, rows, height):
            part = slice(start, min(start + height, rows))
            yield Tile(
                inner=None if len(number) == networks else inner,
                rows=part,
                shape=(len(number), part.stop - start),
                pairs=(items[inner, part, :2] + both).flatten(),
                labels=torch.zeros_like(items[inner, part, 0])
                if labels is None
                else labels[inner, part].contiguous(),
                table_rows=2 * vocabulary * len(number),
                classes=classes,
            )


class Buffers:
    """Memory by name that is used again: what it held is lost at the next call with that name."""

    def __init__(self) -> None:
        self.kept: dict[str, Tensor] = {}
        self.shaped: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int, like: Tensor) -> Tensor:
        """Return memory of this shape, in the dtype and on the device of `like`."""
        last = self.shaped.get(name)
        if (
            last is not None
            and last.shape == shape
            and last.dtype == like.dtype
            and last.device == like.device
        ):
            return last
        count = math.prod(shape)
        kept = self.kept.get(name)
        if kept is None or kept.numel() < count or kept.dtype != like.dtype or kept.device != like.device:
            kept = self.kept[name] = like.new_empty(count)
        self.shaped[name] = kept[:count].view(shape)
        return self.shaped[name]


class Pass(NamedTuple):
    """One look at all rows of K networks, tile by tile.

    weights, gradients: by name, the latter filled tile by tile.  losses: (K,), of the mean over all rows,
    likewise.
    rows: how many rows a network has in all tiles.
    """

    weights: Weights
    gradients: Weights
    losses: Tensor
    objective: Objective
    rows: int


def begun(
    weights: Weights, trained: Iterable[str], batch: list[Tile], objective: Objective, buffer: Buffers
) -> Pass:
    """Return a pass that has seen nothing yet; gradients of the weights in `trained` are in buffers."""
    gradients = {name: buffer(f"d{name}", *weights[name].shape, like=weights[name]) for name in trained}
    one = next(iter(gradients.values()))
    rows = sum(tile.shape[1] for tile in batch if not tile.first)
    return Pass(weights, gradients, one.new_zeros(one.shape[0]), objective, rows)


class Errors(NamedTuple):
    """errors: (g, C, c), of the losses a tile adds for its logits, less `factor`."""

    errors: Tensor
    factor: float


def errors_of(
    top: Tensor, active: Tensor, tile: Tile, current: Pass, buffer: Buffers, bias: Tensor | None = None
) -> Errors:
    """Return what the logits `top` active + bias are wrong by, and add a tile's part to the mean losses.

    Logits have their rows last, (g, C, c): as C is odd, the product that makes them is up to twice as fast
    so.

    Args:
        top: (g, C, width).
        active: (g, c, width).
        tile: labels.
        current: objective and losses.
        buffer: memory.
        bias: (g, C).
    """
    (networks, height), classes, losses = tile.shape, top.shape[1], tile.of(current.losses)
    logits = buffer("logits", networks, classes, height, like=active)
    squared = current.objective.loss == "mse"
    if squared:
        torch.baddbmm(tile.targets.to(logits.dtype), top, active.mT, out=logits)
    else:
        torch.bmm(top, active.mT, out=logits)
    if bias is not None:
        logits.add_(bias[..., None])
    if squared:
        flat, share = logits.flatten(1), 1 / (current.rows * classes)
        losses.add_(torch.linalg.vecdot(flat, flat), alpha=share)
        return Errors(logits, 2 * share)
    whole = logits.float() if logits.dtype == torch.bfloat16 else logits
    found, gradient = losses_and_gradient(
        whole.mT, tile.labels, loss=current.objective.loss, precision=current.objective.bits
    )
    share = height / current.rows
    losses.add_(found.mean(dim=1), alpha=share)
    return Errors(gradient.mT.to(logits.dtype), share)


__all__ = ["TILE", "Buffers", "Errors", "Pass", "Tile", "begun", "errors_of", "tiles"]
