"""FeCAM: the class whose mean is nearest in a Mahalanobis distance of its own.

Source: Goswami et al. 2023, "FeCAM: Exploiting the Heterogeneity of Class Distributions in Exemplar-Free Continual
Learning", section 3. Features have unit length. The covariance of a class, shrunk by its mean variance v and mean
covariance u,  S + a v I + b u (1 - I),  is divided by the standard deviations on both sides, which makes the
distances of classes comparable.

Followed is the released script for pretrained transformers: a = 1, b = 0, no power transform, means of features of
unit length that are not brought to unit length again. That for networks trained on the first stage takes square
roots of features (Tukey's transform) and a = b = 1.

Difference: a class whose items are all alike, or that has one, has no covariance; its distance is Euclidean.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.contracts import param
from strategies.class_incremental.frozen.base import FrozenFeatures, grown, per_class


class FeCAM(FrozenFeatures):
    """Keep a mean and a covariance a class, answer the class of the least Mahalanobis distance."""

    diagonal: float = param(1.0, "shrinkage by the mean variance (a)", ge=0)
    off_diagonal: float = param(0.0, "shrinkage by the mean covariance (b)", ge=0)

    def setup(self) -> None:
        """Begin without classes."""
        super().setup()
        self.means: Tensor | None = None
        self.counts: Tensor | None = None
        self.scatters: Tensor | None = None

    def update(self, features: Tensor, labels: Tensor, classes: int) -> None:
        """Merge mean and scatter of the new items of a class with those of the earlier ones."""
        features, own = normalize(features, dim=1), per_class(labels, classes)
        sums, counts = own @ features, own.sum(dim=1)
        old_means, old_counts = grown(self.means, sums), grown(self.counts, counts)
        means = sums / counts.clamp(min=1)[:, None]
        spread = features - means[labels]
        parts = (spread[labels == label] for label in range(classes))
        scatters = torch.stack([part.T @ part for part in parts])
        self.counts = old_counts + counts
        between = (old_counts * counts / self.counts.clamp(min=1))[:, None, None]
        shift = means - old_means
        self.scatters = (
            grown(self.scatters, scatters) + scatters + between * shift[:, :, None] * shift[:, None]
        )
        self.means = (old_means * old_counts[:, None] + sums) / self.counts.clamp(min=1)[:, None]

    def logits(self, features: Tensor) -> Tensor:
        """Return minus the squared distances."""
        assert self.means is not None and self.counts is not None and self.scatters is not None, "learn first"
        features = normalize(features, dim=1)
        near = torch.empty(len(features), len(self.means), dtype=features.dtype, device=features.device)
        for label, mean in enumerate(self.means):
            covariance = self.scatters[label] / (self.counts[label] - 1).clamp(min=1)
            away = features - mean
            weighted = torch.linalg.solve(self._normalised(covariance), away.T).T
            near[:, label] = -(away * weighted).sum(dim=1)
        return near.masked_fill(self.counts == 0, -torch.inf)

    def _normalised(self, covariance: Tensor) -> Tensor:
        """Return the shrunk covariance (d, d) with ones on its diagonal; the identity where nothing varies."""
        eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        variance, size = covariance.diagonal().mean(), len(covariance)
        if variance <= 0:
            return eye
        others = (covariance.sum() - covariance.diagonal().sum()) / max(size * (size - 1), 1)
        shrunk = covariance + self.diagonal * variance * eye + self.off_diagonal * others * (1 - eye)
        deviation = shrunk.diagonal().sqrt()
        return shrunk / (deviation[:, None] * deviation)
