"""Images times random masks of one law: the control beside `noise-mask`, which learns the law."""

from __future__ import annotations

import torch

from harness.contracts import param
from strategies.components.masks import Masks
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.training.loop import Batch


class FixedMask(Masks):
    """Multiply images by random masks, every cell Beta(alpha, alpha)."""

    alpha: float = param(
        1.0, "of the law of a cell; larger is nearer to a half everywhere", gt=0, ablate=[4.0]
    )

    def change(self, network: Classifier, batch: Batch) -> Batch:
        """Return the batch with masked images."""
        if batch.done >= self.share:
            return batch
        grid = self.cells_along(network)
        rng = self.stream(f"masks-{batch.step}")
        return self.masked(
            batch, torch.from_numpy(rng.beta(self.alpha, self.alpha, (len(batch.rows), grid, grid)))
        )
