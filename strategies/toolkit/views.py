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
"""From inputs (B, ...) and a generator to as many changed inputs of the same shape."""


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


VIEWS: dict[str, Callable[..., View]] = {"same": Same, "affine": Affine, "crop": Crop, "token-dropout": TokenDropout, "noise": Noise}


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
