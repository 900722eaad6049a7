"""Distance of whole images: the mean feature of an image against those of normal images, by nearest
neighbours or a Gaussian.

It says nothing of places. A patch method that does not beat it has not gained from looking at places. Means
of later stages join the earlier ones (merge) or take their place (replace).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness.contracts import Prediction, Query, Stage, param
from strategies.anomaly.base import PatchDetector, joined
from strategies.anomaly.patch_gaussian import Moments, Stages
from strategies.anomaly.token_memory import pieces

Measure = Literal["gaussian", "nearest"]
_SMALLEST = 1e-9  # of a variance, where images do not differ at all


class ImageMemory:
    """Vectors of normal images, one each, and how far others are from them."""

    def __init__(self) -> None:
        self.moments = Moments()
        self.vectors = torch.zeros(0)

    def add(self, vectors: Tensor, sets: Tensor, *, memory: Stages) -> None:
        """Add vectors (N, D) to the Gaussians that `sets` int64 (N,) names, and to the neighbours."""
        if memory == "replace":
            self.moments.clear()
        self.moments.add(vectors[:, None], sets)
        self.vectors = (
            torch.cat([self.vectors, vectors]) if len(self.vectors) and memory == "merge" else vectors
        )

    def distances(self, vectors: Tensor, *, measure: Measure, k: int, share: float) -> Tensor:
        """Return how far vectors (N, D) are, float32 (N,): from the nearest Gaussian, or from the k nearest
        vectors on average.

        Args:
            vectors: of images to score.
            measure: which of the two.
            k: neighbours, all where there are no more.
            share: of a Gaussian's mean variance, added to every variance.
        """
        if measure == "gaussian":
            return self.moments.distances(vectors[:, None], ridge=_SMALLEST, share=share)[:, 0].float()
        apart = torch.cdist(
            vectors.double(), self.vectors.double(), compute_mode="donot_use_mm_for_euclid_dist"
        )
        return apart.topk(min(k, len(self.vectors)), dim=1, largest=False).values.mean(dim=1).float()

    def state_dict(self) -> dict[str, Tensor]:
        """Return moments and vectors."""
        return {**self.moments.state_dict(), "vectors": self.vectors}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state_dict` gave."""
        self.moments.load_state_dict(state)
        self.vectors = state["vectors"]


class ImageDistance(PatchDetector):
    """Average an image's tokens over its patches and measure how far it is from normal images; image scores
    only.
    """

    measure: Measure = param("nearest", "nearest normal images, or a Gaussian of them", ablate=["gaussian"])
    k: int = param(1, "neighbours whose mean distance counts", ge=1, ablate=[5])
    ridge: float = param(0.01, "share of the mean variance added to every variance of a Gaussian", gt=0)
    per_category: bool = param(
        False, "a Gaussian for each category, of which the nearest counts", ablate=[True]
    )
    memory: Stages = param(
        "merge",
        "images of later stages: joined to the earlier ones, or in their place",
        ablate=["replace"],
        since_stage=1,
    )

    def setup(self) -> None:
        """Start without images."""
        super().setup()
        self.images = ImageMemory()

    def fit(self, tokens: Tensor, categories: Tensor, stage: Stage) -> None:
        """Keep the mean features of the stage's images."""
        means = torch.cat([joined(part).mean(dim=1) for _, part in pieces(tokens, self.context)])
        self.images.add(
            means, categories if self.per_category else torch.zeros_like(categories), memory=self.memory
        )

    def maps_of(self, tokens: Tensor) -> Tensor:
        """Return the image's distance at every patch, float32 (N, P); it is not answered as a map."""
        means = joined(tokens).mean(dim=1)
        distances = self.images.distances(means, measure=self.measure, k=self.k, share=self.ridge)
        return distances[:, None].expand(-1, tokens.shape[2])

    def predict(self, query: Query) -> Prediction:
        """Answer image scores alone."""
        scores = [self.maps_of(tokens)[:, 0].cpu().numpy() for tokens in self.chunks_of(query)]
        return Prediction(anomaly_scores=np.concatenate(scores))
