"""What an augmentation is, and what augmentations check of their parameters and inputs."""

from __future__ import annotations

from collections.abc import Callable

from torch import Generator, Tensor

from harness.errors import UserError

Augmentation = Callable[[Tensor, Generator], Tensor]
"""From inputs (B, ...) and a generator to as many changed inputs, of the same shape or, where images are cut,
of another size.
"""


def images_of(inputs: Tensor, name: str) -> Tensor:
    """Return `inputs`; raise `UserError` where they are no images (B, C, H, W)."""
    if inputs.ndim != 4:
        raise UserError(
            f"augmentation {name} needs images (C, H, W), the inputs have shape {tuple(inputs.shape[1:])}"
        )
    return inputs


def colours_of(inputs: Tensor, name: str) -> Tensor:
    """Return `inputs`; raise `UserError` where they are no images (B, C, H, W) with one channel or with red,
    green and blue.
    """
    images = images_of(inputs, name)
    if images.shape[1] not in (1, 3):
        raise UserError(
            f"augmentation {name} needs images of 1 or 3 channels, the inputs have {images.shape[1]}"
        )
    return images


def check_range(name: str, least: float, most: float, /, **amounts: float) -> None:
    """Raise `UserError` that names the augmentation and the first of `amounts` that is no number in [least, most]."""
    for amount, value in amounts.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise UserError(f"{name} needs {amount} between {least:g} and {most:g}, got {value!r}")
