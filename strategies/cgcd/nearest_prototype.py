"""Nearest prototype on the features of stage 0: class means stay where they are, new ones are the clusters
least like them.

The part of Happy that needs no training after stage 0: its choice of clusters (section 4.2) without
everything that follows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.clustering import kmeans
from harness.contracts import Prediction, Query, Stage, param
from strategies.cgcd.base import CategoryDiscovery
from strategies.cgcd.kmeans import nearest
from strategies.cgcd.prototypes import least_like


class NearestPrototype(CategoryDiscovery):
    """Keep the means of known classes, add the clusters least like them, answer the nearest."""

    restarts: int = param(10, "starts of k-means", ge=1, since_stage=1)

    def discover(self, stage: Stage, inputs: Tensor) -> None:
        """Add the new clusters to `means`."""
        features = self.features_of(inputs)
        found = self.count_new(stage, features)
        points = normalize(features, dim=1).cpu().numpy()
        clusters = min(self.known + found, len(points))
        clustering = kmeans(points, clusters, self.context.stream("centres"), restarts=self.restarts)
        centres = torch.from_numpy(clustering.centres).to(features)
        new = centres[least_like(normalize(centres, dim=1), normalize(self.means, dim=1), found)]
        self.means = torch.cat([self.means, new])
        self.known += len(new)

    def predict(self, query: Query) -> Prediction:
        """Return the nearest prototype."""
        return nearest(self, query)
