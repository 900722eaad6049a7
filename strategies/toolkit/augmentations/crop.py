"""The random crop of GCD and Happy."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from harness.errors import UserError
from strategies.toolkit.augmentations.base import images_of


class Crop:
    """Enlarge images, cut a square out at a random place, mirror half of them (the "imagenet" augmentation of GCD
    and Happy).

    By default images grow by 8/7 and the old size is cut out, so that a crop costs what its image does. As
    published every image is brought
    to 256 px and 224 are cut out, also of 32: `crop[size=224,of=256]`; a network that answers with
    `crop_pct=0.875` sees the same scale.
    """

    def __init__(self, *, mirror: bool = True, size: int = 0, of: int = 0) -> None:
        """Take whether left and right may change places, the side that is cut out, and the side it is cut
        from, in px; both or none.

        Raises:
            UserError: sides that are no whole numbers, or a crop larger than what it is cut from.
        """
        for name, value in (("size", size), ("of", of)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise UserError(f"crop needs {name} as a whole number of pixels, got {value!r}")
        if (size == 0) != (of == 0) or size > of:
            raise UserError(
                "crop cuts size pixels out of as many or more, such as crop[size=224,of=256], got "
                f"size={size} and of={of}"
            )
        self.mirror, self.size, self.of = mirror, size, of

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return images (B, C, size, size), without a size as large as they were."""
        images = images_of(inputs, "crop")
        size = self.size or images.shape[-1]
        large = self._enlarged(images)
        spare = large.shape[-1] - size
        places = torch.rand(3, len(images), generator=generator, device=images.device)
        top, left = (places[:2] * (spare + 1)).long().clamp_(max=spare)
        span = torch.arange(size, device=images.device)
        columns = left[:, None] + span
        if self.mirror:
            columns = torch.where(places[2, :, None] < 0.5, columns.flip(1), columns)
        each = torch.arange(len(images), device=images.device)[:, None, None]
        return large.permute(0, 2, 3, 1)[
            each, (top[:, None] + span)[:, :, None], columns[:, None, :]
        ].permute(0, 3, 1, 2)

    def _enlarged(self, images: Tensor) -> Tensor:
        if not self.of:
            return interpolate(
                images, size=round(images.shape[-1] * 8 / 7), mode="bicubic", align_corners=False
            )
        if tuple(images.shape[-2:]) == (self.of, self.of):
            return images
        return interpolate(
            images, size=(self.of, self.of), mode="bicubic", align_corners=False, antialias=True
        ).clamp(0, 1)
