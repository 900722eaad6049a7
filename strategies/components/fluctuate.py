"""Features with noise, whose loss counts less the more noise there is (Chen et al. 2024, Composed Image Retrieval with
Text Feedback via Multi-grained Uncertainty Regularization, arXiv 2211.07394; released code at f1fd828).

There it is a loss of retrieval; here features f (B, D) of a classifier fluctuate and go through its head again. The
loss is g L_u + (1 - g) CE, g falling from 1 to 0 over a stage, so that near candidates are not pushed off early.

- `relative` (this project's): f~ = f + e_i |f| n / |n|, brought back to the length of f, e_i uniform in [0, `noise`]
  for every item, L_u = mean_i exp(-e_i) CE(head(f~_i)).
- `released`: f~ = a (f - m_i) / d_i + b, a ~ N(1, d_i), b ~ N(m_i, d_i) for every entry, m_i and d_i mean and
  deviation of a row's entries; L_u = (exp(-s) CE(head(f~)) + s) / 2, s the deviation of all entries of f~, one number
  for all; g = exp(-epoch / epochs), which ends at 0.37.

The released weight of about exp(-1) / 2 is by itself most of what the released form does: `rate` is its control. The
component adds what g L_u + (1 - g) CE differs from CE by, whatever the learner's own loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional

from harness.contracts import param
from strategies.components.contract import Component
from strategies.components.losses import cross_entropies
from strategies.ood_scores import Seen
from strategies.toolkit.augmentations import generator_of
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch


def moved(features: Tensor, sizes: Tensor, noise: Tensor) -> Tensor:
    """Return features (B, D) plus noise (B, D) of `sizes` (B,) of their length, at the length they had."""
    length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    found = features + sizes[:, None] * length * functional.normalize(noise, dim=1)
    there: Tensor = length * functional.normalize(found, dim=1)
    return there


def moved_as_released(features: Tensor, factors: Tensor, offsets: Tensor) -> Tensor:
    """Return a (f - m) / d + b with a = 1 + d factors and b = m + d offsets, m and d of the rows of features (B, D).

    Args:
        features: (B, D).
        factors, offsets: standard normal, (B, D).
    """
    deviation, mean = torch.std_mean(features, dim=1, keepdim=True)
    standard = (features - mean) / deviation.clamp_min(1e-12)
    found: Tensor = (1 + deviation * factors) * standard + mean + deviation * offsets
    return found


class Fluctuate(Component):
    """Learn from features with noise first, and from clean ones last."""

    noise: float = param(0.5, "largest noise of a row, of its length", ge=0, le=1, ablate=[1.0])
    form: Literal["relative", "released"] = param("relative", "which noise and weight", ablate=["released"])
    weighted: bool = param(True, "whether noise counts less: off for noise alone", ablate=[False])
    always: bool = param(False, "whether features fluctuate to the end", ablate=[True])

    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({"noise": 0.0})

    def term(self, network: Classifier, batch: Batch, seen: Seen) -> Tensor | None:
        """Return g (L_u - CE); None where there is no noise."""
        if not self.noise and self.form == "relative":
            return None
        assert network.head is not None
        features, clean = (each[: len(batch.labels)] for each in seen)
        draws = generator_of(self.context, f"{self.stream_name}-{batch.step}")
        if self.form == "released":
            noisy = moved_as_released(features, *(_normal(features, draws) for _ in range(2)))
            size = noisy.float().std()
            loss = cross_entropies(network.head(noisy), batch).mean()
            uncertain = 0.5 * (torch.exp(-size) * loss + size) if self.weighted else loss
        else:
            sizes = self.noise * torch.rand(len(features), generator=draws, device=features.device)
            noisy = moved(features, sizes, _normal(features, draws))
            losses = cross_entropies(network.head(noisy), batch)
            uncertain = (torch.exp(-sizes) * losses if self.weighted else losses).mean()
        return self._share(batch) * (uncertain - cross_entropies(clean, batch).mean())

    def _share(self, batch: Batch) -> float:
        """Return g."""
        if self.always:
            return 1.0
        return math.exp(-batch.epoch / batch.epochs) if self.form == "released" else 1 - batch.done


def _normal(features: Tensor, draws: Generator) -> Tensor:
    return torch.randn(features.shape, generator=draws, device=features.device)
