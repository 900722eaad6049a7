"""What learners without a network have in common that answer every item they were handed by its own label: they
keep all items, on the unit sphere, and memorise every wrong label by construction.

A label is judged by what the OTHER items say of it, since its own item always agrees.

Legend: N items kept, M items asked, d numbers of an item, C classes.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.contracts import HIDDEN, IntArray, Prediction, Query, Stage, Strategy
from harness.errors import Unsuitable
from strategies.toolkit.classifier import likeliest
from strategies.toolkit.label_memory import LabelMemory, noise_score
from strategies.toolkit.training.tensors import as_tensor

_AT_ONCE = 2**22
"""Distances that are held at once."""


class Interpolating(Strategy):
    """A learner that keeps every item of all stages; implement `fit`, `shares` and `shares_of_others`."""

    def setup(self) -> None:
        """Know nothing."""
        self.handed = LabelMemory()
        self.points = torch.zeros(0, dtype=torch.float64)
        self.task_of: list[int] = []

    def learn(self, stage: Stage) -> None:
        """Keep the items and fit all of them.

        Raises:
            Unsuitable: a label is hidden.
        """
        if (stage.labels == HIDDEN).any():
            raise Unsuitable(f"learns from labels, and stage {stage.index} hides some")
        self.handed.add(stage)
        points = _on_the_sphere(as_tensor(stage.inputs, "cpu")[:])
        self.points = torch.cat([self.points.view(-1, points.shape[1]), points])
        self.task_of += [stage.index] * (stage.named_classes - len(self.task_of))
        self.fit()

    @property
    def one_hot(self) -> Tensor:
        """The labels as rows, float64 (N, C)."""
        return torch.nn.functional.one_hot(self.handed.labels, len(self.task_of)).double()

    @abstractmethod
    def fit(self) -> None:
        """Learn from `points`, float64 (N, d) of unit length, and the labels of `handed`."""

    @abstractmethod
    def shares(self, points: Tensor) -> Tensor:
        """Return how much speaks for every class, (M, C), positive or zero, for points (M, d)."""

    @abstractmethod
    def shares_of_others(self, rows: Tensor) -> Tensor:
        """Return the same for kept items with numbers int64 (M,), by what all other items say."""

    def predict(self, query: Query) -> Prediction:
        """Return the class of the largest share, the first of those within a millionth of it, and what the other items
        say of labels that came with items.
        """
        points = _on_the_sphere(as_tensor(query.inputs, "cpu")[:])
        size = max(1, _AT_ONCE // len(self.points))
        shares = torch.cat([self.shares(part) for part in torch.split(points, size)])
        places, rows = self.handed.find(query.ids)
        losses, suspicion, kept = self._judged(shares[places], rows, size)
        equal = (shares / shares.amax(dim=1, keepdim=True).clamp_min(1e-300)).round(
            decimals=6
        )  # but for rounding
        return self.handed.judged(likeliest(equal, self.task_of, query), query.ids, losses, suspicion, kept)

    def _judged(self, shares: Tensor, rows: IntArray, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return cross-entropy, suspicion and whether it is kept of the labels of kept items, (n,) each."""
        labels = self.handed.labels[rows]
        own = shares.gather(1, labels[:, None])[:, 0] / shares.sum(dim=1).clamp_min(1e-300)
        losses = -own.clamp_min(1e-300).log()
        parts = torch.split(torch.from_numpy(rows), size)
        others = torch.cat([self.shares_of_others(part) for part in parts]) if len(rows) else shares
        scores = noise_score(others / others.amax(dim=1, keepdim=True).clamp_min(1e-300), labels)
        return losses, scores, scores <= 0.5


def _on_the_sphere(inputs: Tensor) -> Tensor:
    """Return inputs (N, ...) as float64 (N, d) of unit length; zeros stay zero."""
    return normalize(inputs.flatten(1).double(), dim=1, eps=1e-300)
