"""Changes of colour, in place, on images (B, 3, H, W) in [0, 1], each image by an amount of its own.

They are those of torchvision's `adjust_brightness`, `adjust_contrast`, `adjust_saturation` and `adjust_hue`
(PIL's round to bytes after each change), written so that a batch takes few passes over memory. Images of one
channel have no saturation and no hue.
"""

from __future__ import annotations

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey (ITU-R BT.601), as in PIL's mode L."""


def grey(images: Tensor) -> Tensor:
    """Return the luma (B, 1, H, W) of images (B, 3, H, W); of one channel, themselves."""
    if images.shape[1] == 1:
        return images
    red, green, blue = (images[:, channel : channel + 1] for channel in range(3))
    luma: Tensor = (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])
    return luma


def brighten_(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply by `factor` (B, 1, 1, 1) and cut at 1."""
    return images.mul_(factor).clamp_(max=1)


def contrast_(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distance to the mean luma of the image by `factor` (B, 1, 1, 1) and cut to [0, 1]."""
    means = images.mean(dim=(2, 3), keepdim=True)
    return _away_from(grey(means), images, factor)


def saturate_(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distance to the luma of the pixel by `factor` (B, 1, 1, 1) and cut to [0, 1]."""
    return images if images.shape[1] == 1 else _away_from(grey(images), images, factor)


def turn_hue_(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue by `turns` (B, 1, 1, 1), a share of the whole circle; the largest and the smallest value
    of every pixel stay.

    With h the hue, a channel whose own hue is c has the value min + (max - min) clamp(2 - 6 d, 0, 1), d the
    distance of h and c on the circle, at most 1/2. So no sector has to be looked up on the way back.
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = (images[:, channel : channel + 1] for channel in range(3))
    high, low = torch.maximum(torch.maximum(red, green), blue), torch.minimum(torch.minimum(red, green), blue)
    span = high - low
    scale = (6 * span).clamp_(min=1e-12)
    # Choosing by a mask of zeros and ones is four times as fast on a CPU as torch.where.
    mask = torch.empty_like(high)
    hue = (
        (red - green)
        .div_(scale)
        .add_(2 / 3)
        .lerp_((blue - red).div_(scale).add_(1 / 3), torch.eq(high, green, out=mask))
    )
    hue.lerp_((green - blue).div_(scale), torch.eq(high, red, out=mask)).add_(turns)
    away = hue - torch.arange(3, device=images.device)[:, None, None] / 3
    share = torch.rsub(away.sub_(away.round()).abs_(), 2, alpha=6).clamp_(0, 1)
    return torch.addcmul(low, span, share, out=images)


def _away_from(centre: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    return images.mul_(factor).add_(centre * (1 - factor)).clamp_(0, 1)
