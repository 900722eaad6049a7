"""The random crop of GCD and Happy."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from strategies.toolkit.views.base import images_of


class Crop:
    """Enlarge images by 8/7, cut the old size out at a random place, mirror half of them (the "imagenet" views of GCD and Happy)."""

    def __init__(self, *, mirror: bool = True) -> None:
        """Take whether left and right may change places."""
        self.mirror = mirror

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return images of the same size."""
        images = images_of(inputs, "crop")
        size = images.shape[-1]
        large = interpolate(images, size=round(size * 8 / 7), mode="bicubic", align_corners=False)
        spare = large.shape[-1] - size
        places = torch.rand(3, len(images), generator=generator, device=images.device)
        top, left = (places[:2] * (spare + 1)).long().clamp_(max=spare)
        span = torch.arange(size, device=images.device)
        columns = left[:, None] + span
        if self.mirror:
            columns = torch.where(places[2, :, None] < 0.5, columns.flip(1), columns)
        each = torch.arange(len(images), device=images.device)[:, None, None]
        return large.permute(0, 2, 3, 1)[each, (top[:, None] + span)[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
