"""The random resized crops of UNO and Cr-KD."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample

from harness.errors import UserError
from strategies.toolkit.augmentations.base import images_of


class ResizedCrop:
    """Cut a rectangle out of images (B, C, H, W) at a random place and bring it to one size: the crops of UNO
    and Cr-KD.

    Their large CIFAR crop is
    `resized-crop[low=0.5,high=1,mirror=0.5,jitter=0.4,jitter_chance=0.6,solarise=0.1]`, the small one
    `resized-crop[low=0.3,high=0.8,size=18,mirror=0.5,jitter=0.4,jitter_chance=0.8,solarise=0.2]` (Cr-KD at
    0f55bea, whose augmentations are those of UNO). Left out: jitter of saturation and hue, equalising, and the padded
    crop that takes the place of every second large one; other augmentations have these (docs/images.md shows the
    whole recipe).
    Differences: corners lie between pixels, shrinking does not blur, brightness changes before contrast, and
    the contrast is about the mean of all channels, not that of the grey image. A rectangle that does not fit
    is not drawn anew: its aspect is drawn among those that fit, so that shares of the area are uniform.
    Aspects are relative to the image's own.
    """

    def __init__(
        self,
        *,
        low: float = 0.5,
        high: float = 1.0,
        size: int = 0,
        mirror: float = 0.0,
        jitter: float = 0.0,
        jitter_chance: float = 0.6,
        solarise: float = 0.0,
    ) -> None:
        """Take the amounts.

        Args:
            low, high: smallest and largest share of the area.
            size: height and width in pixels of what is returned; 0 for those of the input.
            mirror: chance that left and right change places; 0 by default, for digits would change their
                meaning.
            jitter: largest change of brightness and of contrast, as a share.
            jitter_chance: chance that these two change at all.
            solarise: chance that all values above a random threshold are inverted.

        Raises:
            UserError: shares of the area that are not 0 < low <= high <= 1.
        """
        if not 0 < low <= high <= 1:
            raise UserError(
                f"resized-crop needs shares of the area with 0 < low <= high <= 1, got low={low:g} and high={high:g}"
            )
        self.low, self.high, self.size, self.mirror = low, high, size, mirror
        self.jitter, self.jitter_chance, self.solarise = jitter, jitter_chance, solarise

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return float images (B, C, size, size), or (B, C, H, W) at size 0; raise `UserError` where the
        inputs are no images.

        Geometry does not depend on whether colours change: ten random numbers are drawn for every image in
        any case.
        """
        images = images_of(inputs, "resized-crop")
        luck = torch.rand(10, len(images), generator=generator, device=images.device)
        cut = self._cut(images, luck[:5])
        if self.jitter:
            cut = self._jittered(cut, luck[5:8, :, None, None, None])
        if self.solarise:
            chance, threshold = luck[8:, :, None, None, None]
            cut = torch.where((chance < self.solarise) & (cut >= threshold), 1 - cut, cut)
        return cut

    def _cut(self, images: Tensor, luck: Tensor) -> Tensor:
        """Resample the rectangles; luck (5, B): area, aspect, place across and down, mirror."""
        area = self.low + luck[0] * (self.high - self.low)
        widest = torch.clamp(-area.log(), max=math.log(4 / 3))
        stretch = ((luck[1] - 0.5) * widest).exp()
        width, height = area.sqrt() * stretch, area.sqrt() / stretch
        across, down = (2 * luck[2] - 1) * (1 - width), (2 * luck[3] - 1) * (1 - height)
        width = torch.where(luck[4] < self.mirror, -width, width)
        zero = torch.zeros_like(area)
        theta = torch.stack([torch.stack([width, zero, across]), torch.stack([zero, height, down])]).permute(
            2, 0, 1
        )
        sides = (self.size, self.size) if self.size else images.shape[-2:]
        grid = affine_grid(theta, [*images.shape[:2], *sides], align_corners=False)
        return grid_sample(images, grid, padding_mode="border", align_corners=False)

    def _jittered(self, images: Tensor, luck: Tensor) -> Tensor:
        """Change brightness, then contrast; luck (3, B, 1, 1, 1): chance, amounts."""
        factors = 1 + self.jitter * (2 * luck[1:] - 1)
        brightness, contrast = torch.where(luck[0] < self.jitter_chance, factors, torch.ones_like(factors))
        bright = (images * brightness).clamp(0, 1)
        mean = bright.mean(dim=(1, 2, 3), keepdim=True)
        changed: Tensor = (mean + contrast * (bright - mean)).clamp(0, 1)
        return changed
