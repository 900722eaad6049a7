"""One Gaussian over the patches of all positions: the anomaly score of a patch is its Mahalanobis distance.

    score = sqrt((x - m)' (S + r I)^-1 (x - m)),  r a share of the mean variance        (Mahalanobis 1936)

Counts, sums and outer products are kept in float64, so the Gaussian of several stages is exactly that of
their union (merge), and nothing is forgotten. Where several categories share one Gaussian it is wide and says
little; with one per category the nearest counts.

Legend: N images, S sets of Gaussians, L Gaussians in a set, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from harness.contracts import Stage, param
from strategies.anomaly.base import PatchDetector, joined
from strategies.anomaly.token_memory import pieces

Stages = Literal["merge", "replace"]

_AT_ONCE = 2**24  # numbers turned to float64 at once
_SMALLEST = 1e-6  # of a variance, where patches do not differ at all


class Moments:
    """Counts, sums and outer products of sets of Gaussians, in float64 and mergeable; S and L are found when
    the first points come.
    """

    def __init__(self) -> None:
        self.counts, self.sums, self.products = torch.zeros(0), torch.zeros(0), torch.zeros(0)
        self.fitted: tuple[Tensor, Tensor] | None = None

    def clear(self) -> None:
        """Forget all points."""
        self.load_state_dict(dict.fromkeys(("counts", "sums", "products"), torch.zeros(0)))

    def add(self, points: Tensor, sets: Tensor) -> None:
        """Add points (N, L, D), each to the set that `sets` int64 (N,) names; new sets are made as needed."""
        _, length, channels = points.shape
        needed = int(sets.max()) + 1
        if needed > len(self.counts):
            shapes = [(needed,), (needed, length, channels), (needed, length, channels, channels)]
            before = (self.counts, self.sums, self.products)
            self.counts, self.sums, self.products = (
                _grown(old, shape, points) for old, shape in zip(before, shapes, strict=True)
            )
        at_once = max(1, _AT_ONCE // (length * channels))
        for one in sorted(set(sets.tolist())):
            rows = torch.nonzero(sets == one)[:, 0]
            for start in range(0, len(rows), at_once):
                own = points[rows[start : start + at_once]].double()
                self.counts[one] += len(own)
                self.sums[one] += own.sum(dim=0)
                self.products[one] += torch.einsum("nld,nle->lde", own, own)
        self.fitted = None

    def means(self) -> Tensor:
        """Return the means of the sets with points, float64 (S, L, D)."""
        some = self.counts > 0
        return self.sums[some] / self.counts[some, None, None]

    def covariances(self) -> Tensor:
        """Return their covariances with divisor n - 1 (1 for a single point), float64 (S, L, D, D)."""
        counts, means = self.counts[self.counts > 0, None, None, None], self.means()
        scatter = self.products[self.counts > 0] - counts * means[..., :, None] * means[..., None, :]
        return scatter / (counts - 1).clamp_min(1)

    def distances(self, points: Tensor, *, ridge: float, share: float = 0.0) -> Tensor:
        """Return the Mahalanobis distance of points (N, L, D) to the nearest of the S sets, float64 (N, L).

        Args:
            points: of any float type.
            ridge: added to every variance.
            share: this share of a Gaussian's mean variance is added as well.
        """
        if self.fitted is None:
            covariances = self.covariances()
            added = ridge + share * covariances.diagonal(dim1=-2, dim2=-1).mean(dim=-1)
            covariances.diagonal(dim1=-2, dim2=-1).add_(added[..., None])
            self.fitted = self.means(), torch.linalg.inv(torch.linalg.cholesky(covariances))
        values = points.double()
        found = [
            torch.einsum("lde,nle->nld", whitening, values - mean).square().sum(dim=-1)
            for mean, whitening in zip(*self.fitted, strict=True)
        ]
        return torch.stack(found).amin(dim=0).sqrt()

    def state_dict(self) -> dict[str, Tensor]:
        """Return counts (S,), sums (S, L, D) and outer products (S, L, D, D)."""
        return {"counts": self.counts, "sums": self.sums, "products": self.products}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state_dict` gave."""
        self.counts, self.sums, self.products = state["counts"], state["sums"], state["products"]
        self.fitted = None


class PatchGaussian(PatchDetector):
    """Fit one Gaussian to all patches, or one to those of each category; answer the distance to the nearest."""

    per_category: bool = param(
        False, "a Gaussian for each category, of which the nearest counts", ablate=[True]
    )
    memory: Stages = param(
        "merge",
        "Gaussians of later stages: merged with the earlier ones, or in their place",
        ablate=["replace"],
        since_stage=1,
    )
    ridge: float = param(0.01, "share of the mean variance added to every variance", gt=0, ablate=[0.1])

    def setup(self) -> None:
        """Start without points."""
        super().setup()
        self.moments = Moments()

    def fit(self, tokens: Tensor, categories: Tensor, stage: Stage) -> None:
        """Add the stage's patches."""
        if self.memory == "replace":
            self.moments.clear()
        sets = categories if self.per_category else torch.zeros_like(categories)
        for rows, part in pieces(tokens, self.context):
            points = joined(part)
            self.moments.add(
                points.flatten(0, 1)[:, None], sets[rows, None].expand(points.shape[:2]).flatten()
            )

    def maps_of(self, tokens: Tensor) -> Tensor:
        """Return the distance of every patch, float32 (N, P)."""
        points = joined(tokens)
        distances = self.moments.distances(points.flatten(0, 1)[:, None], ridge=_SMALLEST, share=self.ridge)
        return distances.reshape(points.shape[:2]).float()


def _grown(old: Tensor, shape: tuple[int, ...], like: Tensor) -> Tensor:
    new = torch.zeros(shape, dtype=torch.float64, device=like.device)
    if len(old):
        new[: len(old)] = old
    return new
