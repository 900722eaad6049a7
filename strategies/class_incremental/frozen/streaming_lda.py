"""Streaming linear discriminant analysis on frozen features: class means and one covariance, item by item.

Source: Hayes and Kanan 2020, "Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis",
section 3. With t items seen, z the next one and m the mean of its class before it,

    S <- (t S + t / (t + 1) (z - m)(z - m)^T) / (t + 1),

and logits are z^T L m_c - m_c^T L m_c / 2 with L = ((1 - e) S + e I)^-1. All items of a stage are taken in at
once: S is a weighted sum of the outer products, whose means before each item are running means.

Differences: the first item of a class has no mean before it and adds nothing (in the released code
the mean is then zero, so the item itself counts as spread within its class); the covariance begins at zero
where paper and code can fit it to a base set first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.contracts import param
from strategies.class_incremental.frozen.base import FrozenFeatures, grown, per_class


class StreamingLDA(FrozenFeatures):
    """Update class means and a covariance that all classes share; answer by the linear discriminant."""

    shrinkage: float = param(1e-4, "share of the identity in the covariance", gt=0, le=1)

    def setup(self) -> None:
        """Begin without classes."""
        super().setup()
        self.means: Tensor | None = None
        self.counts: Tensor | None = None
        self.scatter: Tensor | None = None

    def update(self, features: Tensor, labels: Tensor, classes: int) -> None:
        """Take in the items in the order in which they come."""
        own = per_class(labels, classes)
        sums, counts = own @ features, own.sum(dim=1)
        old_means, old_counts = grown(self.means, sums), grown(self.counts, counts)
        earlier = old_counts[labels] + (own.cumsum(dim=1) - own).gather(0, labels[None])[0]  # of its class
        spread = torch.empty_like(features)
        for label in range(classes):
            rows = labels == label
            before = old_counts[label] * old_means[label] + features[rows].cumsum(dim=0) - features[rows]
            spread[rows] = features[rows] - before / earlier[rows].clamp(min=1)[:, None]
        spread[earlier == 0] = 0.0
        seen = old_counts.sum() + torch.arange(len(features), device=features.device)
        added = (spread * (seen / (seen + 1))[:, None]).T @ spread
        self.scatter = added if self.scatter is None else self.scatter + added
        self.counts = old_counts + counts
        self.means = (old_means * old_counts[:, None] + sums) / self.counts.clamp(min=1)[:, None]

    @property
    def covariance(self) -> Tensor:
        """S, float64 (d, d)."""
        assert self.scatter is not None and self.counts is not None, "learn before you answer"
        shared: Tensor = self.scatter / self.counts.sum().clamp(min=1)
        return shared

    def logits(self, features: Tensor) -> Tensor:
        """Return the linear discriminants."""
        assert self.means is not None and self.counts is not None, "learn before you answer"
        covariance = self.covariance
        eye = torch.eye(len(covariance), dtype=features.dtype, device=features.device)
        shrunk = (1 - self.shrinkage) * covariance + self.shrinkage * eye
        weights = torch.linalg.solve(shrunk, self.means.T)
        found: Tensor = features @ weights - (self.means.T * weights).sum(dim=0) / 2
        return found.masked_fill(self.counts == 0, -torch.inf)
