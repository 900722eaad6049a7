"""Images turned, shifted, scaled and sheared: for letters and digits, which must not be flipped."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample

from strategies.toolkit.augmentations.base import images_of


class Affine:
    """Turn, shift, scale and shear images (B, C, H, W) by uniform amounts, all at once; what comes into sight
    is zero.
    """

    def __init__(
        self,
        *,
        rotate: float = 10.0,
        shift: float = 0.07,
        scale: float = 0.1,
        shear: float = 0.1,
        erase: float = 0.0,
    ) -> None:
        """Take the largest amounts: degrees, share of the side, share of the size, tangent; `erase` is the
        side of a square blotted out.
        """
        self.rotate, self.shift, self.scale, self.shear, self.erase = rotate, shift, scale, shear, erase

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return images of the same size, bilinearly sampled."""
        images = images_of(inputs, "affine")
        amounts = torch.rand(6, len(images), generator=generator, device=images.device) * 2 - 1
        angle, size, shear = (
            amounts[0] * math.radians(self.rotate),
            1 + amounts[1] * self.scale,
            amounts[2] * self.shear,
        )
        cosine, sine = torch.cos(angle) / size, torch.sin(angle) / size
        rows = [
            torch.stack([cosine, shear - sine, amounts[3] * self.shift * 2]),
            torch.stack([sine, cosine, amounts[4] * self.shift * 2]),
        ]
        theta = torch.stack(rows).permute(2, 0, 1)
        moved = grid_sample(
            images, affine_grid(theta, list(images.shape), align_corners=False), align_corners=False
        )
        return self._erased(moved, generator) if self.erase else moved

    def _erased(self, images: Tensor, generator: Generator) -> Tensor:
        """Blot out a square of side `erase` x the smaller side at a random place of every image (Zhong et al.
        2020).
        """
        height, width = images.shape[-2:]
        side = max(1, round(self.erase * min(height, width)))
        corner = torch.rand(2, len(images), 1, generator=generator, device=images.device)
        rows = torch.arange(height, device=images.device) - (corner[0] * (height - side + 1)).floor()
        columns = torch.arange(width, device=images.device) - (corner[1] * (width - side + 1)).floor()
        inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
        return images.masked_fill(inside[:, None], 0.0)
