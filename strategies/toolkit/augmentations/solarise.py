"""Some images with their bright values inverted."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from harness.errors import UserError
from strategies.toolkit.augmentations.base import check_range, images_of


class Solarise:
    """Invert the values of images in [0, 1] from a threshold on.

    `solarise` is that of UNO and Cr-KD on large crops (small ones: `solarise[chance=0.2]`), with a threshold
    anywhere between black and white; BYOL's is `solarise[chance=0.2,low=0.5,high=0.5]`.
    """

    def __init__(self, *, chance: float = 0.1, low: float = 0.0, high: float = 1.0) -> None:
        """Take the chance that an image changes, and the range that its threshold is drawn from."""
        check_range("solarise", 0, 1, chance=chance, low=low, high=high)
        if low > high:
            raise UserError(f"solarise needs thresholds with low <= high, got low={low:g} and high={high:g}")
        self.chance, self.low, self.high = chance, low, high

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return images (B, C, H, W) of the same size; two random numbers are drawn for every image."""
        images = images_of(inputs, "solarise")
        luck = torch.rand(2, len(images), generator=generator, device=images.device)
        (rows,) = (luck[0] < self.chance).nonzero(as_tuple=True)
        part = images[rows]
        threshold = (self.low + luck[1, rows] * (self.high - self.low))[:, None, None, None]
        return images.index_copy(0, rows, torch.where(part >= threshold, 1 - part, part))
