"""Images that look alike: near duplicates, such as one photograph saved twice, by a perceptual hash.

Of every image two small grey pictures are made by averaging: 8 x 9 values, whose 64 differences between
neighbours in a row are the bits of the hash (difference hash), and 16 x 16 values. Two images look alike where
at most `MOST_BITS` bits differ and the small pictures correlate by `LEAST_CORRELATION` at least, so that saving
in another format, another size and another brightness are seen through. An image of one colour looks like none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.contracts import AnyArray, Inputs, IntArray

MOST_BITS = 4
LEAST_CORRELATION = 0.99
_BATCH = 1024
_PAIRS = 1 << 22
"""Pairs of hashes that are compared at once."""


class Prints(NamedTuple):
    """Hashes uint64 (N,) and small pictures float16 (N, 256), of mean 0 and length 1, or all 0 for one colour."""

    hashes: NDArray[np.uint64]
    small: NDArray[np.float16]


class Pair(NamedTuple):
    """Rows of two images that look alike."""

    one: int
    other: int


def prints_of(inputs: Inputs) -> Prints:
    """Return the prints of images (N, channels, height, width), read in batches."""
    hashes = np.zeros(len(inputs), dtype=np.uint64)
    small = np.zeros((len(inputs), 256), dtype=np.float16)
    for start in range(0, len(inputs), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(inputs)))
        grey = np.asarray(inputs[rows]).astype(np.float32).mean(axis=1)
        cells = _pooled(grey, 8, 9)
        bits = np.packbits((cells[:, :, 1:] > cells[:, :, :-1]).reshape(len(rows), 64), axis=1)
        hashes[rows] = bits.view(np.uint64)[:, 0]
        values = _pooled(grey, 16, 16).reshape(len(rows), 256)
        values -= values.mean(axis=1, keepdims=True)
        length = np.sqrt((values**2).sum(axis=1, keepdims=True))
        np.divide(values, length, out=values, where=length > 1e-3)
        small[rows] = values
    return Prints(hashes, small)


def pairs_alike(prints: Prints, ones: IntArray, others: IntArray | None = None) -> list[Pair]:
    """Return the pairs of rows of `ones` with rows of `others`, by the latter; or of `ones` among themselves."""
    found = []
    among = others is None
    seconds = ones if others is None else others
    step = max(1, _PAIRS // max(1, len(ones)))
    for start in range(0, len(seconds), step):
        own = seconds[start : start + step]
        distance = np.bitwise_count(prints.hashes[own][:, None] ^ prints.hashes[ones][None])
        for second, first in np.argwhere(distance <= MOST_BITS):
            one, other = int(ones[first]), int(own[second])
            if among and one >= other:
                continue
            correlation = prints.small[one].astype(np.float32) @ prints.small[other].astype(np.float32)
            if correlation >= LEAST_CORRELATION:
                found.append(Pair(one, other))
    return found


def _pooled(grey: AnyArray, height: int, width: int) -> NDArray[np.float32]:
    """Return means over cells of images (N, h, w), float32 (N, height, width); pixels are repeated where there are
    fewer of them.
    """
    pooled = grey
    for axis, cells in ((1, height), (2, width)):
        size = pooled.shape[axis]
        starts = np.arange(cells) * size // cells
        counts = np.maximum(np.diff([*starts, size]), 1).astype(np.float32)
        shape = [1, 1, 1]
        shape[axis] = cells
        pooled = np.add.reduceat(pooled, starts, axis=axis) / counts.reshape(shape)
    return np.ascontiguousarray(pooled, dtype=np.float32)


__all__ = ["Pair", "Prints", "pairs_alike", "prints_of"]
