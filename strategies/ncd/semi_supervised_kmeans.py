"""Semi-supervised k-means on the features of stage 0 (GCD, Vaze et al. 2022): labelled items stay in their
class, all others may go anywhere. Nothing is trained in stage 1. Of the published method the contrastive
training of the features is left out, for the features are those that all rivals start from.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.clustering import pinned_kmeans
from strategies.ncd.kmeans import NCDKMeans


class NCDPinnedKMeans(NCDKMeans):
    """Cluster labelled and unlabelled items together, the labelled ones pinned to their classes."""

    def centres_of(
        self, labelled: Tensor, labels: Tensor, unlabelled: Tensor, known: int, novel: int
    ) -> Tensor:
        """Return centres, known classes first, (K, d)."""
        points, pinned, classes = (part.cpu().numpy() for part in (unlabelled, labelled, labels))
        found = pinned_kmeans(
            points,
            pinned,
            classes,
            known + min(novel, len(points)),
            self.context.stream("centres"),
            restarts=self.restarts,
        )
        return torch.from_numpy(found.centres).to(labelled)
