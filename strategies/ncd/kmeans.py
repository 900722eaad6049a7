"""k-means for novel class discovery, on the features of stage 0 or on the inputs: the floor of NCD boards.
Nothing is trained in stage 1.

Novel items are clustered by themselves; known classes are answered by stage 0. Over all rows together the
nearest centre counts, known classes having the mean of their labelled items as centre. On inputs an
over-fitted stage 0 does no harm, so both are worth reporting.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.clustering import kmeans
from harness.contracts import HIDDEN, Stage, param
from strategies.ncd.base import NovelClasses, Rows
from strategies.toolkit.training.tensors import Items


class NCDKMeans(NovelClasses):
    """Cluster the unlabelled items, answer the nearest centre."""

    space: Literal["features", "inputs"] = param(
        "features",
        "what is clustered: features of stage 0, or the inputs as they are",
        ablate=["inputs"],
        since_stage=1,
    )
    unit_length: bool = param(
        True, "whether points are scaled to unit length first", ablate=[False], since_stage=1
    )
    restarts: int = param(10, "starts of k-means", ge=1, since_stage=1)

    def discover(self, stage: Stage, items: Items, novel: int) -> None:
        """Find the centres."""
        points = self.points(items.inputs, self.features_of(self.network, items.inputs))
        given = items.labels != HIDDEN
        self.centres = self.centres_of(
            points[given], items.labels[given], points[~given], stage.named_classes, novel
        )

    def centres_of(
        self, labelled: Tensor, labels: Tensor, unlabelled: Tensor, known: int, novel: int
    ) -> Tensor:
        """Return centres, known classes first, (K, d), of labelled points (N, d) with `labels` (N,) and
        unlabelled ones (M, d).
        """
        found = kmeans(
            unlabelled.cpu().numpy(),
            min(novel, len(unlabelled)),
            self.context.stream("centres"),
            restarts=self.restarts,
        )
        means = torch.zeros(known, labelled.shape[1], device=labelled.device).index_add_(0, labels, labelled)
        means /= torch.bincount(labels, minlength=known).clamp_min(1)[:, None]
        return torch.cat([means, torch.from_numpy(found.centres).to(labelled)])

    def points(self, inputs: Tensor, features: Tensor) -> Tensor:
        """Return what is clustered, (N, d)."""
        points = features if self.space == "features" else inputs.flatten(1)
        return normalize(points, dim=1) if self.unit_length else points

    def rows(self, inputs: Tensor, features: Tensor) -> Rows:
        """Return the scores of stage 0, and minus the distance to every centre."""
        near = -torch.cdist(self.points(inputs, features), self.centres)
        return Rows(self.network.scores(features).known, near[None, :, self.network.classes :], near)
