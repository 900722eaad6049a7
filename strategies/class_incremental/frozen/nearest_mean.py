"""Nearest class mean on frozen features (SimpleCIL): the class whose mean feature has the largest cosine.

Source: Zhou et al. 2023, "Revisiting Class-Incremental Learning with Pre-Trained Models", section 4.1: the mean of
a class's features is its row of a cosine classifier. `distance=euclidean` answers the nearest mean instead
(Mensink et al. 2013, "Distance-Based Image Classification").
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.contracts import param
from strategies.class_incremental.frozen.base import FrozenFeatures, grown, per_class


class NearestClassMean(FrozenFeatures):
    """Answer the class whose mean feature is nearest."""

    distance: Literal["cosine", "euclidean"] = param("cosine", "between a feature and the mean of a class")

    def setup(self) -> None:
        """Begin without classes."""
        super().setup()
        self.sums: Tensor | None = None
        self.counts: Tensor | None = None

    def update(self, features: Tensor, labels: Tensor, classes: int) -> None:
        """Add to the sums and the counts of classes."""
        own = per_class(labels, classes)
        sums, counts = own @ features, own.sum(dim=1)
        self.sums, self.counts = grown(self.sums, sums) + sums, grown(self.counts, counts) + counts

    def logits(self, features: Tensor) -> Tensor:
        """Return cosines, or minus squared distances."""
        assert self.sums is not None and self.counts is not None, "learn before you answer"
        means = self.sums / self.counts.clamp(min=1)[:, None]
        if self.distance == "cosine":
            near = normalize(features, dim=1) @ normalize(means, dim=1).T
        else:
            near = -torch.cdist(features, means, compute_mode="donot_use_mm_for_euclid_dist").square()
        return near.masked_fill(self.counts == 0, -torch.inf)
