"""k-means on the features of stage 0: the floor of category discovery (Happy, Table 1: "KMeans"). Nothing is
trained after stage 0.

Every stage clusters its own unlabelled items with as many clusters as there are classes; test items go to the
nearest centre. A cluster has the row of the known class or earlier cluster it is nearest to, one to one;
those left over are new.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor
from torch.nn.functional import normalize

from harness.clustering import Points, kmeans
from harness.contracts import Prediction, Query, Stage, param
from strategies.cgcd.base import CategoryDiscovery


class KMeansFeatures(CategoryDiscovery):
    """Cluster a stage's features of stage 0, answer the nearest centre."""

    restarts: int = param(10, "starts of k-means", ge=1, since_stage=1)

    def discover(self, stage: Stage, inputs: Tensor) -> None:
        """Cluster the stage's items; `means` become the centres."""
        features = self.features_of(inputs)
        self.known += self.count_new(stage, features)
        points = normalize(features, dim=1).cpu().numpy()
        found = kmeans(
            points, min(self.known, len(points)), self.context.stream("centres"), restarts=self.restarts
        )
        self.means = torch.from_numpy(_in_order(found.centres, self.means.cpu().numpy())).to(features)

    def predict(self, query: Query) -> Prediction:
        """Return the nearest centre."""
        return nearest(self, query)


def _in_order(centres: Points, before: Points) -> Points:
    """Return the centres (K, d), those first that stand nearest to the ones `before` (K', d), one for each in
    their order.
    """
    rows, places = linear_sum_assignment(cdist(before, centres))
    order = [*places[np.argsort(rows)], *np.setdiff1d(np.arange(len(centres)), places)]
    return centres[order]


def nearest(learner: CategoryDiscovery, query: Query) -> Prediction:
    """Answer by the mean that is nearest in unit feature space; `old_probability` is left out, for there are
    no probabilities.
    """
    means = learner.means

    def logits(features: Tensor) -> Tensor:
        return -torch.cdist(normalize(features, dim=1), means)

    return replace(learner.answered(query, logits), old_probability=None)
