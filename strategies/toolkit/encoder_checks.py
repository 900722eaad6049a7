"""What encoders check of their parameters, their images and their weights files, with one sentence for what does not fit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.errors import UserError


def whole(encoder: str, **values: Any) -> None:
    """Raise `UserError` for a parameter that is not a whole number of at least 1."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{name} of encoder {encoder} should be a whole number of at least 1, got {value!r}")


def patches(sides: tuple[int, ...], patch: int, encoder: str) -> tuple[int, int]:
    """Return how many patches lie along height and width.

    Raises:
        UserError: a side that `patch` does not divide.
    """
    height, width = sides
    if height % patch or width % patch or not height or not width:
        raise UserError(f"encoder {encoder} cuts images into patches of {patch} x {patch} pixels, which do not fill {height} x {width}")
    return height // patch, width // patch


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a weights file; raise `UserError` where it cannot be read."""
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read weights file {file}: {error.strerror or error}") from None


def tensors_of(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file by name, of safetensors or of `torch.save`; nothing in it is executed.

    A file that keeps them below `state_dict`, `model` or `teacher` is read there.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives raise whatever their reader stumbles over
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"cannot read weights file {file}: {reason}") from None
    for key in ("state_dict", "model", "teacher"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"weights file {file} holds no tensors by name")
    return dict(content)
