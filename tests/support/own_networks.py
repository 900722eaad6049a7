"""A backbone, an encoder and augmentations as somebody brings them along in a file."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from harness.errors import UserError


class Normed(nn.Module):
    """Flatten, then a hidden layer with batch normalisation."""

    def __init__(self, item_shape: tuple[int, ...], *, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(math.prod(item_shape), width), nn.BatchNorm1d(width), nn.ReLU())
        self.features = width

    @staticmethod
    def check_parameters(*, width: int = 16) -> None:
        if width % 2:
            raise UserError(f"Normed needs an even width, got {width}")

    def forward(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.layers(inputs.flatten(1))
        return features


def normed_of(item_shape: tuple[int, ...], *, half: int, label: str = "") -> Normed:
    """Return a hidden layer of twice as many units as `half`."""
    return Normed(item_shape, width=2 * half)


class Patches(nn.Module):
    """The grey means of patches, and the deviations in them."""

    groups, channels, digest = 1, 2, ""

    def __init__(self, item_shape: tuple[int, ...], *, patch: int = 4) -> None:
        super().__init__()
        self.patch = patch
        self.grid = (item_shape[1] // patch, item_shape[2] // patch)

    def forward(self, images: Tensor) -> Tensor:
        parts = images.mean(dim=1).unfold(1, self.patch, self.patch).unfold(2, self.patch, self.patch)
        cells = parts.flatten(3).flatten(1, 2)
        return torch.stack([cells.mean(dim=2), cells.std(dim=2)], dim=2)[:, None]


class Shifted:
    """Every input plus a number."""

    def __init__(self, *, by: float = 1.0) -> None:
        self.by = by

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        return inputs + self.by
