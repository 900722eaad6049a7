"""An autoencoder with two passes that share their weights: a noisy one, which is decoded, and a clean one,
whose values are to be rebuilt.

The encoder has two hidden depths and an embedding, the decoder gives back all three depths (DEPICT, Dizaji et
al. 2017; released code at e75840d, whose kernels for MNIST fit images of any size here):

    loss = |decoded 0 - input|^2 + w |decoded 1 - clean 1|^2 + w |decoded 2 - clean 2|^2        means over
    items and units

Images are brought to [-1, 1] and go through convolutions; vectors are centred and scaled, and go through
dense layers, which is ours: the paper has images alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, mse_loss

from harness.errors import Unsuitable
from strategies.toolkit.networks import UnitMean

_LEAK = 0.01
_SMALLEST = 8


class Encoded(NamedTuple):
    """depths: the prepared inputs and both hidden depths, as they are or as decoded.  embedding: (B, K) in
    (-1, 1).
    """

    depths: tuple[Tensor, Tensor, Tensor]
    embedding: Tensor


class Layers(NamedTuple):
    """Two encoding steps, the step to the embedding, and three decoding steps."""

    encoder: list[nn.Module]
    embed: nn.Module
    decoder: list[nn.Module]


class Autoencoder(nn.Module):
    """Embeddings of images (C, H, W), vectors (D,), or sets of vectors (tokens, D), of which the mean at unit
    length counts.
    """

    def __init__(
        self,
        item_shape: tuple[int, ...],
        dimensions: int,
        *,
        filters: int = 50,
        units: int = 128,
        noise: float = 0.1,
    ) -> None:
        """Make the layers with Glorot-uniform weights.

        Args:
            item_shape: of an input, without the batch.
            dimensions: of the embedding, K.
            filters: of either convolution, for images.
            units: of either hidden layer, for vectors.
            noise: dropout on the input and the first hidden depth in the noisy pass; the second has none.

        Raises:
            Unsuitable: images smaller than 8 x 8, or items with more than three axes.
        """
        super().__init__()
        self.noise = noise
        is_image = len(item_shape) == 3
        if not 1 <= len(item_shape) <= 3 or (is_image and min(item_shape[1:]) < _SMALLEST):
            raise Unsuitable(
                "its autoencoder takes images (C, H, W) from 8 x 8, (tokens, D) or (D,), the inputs have "
                f"shape {item_shape}"
            )
        layers = (
            _convolutions(item_shape, dimensions, filters)
            if is_image
            else _dense(item_shape[-1], dimensions, units)
        )
        self.pool = UnitMean() if len(item_shape) == 2 else nn.Identity()
        self.encoder, self.embed, self.decoder = (
            nn.ModuleList(layers.encoder),
            layers.embed,
            nn.ModuleList(layers.decoder),
        )
        self.register_buffer(
            "centre", torch.full((1,) if is_image else item_shape[-1:], 0.5 if is_image else 0.0)
        )
        self.register_buffer("scale", torch.tensor(0.5 if is_image else 1.0))
        for layer in self.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                assert layer.bias is not None
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def measure(self, inputs: Tensor) -> None:
        """Centre and scale by what is found in `inputs` (N, D) or (N, tokens, D): one mean per feature, one
        deviation for all.

        Images keep the way from [0, 1] to [-1, 1].
        """
        if inputs.ndim == 4:
            return
        pooled = self.pool(inputs)
        self.centre = pooled.mean(dim=0)
        self.scale = (pooled - self.centre).square().mean().sqrt().clamp_min(1e-6)

    def prepared(self, inputs: Tensor) -> Tensor:
        """Return inputs (B, ...) as the encoder takes them: images (B, C, H, W) in [-1, 1], or vectors (B,
        D).
        """
        values: Tensor = (self.pool(inputs) - self.centre) / self.scale
        return values

    def encode(self, prepared: Tensor, *, noisy: bool = False) -> Encoded:
        """Run the encoder on prepared inputs, with dropout or without, whatever mode the module is in."""
        first = self.encoder[0](dropout(prepared, self.noise, training=noisy))
        first = dropout(first, self.noise, training=noisy)
        second = self.encoder[1](first)
        return Encoded((prepared, first, second), self.embed(second))

    def decode(self, embedding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the decoder makes of embeddings (B, K): input, first and second hidden depth."""
        second = self.decoder[0](embedding)
        first = self.decoder[1](second)
        return self.decoder[2](first), first, second

    @torch.no_grad()
    def embedded(self, prepared: Tensor, *, chunk: int = 512) -> Tensor:
        """Return clean embeddings (N, K) of prepared inputs, in chunks."""
        return torch.cat([self.encode(part).embedding for part in torch.split(prepared, chunk)])


def reconstruction_loss(
    decoded: tuple[Tensor, Tensor, Tensor], clean: tuple[Tensor, Tensor, Tensor], layer_weight: float
) -> Tensor:
    """Return the squared errors of three depths, input 1 and hidden ones `layer_weight` each; the clean
    depths have a gradient too.
    """
    errors = [mse_loss(rebuilt, wanted) for rebuilt, wanted in zip(decoded, clean, strict=True)]
    return errors[0] + layer_weight * (errors[1] + errors[2])


def _convolutions(item_shape: tuple[int, ...], dimensions: int, filters: int) -> Layers:
    """Kernels 4 and 5 at stride 2, the second padded by 2, and their transposes, padded where a side would
    come back a pixel short.
    """
    channels, *sides = item_shape
    halves = [(side - 4) // 2 + 1 for side in sides]
    quarters = [(half - 1) // 2 + 1 for half in halves]
    flat = filters * math.prod(quarters)
    encoder = [
        _leaky(nn.Conv2d(channels, filters, 4, stride=2)),
        _leaky(nn.Conv2d(filters, filters, 5, stride=2, padding=2)),
    ]
    middle = nn.ConvTranspose2d(
        filters, filters, 5, stride=2, padding=2, output_padding=_two([(half - 1) % 2 for half in halves])
    )
    last = nn.ConvTranspose2d(
        filters, channels, 4, stride=2, output_padding=_two([side % 2 for side in sides])
    )
    decoder = [
        nn.Sequential(
            nn.Linear(dimensions, flat), nn.LeakyReLU(_LEAK), nn.Unflatten(1, (filters, *quarters))
        ),
        _leaky(middle),
        nn.Sequential(last, nn.Tanh()),
    ]
    return Layers(encoder, nn.Sequential(nn.Flatten(), nn.Linear(flat, dimensions), nn.Tanh()), decoder)


def _dense(features: int, dimensions: int, units: int) -> Layers:
    encoder = [_leaky(nn.Linear(features, units)), _leaky(nn.Linear(units, units))]
    decoder = [
        _leaky(nn.Linear(dimensions, units)),
        _leaky(nn.Linear(units, units)),
        nn.Linear(units, features),
    ]
    return Layers(encoder, nn.Sequential(nn.Linear(units, dimensions), nn.Tanh()), decoder)


def _leaky(layer: nn.Module) -> nn.Module:
    return nn.Sequential(layer, nn.LeakyReLU(_LEAK))


def _two(sides: list[int]) -> tuple[int, int]:
    height, width = sides
    return height, width
