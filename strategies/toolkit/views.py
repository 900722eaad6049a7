"""Two looks at the same item, as whole batches on the device: shifted and turned images, texts with tokens left out, noisy features.

The protocol names the views, so that all learners see the same kind: `affine[rotate=15]`, `token-dropout[rate=0.3]`. Letters and digits
change their meaning when flipped, so nothing here flips unless told to.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from harness.contracts import Context
from harness.errors import UserError
from harness.selection import chosen

View = Callable[[Tensor, Generator], Tensor]
"""From inputs (B, ...) and a generator to as many changed inputs, of the same shape or, where images are cut, of another size."""


class Same:
    """No change: two looks are equal."""

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return the inputs."""
        return inputs


class Affine:
    """Turn, shift, scale and shear images (B, C, H, W) by uniform amounts, all at once; what comes into sight is zero."""

    def __init__(self, *, rotate: float = 10.0, shift: float = 0.07, scale: float = 0.1, shear: float = 0.1, erase: float = 0.0) -> None:
        """Take the largest amounts: degrees, share of the side, share of the size, tangent; `erase` is the side of a square blotted out."""
        self.rotate, self.shift, self.scale, self.shear, self.erase = rotate, shift, scale, shear, erase

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return images of the same size, bilinearly sampled."""
        images = _images(inputs, "affine")
        amounts = torch.rand(6, len(images), generator=generator, device=images.device) * 2 - 1
        angle, size, shear = amounts[0] * math.radians(self.rotate), 1 + amounts[1] * self.scale, amounts[2] * self.shear
        cosine, sine = torch.cos(angle) / size, torch.sin(angle) / size
        rows = [torch.stack([cosine, shear - sine, amounts[3] * self.shift * 2]), torch.stack([sine, cosine, amounts[4] * self.shift * 2])]
        theta = torch.stack(rows).permute(2, 0, 1)
        moved = grid_sample(images, affine_grid(theta, list(images.shape), align_corners=False), align_corners=False)
        return self._erased(moved, generator) if self.erase else moved

    def _erased(self, images: Tensor, generator: Generator) -> Tensor:
        """Blot out a square of side `erase` x the smaller side at a random place of every image (Zhong et al. 2020)."""
        height, width = images.shape[-2:]
        side = max(1, round(self.erase * min(height, width)))
        corner = torch.rand(2, len(images), 1, generator=generator, device=images.device)
        rows = torch.arange(height, device=images.device) - (corner[0] * (height - side + 1)).floor()
        columns = torch.arange(width, device=images.device) - (corner[1] * (width - side + 1)).floor()
        inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
        return images.masked_fill(inside[:, None], 0.0)


class Crop:
    """Enlarge images by 8/7, cut the old size out at a random place, mirror half of them (the "imagenet" views of GCD and Happy)."""

    def __init__(self, *, mirror: bool = True) -> None:
        """Take whether left and right may change places."""
        self.mirror = mirror

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return images of the same size."""
        images = _images(inputs, "crop")
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


class ResizedCrop:
    """Cut a rectangle out of images (B, C, H, W) at a random place and bring it to one size: the crops of UNO and Cr-KD.

    Their large CIFAR crop is `resized-crop[low=0.5,high=1,mirror=0.5,jitter=0.4,jitter_chance=0.6,solarise=0.1]`, the small one
    `resized-crop[low=0.3,high=0.8,size=18,mirror=0.5,jitter=0.4,jitter_chance=0.8,solarise=0.2]` (Cr-KD at 0f55bea, whose views are those
    of UNO). Left out: jitter of saturation and hue, equalising, and the padded crop that takes the place of every second large one.
    Differences: corners lie between pixels, shrinking does not blur, brightness changes before contrast, and the contrast is about the mean
    of all channels, not that of the grey image. A rectangle that does not fit is not drawn anew: its aspect is drawn among those that fit,
    so that shares of the area are uniform. Aspects are relative to the image's own.
    """

    def __init__(self, *, low: float = 0.5, high: float = 1.0, size: int = 0, mirror: float = 0.0, jitter: float = 0.0,
                 jitter_chance: float = 0.6, solarise: float = 0.0) -> None:  # fmt: skip
        """Take the amounts.

        Args:
            low, high: smallest and largest share of the area.
            size: height and width in pixels of what is returned; 0 for those of the input.
            mirror: chance that left and right change places; 0 by default, for digits would change their meaning.
            jitter: largest change of brightness and of contrast, as a share.
            jitter_chance: chance that these two change at all.
            solarise: chance that all values above a random threshold are inverted.

        Raises:
            UserError: shares of the area that are not 0 < low <= high <= 1.
        """
        if not 0 < low <= high <= 1:
            raise UserError(f"resized-crop needs shares of the area with 0 < low <= high <= 1, got low={low:g} and high={high:g}")
        self.low, self.high, self.size, self.mirror = low, high, size, mirror
        self.jitter, self.jitter_chance, self.solarise = jitter, jitter_chance, solarise

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return float images (B, C, size, size), or (B, C, H, W) at size 0; raise `UserError` where the inputs are no images.

        Geometry does not depend on whether colours change: ten random numbers are drawn for every image in any case.
        """
        images = _images(inputs, "resized-crop")
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
        theta = torch.stack([torch.stack([width, zero, across]), torch.stack([zero, height, down])]).permute(2, 0, 1)
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


class TokenDropout:
    """Leave tokens out of items (B, tokens, D); absent tokens are zero rows, and one token always stays."""

    def __init__(self, *, rate: float = 0.3) -> None:
        """Take the share left out, in [0, 1)."""
        if not 0 <= rate < 1:
            raise UserError(f"token-dropout needs a rate in [0, 1), got {rate}")
        self.rate = rate

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return items of the same shape with more zero rows."""
        if inputs.ndim != 3:
            raise UserError(f"views token-dropout need items (tokens, D), the inputs have shape {tuple(inputs.shape[1:])}")
        present = inputs.any(dim=2)
        luck = torch.rand(present.shape, generator=generator, device=inputs.device).masked_fill_(~present, -1.0)
        kept = (luck >= self.rate) | (luck == luck.amax(dim=1, keepdim=True))
        return inputs * kept[:, :, None]


class Noise:
    """Add Gaussian noise of standard deviation `std` to any inputs."""

    def __init__(self, *, std: float = 0.1) -> None:
        """Take the standard deviation."""
        self.std = std

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return noisy inputs."""
        return inputs + self.std * torch.randn(inputs.shape, generator=generator, device=inputs.device)


VIEWS: dict[str, Callable[..., View]] = {
    "same": Same,
    "affine": Affine,
    "crop": Crop,
    "resized-crop": ResizedCrop,
    "token-dropout": TokenDropout,
    "noise": Noise,
}


def view_of(text: str) -> View:
    """Return the view that `text` selects.

    Raises:
        UserError: no view of that name, or a parameter it does not have.
    """
    view: View = chosen("views", text, VIEWS)()
    return view


def generator_of(context: Context, name: str) -> Generator:
    """Return a torch generator on the context's device that follows the stream `name`."""
    return torch.Generator(context.device).manual_seed(int(context.stream(name).integers(2**63)))


def _images(inputs: Tensor, name: str) -> Tensor:
    if inputs.ndim != 4:
        raise UserError(f"views {name} need images (C, H, W), the inputs have shape {tuple(inputs.shape[1:])}")
    return inputs
