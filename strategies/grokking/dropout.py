"""Dropout masks of stacked networks, each from a stream of its own, so that a mask does not depend on who is
trained alongside.

A unit is kept where 16 random bits reach the rate (in steps of 2^-16) and is then divided by the share that
is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Dropout:
    """Draws masks for networks with dropout rates in [0, 1); a network with rate 0 draws nothing."""

    def __init__(self, rates: Sequence[float], streams: Sequence[np.random.Generator]) -> None:
        self.thresholds = [round(rate * 2**16) for rate in rates]
        self.streams = streams

    def fill(self, mask: Tensor, first: int) -> Tensor:
        """Overwrite `mask` (g, n, width) with 0 or 1 / (1 - rate) for the g networks from `first` on, and
        return it.
        """
        for part, threshold, rng in zip(mask, self.thresholds[first:], self.streams[first:], strict=False):
            if not threshold:
                part.fill_(1)
                continue
            count = part.numel()
            bits = rng.integers(2**64, size=-(-count // 4), dtype=np.uint64, endpoint=False).view(np.uint16)[
                :count
            ]
            part.copy_(torch.from_numpy(bits >= threshold).view(part.shape)).mul_(2**16 / (2**16 - threshold))
        return mask


def dropout_of(rates: Sequence[float], streams: Sequence[np.random.Generator]) -> Dropout | None:
    """Return the masks of networks with these rates; None where all are 0."""
    return Dropout(rates, streams) if any(rates) else None


__all__ = ["Dropout", "dropout_of"]
