"""Some images without their colours."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from strategies.toolkit.augmentations import colours
from strategies.toolkit.augmentations.base import check_range, colours_of


class Grey:
    """Replace all channels by the luma; `grey` is SimCLR's and BYOL's."""

    def __init__(self, *, chance: float = 0.2) -> None:
        """Take the chance that an image turns grey."""
        check_range("grey", 0, 1, chance=chance)
        self.chance = chance

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return images (B, C, H, W) of the same size; one random number is drawn for every image."""
        images = colours_of(inputs, "grey")
        luck = torch.rand(len(images), generator=generator, device=images.device)
        (rows,) = (luck < self.chance).nonzero(as_tuple=True)
        return images.index_copy(0, rows, colours.grey(images[rows]).expand(-1, images.shape[1], -1, -1))
