"""Feature cache: hidden values of a fixed number of views, computed once, in half precision and within a budget of
bytes; the rest is computed when used.

Which views an item has is drawn at the start, a seed for each, and does not depend on the budget. What is
kept and what is computed anew are both rounded to half precision, so a smaller budget costs time and changes
a result only as another batch size would (the last bits of a matrix product). Items are kept in the order of
their rows, which `sealing` has shuffled.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from harness.errors import UserError
from strategies.toolkit.augmentations import Augmentation
from strategies.toolkit.discovery.split_network import Previous, SplitNetwork

_CHUNK = 256
MIB = 2**20


class CachedBatch(NamedTuple):
    """hidden float32 (B, ...); before float32 (B, d), features by the previous network, or None."""

    hidden: Tensor
    before: Tensor | None


class FeatureCache:
    """`size` views of every item. hidden: float16 (size, kept items, ...). before: float32 (size, kept items,
    d) or None.
    """

    def __init__(
        self,
        network: SplitNetwork,
        inputs: Tensor,
        augment: Augmentation,
        generator: Generator,
        size: int,
        *,
        previous: Previous | None = None,
        budget_mib: int = 0,
    ) -> None:
        """Draw a seed for every view and run those that are kept through the frozen part.

        Args:
            network: its frozen part must not change as long as the cache is used.
            inputs: items (N, ...), at least one; they stay in memory where not all are kept.
            augment: makes a view of an item.
            generator: of the seeds.
            size: views of an item.
            previous: a network that does not change either, whose features are kept beside.
            budget_mib: memory for what is kept, in MiB; 0 for as much as all items take.

        Raises:
            UserError: hidden values that half precision does not hold.
        """
        self.network, self.inputs, self.augment, self.previous = network, inputs, augment, previous
        self.seeds = torch.randint(
            2**62, (size, len(inputs)), generator=generator, device=generator.device
        ).tolist()
        self.own = Generator(generator.device)
        one = self._computed(torch.zeros(size, dtype=torch.long), list(range(size)))
        item_bytes = sum(part.numel() * part.element_size() for part in one if part is not None)
        self.kept = min(len(inputs), budget_mib * MIB // item_bytes) if budget_mib else len(inputs)
        self.hidden = one.hidden.new_empty(size, self.kept, *one.hidden.shape[1:])
        self.before = (
            None if one.before is None else one.before.new_empty(size, self.kept, *one.before.shape[1:])
        )
        for which in range(size):
            for start in range(0, self.kept, _CHUNK):
                rows = torch.arange(start, min(start + _CHUNK, self.kept))
                made = self._computed(rows, [which] * len(rows))
                self.hidden[which, rows] = made.hidden
                if self.before is not None and made.before is not None:
                    self.before[which, rows] = made.before

    @property
    def nbytes(self) -> int:
        """Return the bytes of what is kept."""
        return sum(
            part.numel() * part.element_size() for part in (self.hidden, self.before) if part is not None
        )

    def batch(self, which: Tensor, rows: Tensor) -> CachedBatch:
        """Return the views `which` (B,) of the items at `rows` (B,), both int64."""
        there = rows < self.kept
        if self.kept == len(self.inputs) or there.all():
            return CachedBatch(
                self.hidden[which, rows].float(), None if self.before is None else self.before[which, rows]
            )
        made = self._computed(rows[~there], which[~there].tolist())
        hidden = made.hidden.new_empty(len(rows), *made.hidden.shape[1:])
        hidden[there], hidden[~there] = self.hidden[which[there], rows[there]], made.hidden
        if self.before is None or made.before is None:
            return CachedBatch(hidden.float(), None)
        before = made.before.new_empty(len(rows), *made.before.shape[1:])
        before[there], before[~there] = self.before[which[there], rows[there]], made.before
        return CachedBatch(hidden.float(), before)

    @torch.no_grad()
    def _computed(self, rows: Tensor, which: list[int]) -> CachedBatch:
        """Compute views anew; hidden in half precision."""
        views = [
            self.augment(self.inputs[row : row + 1], self.own.manual_seed(self.seeds[place][row]))
            for row, place in zip(rows.tolist(), which, strict=True)
        ]
        hidden = self.network.hidden(torch.cat(views)).half()
        if not hidden.isfinite().all():
            raise UserError(
                "the frozen part gives values above 65504, which half precision does not hold; set cached_views=0"
            )
        return CachedBatch(hidden, self.previous(hidden.float()) if self.previous else None)
