"""The lower bound of anomaly detection: mean and standard deviation of every channel of an image, against
those of normal images.

Neither texture nor place is looked at. What this finds, brightness and contrast alone give away.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.contracts import Inputs, Prediction, Query, Stage, Strategy, param
from harness.errors import Unsuitable
from strategies.anomaly.image_distance import ImageMemory, Measure
from strategies.anomaly.patch_gaussian import Stages
from strategies.toolkit.training.tensors import as_tensor


class ColourStatistics(Strategy):
    """Keep two numbers per channel of every normal image; answer the distance from a Gaussian of them, or
    from the nearest.
    """

    measure: Measure = param(
        "gaussian", "a Gaussian of normal images, or the nearest of them", ablate=["nearest"]
    )
    k: int = param(1, "neighbours whose mean distance counts", ge=1)
    ridge: float = param(0.01, "share of the mean variance added to every variance of the Gaussian", gt=0)
    memory: Stages = param(
        "merge",
        "images of later stages: joined to the earlier ones, or in their place",
        ablate=["replace"],
        since_stage=1,
    )

    def setup(self) -> None:
        """Start without images."""
        self.images = ImageMemory()

    def learn(self, stage: Stage) -> None:
        """Keep the statistics of the stage's images."""
        vectors = self._statistics(stage.inputs)
        self.images.add(
            vectors, torch.zeros(len(vectors), dtype=torch.long, device=vectors.device), memory=self.memory
        )

    def predict(self, query: Query) -> Prediction:
        """Answer image scores alone."""
        distances = self.images.distances(
            self._statistics(query.inputs), measure=self.measure, k=self.k, share=self.ridge
        )
        return Prediction(anomaly_scores=distances.cpu().numpy())

    def _statistics(self, inputs: Inputs) -> Tensor:
        """Return mean and standard deviation per channel, float32 (N, 2 C); raise `Unsuitable` where the
        items are no images.
        """
        if len(inputs.shape) != 4:
            raise Unsuitable(
                f"statistics of colours need images (C, H, W), the inputs have shape {tuple(inputs.shape[1:])}"
            )
        pixels = as_tensor(inputs, self.context.device).flatten(2)
        return torch.cat([pixels.mean(dim=2), pixels.std(dim=2, correction=0)], dim=1)
