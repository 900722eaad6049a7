"""Small networks for a CPU: `linear`, `mlp`, `cnn`, and `adapter` on frozen features. Inputs (N, ...) to
features (N, D).
"""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn
from torch.nn.functional import gelu, normalize

from harness.errors import UserError


class Linear(nn.Module):
    """The flattened inputs themselves: with its head a linear classifier, which starts from zero as theory
    has it.
    """

    zero_head = True

    def __init__(self, item_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.features = math.prod(item_shape)

    def parts(self) -> list[nn.Module]:
        """Return the one piece, which has no weights."""
        return [self]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs (N, D)."""
        return inputs.flatten(1)


class MLP(nn.Module):
    """Flatten, then `depth` fully connected ReLU layers of `width` units."""

    def __init__(self, item_shape: tuple[int, ...], *, width: int = 128, depth: int = 2) -> None:
        super().__init__()
        sizes = [math.prod(item_shape), *[width] * depth]
        layers = [
            layer
            for fan_in, fan_out in itertools.pairwise(sizes)
            for layer in (nn.Linear(fan_in, fan_out), nn.ReLU())
        ]
        self.layers = nn.Sequential(nn.Flatten(), *layers)
        self.features = sizes[-1]

    def parts(self) -> list[nn.Module]:
        """Return one piece per layer."""
        layers = list(self.layers)
        return [
            nn.Sequential(*layers[:3]),
            *(nn.Sequential(*layers[at : at + 2]) for at in range(3, len(layers), 2)),
        ]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features (N, width)."""
        features: Tensor = self.layers(inputs)
        return features


class CNN(nn.Module):
    """Three 3x3 convolutions with group norm and stride 2, then the mean over positions; for small images on
    a CPU.
    """

    def __init__(self, item_shape: tuple[int, ...], *, width: int = 32) -> None:
        super().__init__()
        if len(item_shape) != 3:
            raise UserError(f"backbone cnn needs images (C, H, W), the inputs have shape {item_shape}")
        sizes = [item_shape[0], width, 2 * width, 4 * width]
        blocks = [
            nn.Sequential(
                nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1, bias=False),
                nn.GroupNorm(8, fan_out),
                nn.ReLU(),
            )
            for fan_in, fan_out in itertools.pairwise(sizes)
        ]
        self.layers = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.features = sizes[-1]

    def parts(self) -> list[nn.Module]:
        """Return one piece per convolution; the last one pools."""
        layers = list(self.layers)
        return [*layers[:2], nn.Sequential(*layers[2:])]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features (N, 4 * width)."""
        features: Tensor = self.layers(inputs)
        return features


class Adapter(nn.Module):
    """Frozen features with a trainable residual layer on top: x + W2 gelu(W1 x), x of unit length.

    Items are feature vectors (D,), or sets of them (tokens, D) of which the mean over the rows that are not
    zero counts.
    """

    def __init__(self, item_shape: tuple[int, ...], *, width: int = 512) -> None:
        super().__init__()
        if len(item_shape) not in (1, 2):
            raise UserError(
                f"backbone adapter needs features (D,) or (tokens, D), the inputs have shape {item_shape}"
            )
        self.pool = UnitMean()
        self.layer = Residual(item_shape[-1], width)
        self.features = item_shape[-1]

    def parts(self) -> list[nn.Module]:
        """Return the pooling, which has no weights, and the layer."""
        return [self.pool, self.layer]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features (N, D)."""
        features: Tensor = self.layer(self.pool(inputs))
        return features


class UnitMean(nn.Module):
    """The mean of an item's rows that are not zero, at unit length."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (N, D)."""
        return normalize(
            inputs.sum(dim=1) if inputs.ndim == 3 else inputs, dim=1
        )  # a mean and a sum point the same way


class Residual(nn.Module):
    """x + W2 gelu(W1 x)."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(features, width), nn.Linear(width, features)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (N, D)."""
        return inputs + self.out(gelu(self.into(inputs)))  # type: ignore[no-any-return]
