"""Some images with their histograms made even."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from strategies.toolkit.augmentations.base import check_range, images_of


class Equalise:
    """Make the histogram of every channel even, as PIL's ImageOps.equalize and torchvision's `equalize` do
    with bytes.

    `equalise` is that of UNO and Cr-KD on large crops, `equalise[chance=0.2]` on small ones.
    """

    def __init__(self, *, chance: float = 0.1) -> None:
        """Take the chance that an image changes."""
        check_range("equalise", 0, 1, chance=chance)
        self.chance = chance

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return images (B, C, H, W) in [0, 1] of the same size; those that change are rounded to bytes.
        Draws one number an image.
        """
        images = images_of(inputs, "equalise")
        luck = torch.rand(len(images), generator=generator, device=images.device)
        (rows,) = (luck < self.chance).nonzero(as_tuple=True)
        return images.index_copy(0, rows, equalised(images[rows]))


def equalised(images: Tensor) -> Tensor:
    """Return images (B, C, H, W) in [0, 1] with even histograms.

    With n pixels in a channel, m of them at its largest value, and step = (n - m) // 255, a value with b
    pixels below it goes to (step // 2 + b) // step, at most 255; where step is 0, nothing changes.
    """
    values = (images * 255).round_().long().flatten(2)
    counts = torch.zeros(*values.shape[:2], 256, dtype=torch.long, device=images.device)
    counts.scatter_add_(2, values, torch.ones_like(values))
    below = counts.cumsum(dim=2) - counts
    step = below.gather(2, values.amax(dim=2, keepdim=True)) // 255
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    table = torch.where(step == 0, torch.arange(256, device=images.device), table)
    return table.gather(2, values).view(images.shape).to(images.dtype).div_(255)
