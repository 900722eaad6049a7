"""A memory of examples from earlier stages, of fixed capacity.

Two ways to choose what stays: `class-balanced` gives every class seen the same share, drawn at random when
its stage ends; `reservoir` keeps a uniform sample of the stream (Vitter 1985, algorithm R).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from strategies.toolkit.training.tensors import Items


class StoredItems(NamedTuple):
    """Examples drawn from a buffer: inputs (B, ...), labels (B,), logits (B, C) as they were when stored, or
    None.
    """

    inputs: Tensor
    labels: Tensor
    logits: Tensor | None


class Buffer:
    """Up to `capacity` examples."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.seen = 0
        self.items: Items | None = None
        self.logits: Tensor | None = None

    def __len__(self) -> int:
        return 0 if self.items is None else len(self.items)

    def balance(self, new: Items, rng: np.random.Generator) -> None:
        """Take in the classes of `new` and cut every class to the same share of the capacity; spare places go
        to the first classes.
        """
        items = new if self.items is None else self.items.joined_with(new)
        labels = items.labels.cpu().numpy()
        classes = np.unique(labels)
        share, spare = divmod(self.capacity, len(classes))
        kept = [
            rng.permutation(np.flatnonzero(labels == label))[: share + (rank < spare)]
            for rank, label in enumerate(classes)
        ]
        rows = torch.from_numpy(np.concatenate(kept)).to(items.labels.device)
        self.items = Items(items.inputs[rows], items.labels[rows])

    def flow(self, inputs: Tensor, labels: Tensor, logits: Tensor, rng: np.random.Generator) -> None:
        """Offer a batch to the reservoir, with the logits the network gave it."""
        if self.items is None or self.logits is None:
            self.items = Items(inputs[:0].clone(), labels[:0].clone())
            self.logits = logits[:0].clone()
        if (
            logits.shape[1] > self.logits.shape[1]
        ):  # the head has grown; what was stored earlier had no opinion on new classes
            grown = self.logits.new_full((len(self.logits), logits.shape[1]), torch.nan)
            grown[:, : self.logits.shape[1]] = self.logits
            self.logits = grown
        free = min(self.capacity - len(self), len(labels))
        if free:
            self.items = self.items.joined_with(Items(inputs[:free], labels[:free]))
            self.logits = torch.cat([self.logits, logits[:free]])
        places = rng.integers(0, self.seen + 1 + np.arange(len(labels)))
        self.seen += len(labels)
        for row in range(free, len(labels)):
            if (place := int(places[row])) < self.capacity:
                self.items.inputs[place], self.items.labels[place] = inputs[row], labels[row]
                self.logits[place] = logits[row]

    def draw(self, size: int, rng: np.random.Generator) -> StoredItems:
        """Return `size` different examples at random, all of them where there are fewer."""
        assert self.items is not None, "draw from an empty buffer"
        rows = torch.from_numpy(rng.permutation(len(self))[:size]).to(self.items.labels.device)
        logits = None if self.logits is None else self.logits[rows]
        return StoredItems(self.items.inputs[rows], self.items.labels[rows], logits)

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the capacity."""
        return {
            "seen": self.seen,
            "items": None if self.items is None else list(self.items),
            "logits": self.logits,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what `state_dict` was taken from."""
        self.seen = state["seen"]
        self.items = None if state["items"] is None else Items(*state["items"])
        self.logits = state["logits"]
