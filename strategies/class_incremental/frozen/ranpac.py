"""RanPAC: ridge regression on random projections of frozen features, by sums that are updated.

Source: McDonnell et al. 2023, "RanPAC: Random Projections and Pre-trained Models for Continual Learning",
section 4 and algorithm 1. With h = relu(f W), W (d, M) drawn once from a standard normal distribution,

    G <- G + H^T H,   Q <- Q + H^T Y,   logits = h (G + r I)^-1 Q.

The ridge r is chosen anew in every stage among 10^-8 to 10^8, as in the released code: by the squared error on the
last fifth of the stage's items of a fit to its first four fifths. That fit is solved by the eigenvectors of its
Gram matrix of items, or of projections where those are fewer, once for all ridges.

Differences: no training of the network on the first stage by a parameter-efficient method (the paper's phase 1);
sums are kept in double precision; a thousand projections, where the paper takes ten thousand (the preset `paper`),
since memory grows with their square and the time of a stage with their cube. `projections=0` is the paper's "no
random projection" ablation: G and Q of features.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from harness.contracts import Preset, param
from strategies.class_incremental.frozen.base import CHUNK, FrozenFeatures, grown, per_class

_RIDGES = 10.0 ** np.arange(-8, 9)
_FITTED = 0.8


class RanPAC(FrozenFeatures):
    """Project features at random, keep their Gram matrix, answer by ridge regression to the classes."""

    projections: int = param(1000, "random projections M; 0 for the features themselves", ge=0)

    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType(
        {"paper": Preset(values={"projections": 10_000}, source="section 5: for ViT-B/16, 768 features")}
    )

    def setup(self) -> None:
        """Begin without classes."""
        super().setup()
        self.directions: Tensor | None = None
        self.gram: Tensor | None = None
        self.sums: Tensor | None = None
        self.weights: Tensor | None = None
        self.counts: Tensor | None = None

    def update(self, features: Tensor, labels: Tensor, classes: int) -> None:
        """Add to the sums, choose the ridge and solve; the projections are drawn in the first stage."""
        if self.directions is None and self.projections:
            rng = self.context.stream("projections")
            drawn = rng.standard_normal((features.shape[1], self.projections))
            self.directions = torch.from_numpy(drawn).to(features)
        seen, own = self._projected(features), per_class(labels, classes)
        sums, counts = own @ seen, own.sum(dim=1)
        self.sums, self.counts = grown(self.sums, sums) + sums, grown(self.counts, counts) + counts
        self.gram = seen.T @ seen if self.gram is None else self.gram + seen.T @ seen
        ridge = chosen_ridge(seen, own.T)
        eye = torch.eye(len(self.gram), dtype=seen.dtype, device=seen.device)
        self.weights = torch.linalg.solve(self.gram + ridge * eye, self.sums.T)

    def logits(self, features: Tensor) -> Tensor:
        """Return what the regression answers."""
        assert self.weights is not None and self.counts is not None, "learn before you answer"
        answers = [self._projected(part) @ self.weights for part in torch.split(features, CHUNK)]
        return torch.cat(answers).masked_fill(self.counts == 0, -torch.inf)

    def _projected(self, features: Tensor) -> Tensor:
        return features if self.directions is None else torch.relu(features @ self.directions)


def chosen_ridge(seen: Tensor, targets: Tensor) -> float:
    """Return the ridge under which a fit to the first four fifths answers the last fifth best.

    Args:
        seen: projections of a stage's items, float64 (N, M).
        targets: float64 (N, C).
    """
    fitted = int(_FITTED * len(seen))
    rows, held = seen[:fitted], seen[fitted:]
    if len(rows) <= rows.shape[1]:  # h_held H^T (H H^T + r I)^-1 Y, else h_held (H^T H + r I)^-1 H^T Y
        values, vectors = torch.linalg.eigh(rows @ rows.T)
        left, right = held @ rows.T @ vectors, vectors.T @ targets[:fitted]
    else:
        values, vectors = torch.linalg.eigh(rows.T @ rows)
        left, right = held @ vectors, vectors.T @ (rows.T @ targets[:fitted])
    values = values.clamp(min=0.0)
    errors = [
        float(((left / (values + ridge)) @ right - targets[fitted:]).square().mean()) for ridge in _RIDGES
    ]
    return float(_RIDGES[int(np.argmin(errors))])
