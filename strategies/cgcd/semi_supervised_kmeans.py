"""Semi-supervised k-means on the features of stage 0 (GCD, Vaze et al. 2022), continued without stored items.

GCD pins the labelled items to their classes. Here they are gone when a stage begins; what is kept is a centre
for every known class, and `weight` copies of it are pinned in their place. After a stage all centres are
known classes of the next. Nothing is trained after stage 0.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.clustering import pinned_kmeans
from harness.contracts import Prediction, Query, Stage, param
from strategies.cgcd.base import CategoryDiscovery
from strategies.cgcd.kmeans import nearest


class PinnedKMeans(CategoryDiscovery):
    """Cluster a stage around the centres of known classes, answer the nearest centre."""

    weight: int = param(
        10, "pinned copies of every known centre", ge=1, unit="copies", ablate=[1, 100], since_stage=1
    )
    restarts: int = param(10, "starts of k-means", ge=1, since_stage=1)

    def discover(self, stage: Stage, inputs: Tensor) -> None:
        """Cluster the stage's items; all centres become `means`."""
        features = self.features_of(inputs)
        found = min(self.count_new(stage, features), len(features))
        points = normalize(features, dim=1).cpu().numpy()
        pinned = self.means.repeat_interleave(self.weight, dim=0).cpu().numpy()
        classes = np.repeat(np.arange(self.known), self.weight)
        self.known += found
        clustering = pinned_kmeans(
            points, pinned, classes, self.known, self.context.stream("centres"), restarts=self.restarts
        )
        self.means = torch.from_numpy(clustering.centres).to(features)

    def predict(self, query: Query) -> Prediction:
        """Return the nearest centre."""
        return nearest(self, query)
