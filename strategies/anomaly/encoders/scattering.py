"""Scattering of second order: the moduli of Gabor filters, and the moduli of filters on these moduli (Mallat
2012; Bruna and Mallat 2013).

    first:  |image * filter|        second: | |image * filter| * wider filter |        both averaged over a
    patch, then their logarithm

The second order says how a first modulus changes from place to place, at scales wider than its own. A modulus
is smoother than the image, so the second pass runs on it at half size, where a filter of the bank stands for
one of twice its wavelength. Written out here on the bank of `encoder_gabor`, because `kymatio.torch` (0.3.0)
cannot be imported beside scipy 1.15 and later.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from strategies.anomaly.encoders.checks import patches, whole
from strategies.anomaly.encoders.gabor import GREY_LEVEL, PATCH, margin_for, moduli, responses


class Scattering(nn.Module):
    """Images (N, C, H, W) in [0, 1] to tokens (N, 1, P, D): mean grey, S A first moduli, S (S - 1) / 2 A^2
    second ones; 61 by default.
    """

    groups = 1
    digest = ""
    bank: Tensor
    half_bank: Tensor

    def __init__(self, item_shape: tuple[int, ...], *, scales: int = 3, angles: int = 4) -> None:
        super().__init__()
        whole("scattering", scales=scales, angles=angles)
        sides = item_shape[1:]
        self.grid = patches(sides, PATCH, "scattering")
        self.scales, self.angles = scales, angles
        self.channels = 1 + scales * angles + scales * (scales - 1) // 2 * angles**2
        halves = tuple(side // 2 for side in sides)
        self.margin, self.half_margin = margin_for(sides, scales), margin_for(halves, max(scales - 1, 1))
        self.register_buffer("bank", responses(sides, self.margin, scales, angles), persistent=False)
        self.register_buffer(
            "half_bank",
            responses(halves, self.half_margin, scales - 1, angles) if scales > 1 else None,
            persistent=False,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens (N, 1, P, D)."""
        grey = images.mean(dim=1, keepdim=True)
        first = moduli(grey, self.bank, self.margin)
        halves = avg_pool2d(first, 2)
        pooled = [avg_pool2d(first, PATCH)]
        for place in range((self.scales - 1) * self.angles):
            wider = self.half_bank[place // self.angles * self.angles :]
            pooled.append(
                avg_pool2d(moduli(halves[:, place : place + 1], wider, self.half_margin), PATCH // 2)
            )
        features = torch.cat(
            [avg_pool2d(grey, PATCH), torch.log(GREY_LEVEL + torch.cat(pooled, dim=1))], dim=1
        )
        return features.flatten(2).transpose(1, 2)[:, None]
