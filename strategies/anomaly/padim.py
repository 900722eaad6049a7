"""PaDiM: one Gaussian for every position of the image, over a few randomly chosen channels (Defard et al.
2021).

A patch is compared with what stood at its own position in normal images: for aligned objects, not for random
crops of a texture. 0.01 is added to every variance, so a stage should have more images than channels are
kept, or this ridge dominates. The covariance has divisor n - 1, as in the released code. Counts, sums and
outer products merge exactly over stages.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.contracts import Stage, param
from strategies.anomaly.base import PatchDetector, joined
from strategies.anomaly.patch_gaussian import Moments, Stages
from strategies.anomaly.token_memory import pieces


class PaDiM(PatchDetector):
    """Fit a Gaussian per position, for all categories together or for each; answer the distance to the
    nearest.
    """

    channels: int = param(
        100,
        "channels kept at random; all where the encoder has no more (published: 100 of 448, 550 of 1,792)",
        ge=1,
    )
    ridge: float = param(0.01, "added to every variance", gt=0, ablate=[0.1])
    per_category: bool = param(
        False, "a set of Gaussians for each category, of which the nearest counts", ablate=[True]
    )
    memory: Stages = param(
        "merge",
        "Gaussians of later stages: merged with the earlier ones, or in their place",
        ablate=["replace"],
        since_stage=1,
    )

    def setup(self) -> None:
        """Start without points; the channels are chosen when the first stage shows how many there are."""
        super().setup()
        self.moments = Moments()
        self.kept = torch.zeros(0, dtype=torch.long)

    def fit(self, tokens: Tensor, categories: Tensor, stage: Stage) -> None:
        """Add the stage's images to the Gaussians of their positions."""
        if not len(self.kept):
            order = self.context.stream("channels").permutation(tokens.shape[1] * tokens.shape[3])
            self.kept = torch.from_numpy(order[: self.channels]).to(self.context.device)
        if self.memory == "replace":
            self.moments.clear()
        sets = categories if self.per_category else torch.zeros_like(categories)
        for rows, part in pieces(tokens, self.context):
            self.moments.add(joined(part)[..., self.kept], sets[rows])

    def maps_of(self, tokens: Tensor) -> Tensor:
        """Return the distance of every patch at its position, float32 (N, P)."""
        return self.moments.distances(joined(tokens)[..., self.kept], ridge=self.ridge).float()
