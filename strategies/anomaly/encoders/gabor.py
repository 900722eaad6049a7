"""The moduli of complex Gabor filters: a fixed description of texture at a few scales and angles, without
weights and without training.

A filter is a Gaussian in the frequency plane around a centre of wavelength 4 * 2^s pixels at an angle a pi /
angles, about an octave wide (Gabor 1946; the bank of Jain and Farrokhnia 1991). It passes grey images by fast
Fourier transform:

    feature = log(one grey level + mean over a patch of |image * filter|)        one per scale and angle, and
    the patch's mean grey

In space a filter is exp(-|x|^2 / 2 sigma^2) exp(i <w, x>) / (2 pi sigma^2) with sigma = 0.56 wavelengths,
less its mean. Images are mirrored at their border, so that it has no edge of its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from strategies.anomaly.encoders.checks import patches, whole

PATCH = 4
"""Pixels on a side that share a feature vector."""

GREY_LEVEL = 1 / 255
"""What a modulus has to exceed before its logarithm says anything."""

_SHORTEST = 4.0
_OCTAVE = math.sqrt(math.log(2) / 2) * 3 / math.pi  # sigma in wavelengths at a half-power width of one octave


class Gabor(nn.Module):
    """Images (N, C, H, W) in [0, 1] to tokens (N, 1, P, scales * angles + 1); P counts patches of 4 x 4
    pixels, row by row.
    """

    groups = 1
    digest = ""
    bank: Tensor

    def __init__(self, item_shape: tuple[int, ...], *, scales: int = 3, angles: int = 6) -> None:
        super().__init__()
        whole("gabor", scales=scales, angles=angles)
        self.grid = patches(item_shape[1:], PATCH, "gabor")
        self.channels = scales * angles + 1
        self.margin = margin_for(item_shape[1:], scales)
        self.register_buffer("bank", responses(item_shape[1:], self.margin, scales, angles), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens (N, 1, P, D)."""
        grey = images.mean(dim=1, keepdim=True)
        pooled = avg_pool2d(moduli(grey, self.bank, self.margin), PATCH)
        features = torch.cat([torch.log(GREY_LEVEL + pooled), avg_pool2d(grey, PATCH)], dim=1)
        return features.flatten(2).transpose(1, 2)[:, None]


def moduli(grey: Tensor, bank: Tensor, margin: int) -> Tensor:
    """Return |image * filter| (N, F, H, W) of grey images (N, 1, H, W) under frequency responses (F, H + 2
    margin, W + 2 margin).
    """
    spectrum = torch.fft.fft2(pad(grey, (margin,) * 4, mode="reflect"))
    height, width = grey.shape[2:]
    inside = (..., slice(margin, margin + height), slice(margin, margin + width))
    return torch.cat(
        [torch.fft.ifft2(spectrum * response)[inside].abs() for response in bank[:, None]], dim=1
    )


def margin_for(sides: tuple[int, ...], scales: int) -> int:
    """Return by how many pixels images are mirrored: two sigmas and more of the widest filter, less where
    they are small.
    """
    return min(int(_SHORTEST * 2 ** (scales - 1)), min(sides) - 1)


def responses(sides: tuple[int, ...], margin: int, scales: int, angles: int) -> Tensor:
    """Return the filters' frequency responses, float32 (scales * angles, H + 2 margin, W + 2 margin), 0 at
    frequency 0.

    Args:
        sides: H and W of the images.
        margin: pixels added on every side.
        scales, angles: the bank's; a scale's angles follow one another.
    """
    down, across = (2 * math.pi * torch.fft.fftfreq(side + 2 * margin, dtype=torch.float64) for side in sides)
    bank = []
    for scale in range(scales):
        wavelength = _SHORTEST * 2**scale
        for turn in (math.pi * angle / angles for angle in range(angles)):
            centre = 2 * math.pi / wavelength
            distance = (down[:, None] - centre * math.sin(turn)).square() + (
                across - centre * math.cos(turn)
            ).square()
            response = torch.exp(-0.5 * (_OCTAVE * wavelength) ** 2 * distance)
            response[0, 0] = 0
            bank.append(response)
    return torch.stack(bank).float()
