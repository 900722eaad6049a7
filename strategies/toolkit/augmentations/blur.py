"""Some images blurred."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from harness.errors import UserError
from strategies.toolkit.augmentations.base import check_range, images_of


class Blur:
    """Blur images by a Gaussian of random width; `blur` is SimCLR's of photographs."""

    def __init__(self, *, chance: float = 0.5, low: float = 0.1, high: float = 2.0, window: int = 0) -> None:
        """Take the chance, the range of standard deviations in px, and the odd side of the window in px; 0
        for a tenth of the image.

        Raises:
            UserError: a chance that is none, deviations that are not 0 < low <= high, or an even window.
        """
        check_range("blur", 0, 1, chance=chance)
        if not 0 < low <= high:
            raise UserError(
                f"blur needs standard deviations with 0 < low <= high, got low={low:g} and high={high:g}"
            )
        if window and (window < 0 or window % 2 != 1):
            raise UserError(f"blur needs an odd window, or 0 for a tenth of the image, got {window!r}")
        self.chance, self.low, self.high, self.window = chance, low, high, window

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return images (B, C, H, W) of the same size; two random numbers are drawn for every image."""
        images = images_of(inputs, "blur")
        luck = torch.rand(2, len(images), generator=generator, device=images.device)
        (rows,) = (luck[0] < self.chance).nonzero(as_tuple=True)
        window = self.window or max(3, min(images.shape[-2:]) // 10 | 1)
        deviations = self.low + luck[1, rows] * (self.high - self.low)
        return images.index_copy(0, rows, blurred(images[rows], deviations, window))


def blurred(images: Tensor, deviations: Tensor, window: int) -> Tensor:
    """Return images (B, C, H, W) smoothed along both sides by Gaussians of standard deviation `deviations`
    (B,) in px.

    Each is cut off to `window` places and sums to one; beyond the edge the image is reflected.
    """
    if not len(images):
        return images
    half = window // 2
    places = torch.arange(-half, half + 1, device=images.device)
    weights = (-0.5 * (places / deviations[:, None]) ** 2).softmax(dim=1)[:, :, None, None, None]
    for side, border in ((-1, [half, half, 0, 0]), (-2, [0, 0, half, half])):
        wide, length = pad(images, border, mode="reflect"), images.shape[side]
        images = wide.narrow(side, 0, length) * weights[:, 0]
        for place in range(1, window):
            images.addcmul_(wide.narrow(side, place, length), weights[:, place])
    return images
