"""What encoders check of their parameters and their images, with one sentence for what does not fit."""

from __future__ import annotations

from typing import Any

from harness.errors import UserError


def whole(encoder: str, **values: Any) -> None:
    """Raise `UserError` for a parameter that is not a whole number of at least 1."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(
                f"{name} of encoder {encoder} should be a whole number of at least 1, got {value!r}"
            )


def patches(sides: tuple[int, ...], patch: int, encoder: str) -> tuple[int, int]:
    """Return how many patches lie along height and width.

    Raises:
        UserError: a side that `patch` does not divide.
    """
    height, width = sides
    if height % patch or width % patch or not height or not width:
        raise UserError(
            f"encoder {encoder} cuts images into patches of {patch} x {patch} pixels, which do not fill "
            f"{height} x {width}"
        )
    return height // patch, width // patch
