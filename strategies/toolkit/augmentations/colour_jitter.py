"""Brightness, contrast, saturation and hue changed by random amounts in a random order, as torchvision's
ColorJitter does per image.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Generator, Tensor

from strategies.toolkit.augmentations.base import check_range, colours_of
from strategies.toolkit.augmentations.colours import brighten_, contrast_, saturate_, turn_hue_

_CHANGES = (brighten_, contrast_, saturate_, turn_hue_)


class ColourJitter:
    """Change the colours of images (B, C, H, W) in [0, 1], C 1 or 3; of one channel, brightness and contrast
    alone.

    UNO and Cr-KD jitter CIFAR by `colour-jitter[chance=0.6]` (large crops) and `colour-jitter` (small ones);
    SimCLR and BYOL photographs by `colour-jitter[saturation=0.4]`. Factors are uniform in [max(0, 1 -
    amount), 1 + amount], the hue turns by a uniform amount in [-hue, hue], and every order of the four is as
    likely.
    """

    def __init__(
        self,
        *,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.2,
        hue: float = 0.1,
        chance: float = 0.8,
    ) -> None:
        """Take the largest changes of three factors, that of the hue as a share of the circle, and the chance
        that an image changes.
        """
        check_range("colour-jitter", 0, 100, brightness=brightness, contrast=contrast, saturation=saturation)
        check_range("colour-jitter", 0, 0.5, hue=hue)
        check_range("colour-jitter", 0, 1, chance=chance)
        self.amounts, self.chance = (brightness, contrast, saturation, hue), chance

    def __call__(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return changed images; six random numbers are drawn for every image in any case.

        Images with the same order go through it together, a few at a time, which is as well what stays in a
        processor's cache.
        """
        images = colours_of(inputs, "colour-jitter")
        luck = torch.rand(6, len(images), generator=generator, device=images.device)
        amounts = self.drawn(luck[:4])
        changing = [place for place, amount in enumerate(self.amounts) if amount]
        orders = list(permutations(changing))
        which = (luck[4] * len(orders)).long().clamp_(max=len(orders) - 1)
        which = torch.where(luck[5] < self.chance, which, len(orders))
        by_order, sizes = which.argsort(), torch.bincount(which, minlength=len(orders) + 1).tolist()
        alike, factors = (
            torch.split(by_order, sizes),
            torch.split(amounts[:, by_order, None, None, None], sizes, dim=1),
        )
        changed = images.clone(memory_format=torch.contiguous_format)
        for order, rows, each in zip(orders, alike, factors, strict=False):  # the last part does not change
            if len(rows):
                part = images.index_select(0, rows)
                for place in order:
                    _CHANGES[place](part, each[place])
                changed.index_copy_(0, rows, part)
        return changed

    def drawn(self, luck: Tensor) -> Tensor:
        """Return the factors of brightness, contrast and saturation and the turn of the hue, (4, B), for
        numbers in [0, 1), (4, B).
        """
        largest = torch.tensor(self.amounts, device=luck.device)[:, None]
        amounts = largest * (2 * luck - 1)
        amounts[:3] = (1 - largest[:3]).clamp(min=0) + luck[:3] * (
            1 + largest[:3] - (1 - largest[:3]).clamp(min=0)
        )
        return amounts
