"""The random crop of CIFAR recipes: a border of zeros, the old size cut out anywhere, some images mirrored."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from harness.errors import UserError
from strategies.toolkit.augmentations.base import check_range, images_of

AT_ONCE = 2**21
"""Values that are cut at once. Memory of small blocks is used again; one of more than 32 MB is asked of the
system anew, page by page.
"""


class PaddedCrop:
    """Surround images (B, C, H, W) with zeros and cut the old size out at a random place.

    `padded-crop[mirror=0.5]` is what ELR, DivideMix and nested co-teaching show of CIFAR (torchvision's
    RandomCrop(32, padding=4) and RandomHorizontalFlip).
    """

    def __init__(self, *, pad: int = 4, mirror: float = 0.0) -> None:
        """Take the width of the border in px, and the chance that left and right change places."""
        if isinstance(pad, bool) or not isinstance(pad, int) or pad < 0:
            raise UserError(f"padded-crop needs pad as a whole number of pixels, got {pad!r}")
        check_range("padded-crop", 0, 1, mirror=mirror)
        self.pad, self.mirror = pad, mirror

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return images of the same size; three random numbers are drawn for every image in any case."""
        images = images_of(inputs, "padded-crop").contiguous()
        luck = torch.rand(3, len(images), generator=generator, device=images.device)
        places = 2 * self.pad + 1
        top, left = (luck[:2] * places).long().clamp_(max=places - 1)
        cut = torch.empty_like(images)
        step = max(1, AT_ONCE // images[0].numel())
        for start in range(0, len(images), step):
            part = slice(start, start + step)
            cut_out(pad(images[part], [self.pad] * 4), top[part], left[part], into=cut[part])
            (turned,) = (luck[2, part] < self.mirror).nonzero(as_tuple=True)
            cut[part].index_copy_(0, turned, cut[part][turned].flip(-1))
        return cut


def cut_out(images: Tensor, top: Tensor, left: Tensor, *, into: Tensor) -> None:
    """Copy a rectangle of every image (B, C, H, W) with its corner at int64 `top` and `left` (B,) in px,
    inside the image.

    A row of a rectangle is a run of neighbours in memory, so it is copied whole: every place where a run may
    begin is a row of an overlapping view of the memory, and the rows wanted are picked from it.

    Args:
        images: contiguous.
        top, left: corners.
        into: (B, C, h, w), contiguous, takes the rectangles.
    """
    batch, channels, rows, columns = images.shape
    height, width = into.shape[-2:]
    runs = images.as_strided((images.numel() - width + 1, width), (1, 1))
    planes = torch.arange(batch * channels, device=images.device).view(batch, channels, 1) * (rows * columns)
    inside = (top[:, None] + torch.arange(height, device=images.device)) * columns + left[:, None]
    torch.index_select(runs, 0, (planes + inside[:, None]).flatten(), out=into.view(-1, width))
