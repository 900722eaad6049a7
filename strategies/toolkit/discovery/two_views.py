"""Batches of two views: seen afresh at every step, or taken from a feature cache: views that went
through the frozen part of the network once.

The cache pays where the frozen part is dear, such as a transformer's trunk: some views of every item are drawn
at the start of a stage, and a step takes two different ones. What the previous network makes of cached
views never changes, so it is kept too.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from harness.errors import UserError
from strategies.toolkit.augmentations import Augmentation
from strategies.toolkit.discovery.feature_cache import FeatureCache
from strategies.toolkit.discovery.split_network import Previous, SplitNetwork


class Pair(NamedTuple):
    """First views of all items, then second ones. hidden (2B, ...); before (2B, d), features by the previous
    network, or None.
    """

    hidden: Tensor
    before: Tensor | None


class Fresh:
    """Two new views at every step."""

    def __init__(
        self,
        network: SplitNetwork,
        augment: Augmentation,
        generator: Generator,
        previous: Previous | None = None,
    ) -> None:
        self.network, self.augment, self.generator, self.previous = network, augment, generator, previous

    def pair(self, inputs: Tensor, rows: Tensor) -> Pair:
        """Return two views of `inputs` (B, ...)."""
        hidden = self.network.hidden(self.augment(torch.cat([inputs, inputs]), self.generator))
        return Pair(hidden, self.previous(hidden) if self.previous else None)


class CachedViews(FeatureCache):
    """`size` views of every item of a stage, kept behind the frozen part as far as the budget goes."""

    def __init__(
        self,
        network: SplitNetwork,
        inputs: Tensor,
        augment: Augmentation,
        generator: Generator,
        size: int,
        previous: Previous | None = None,
        *,
        budget_mib: int = 0,
    ) -> None:
        """Draw the views and run them through the frozen part, as many as fit into the budget (0 for no
        limit).

        Raises:
            UserError: fewer than two views, of which no two would differ.
        """
        if size < 2:
            raise UserError(f"the feature cache needs at least two views of an item, got cached_views={size}")
        super().__init__(network, inputs, augment, generator, size, previous=previous, budget_mib=budget_mib)
        self.generator = generator

    def pair(self, inputs: Tensor, rows: Tensor) -> Pair:
        """Return two different views of the items at `rows` (B,)."""
        size = len(self.seeds)
        first = torch.randint(size, rows.shape, generator=self.generator, device=rows.device)
        second = (
            first + torch.randint(1, size, rows.shape, generator=self.generator, device=rows.device)
        ) % size
        return Pair(*self.batch(torch.cat([first, second]), torch.cat([rows, rows])))
