"""A log-density of patches learned by denoising: the anomaly score of a patch is the envelope of a learned proximal
operator (Fang, Buchanan and Sulam 2024, arXiv 2310.14344; `strategies.ood_scores.proximal`).

Where one Gaussian has one mode, this density has as many as there are. It is learned anew after every stage, from
patches that are kept of all stages alike: one network for all categories.

Legend: N images, P patches, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.contracts import Stage, param
from strategies.anomaly.base import PatchDetector, joined
from strategies.anomaly.token_memory import pieces
from strategies.ood_scores.proximal import envelope, trained


class PatchPrior(PatchDetector):
    """Learn to denoise normal patches by a proximal operator; answer its envelope, a log-density."""

    sigma: float = param(
        0.3,
        "noise in training, where patches have variance one: the bandwidth of the density",
        gt=0,
        ablate=[0.6],
    )
    dimensions: int = param(32, "principal directions of the channels that count", ge=1, ablate=[8])
    width: int = param(96, "units of the two hidden layers", ge=1)
    steps: int = param(4000, "gradient steps of a stage", ge=1)
    memory: int = param(
        20_000, "patches kept, as many of every stage; what a stage is learned from", ge=1, unit="patches"
    )

    def setup(self) -> None:
        """Start without patches."""
        super().setup()
        self.kept: list[Tensor] = []
        self.fitted: dict[str, Tensor] = {}

    def fit(self, tokens: Tensor, categories: Tensor, stage: Stage) -> None:
        """Keep patches of the stage in the place of some earlier ones, and learn from all kept."""
        share = max(1, self.memory // (len(self.kept) + 1))
        rng = self.context.stream("patches")
        chosen = torch.from_numpy(rng.permutation(len(tokens) * tokens.shape[2])[:share])
        found, first = [], 0
        for _, part in pieces(tokens, self.context):
            points = joined(part).flatten(0, 1).cpu()
            found.append(points[chosen[(chosen >= first) & (chosen < first + len(points))] - first])
            first += len(points)
        own = torch.cat(found)
        self.kept = [*(each[:share] for each in self.kept), own[torch.from_numpy(rng.permutation(len(own)))]]
        self.fitted = trained(
            torch.cat(self.kept).double(),
            dimensions=self.dimensions,
            sigma=self.sigma,
            width=self.width,
            steps=self.steps,
            draws=torch.Generator().manual_seed(int(rng.integers(2**63))),
        )

    def maps_of(self, tokens: Tensor) -> Tensor:
        """Return the envelope of every patch, float32 (N, P)."""
        points = joined(tokens)
        found = envelope(self.fitted, points.flatten(0, 1).cpu().double())
        return found.view(points.shape[:2]).float()
