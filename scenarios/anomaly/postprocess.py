"""From a map on any grid to the map and the image score that are evaluated: the same for every strategy, and
fixed by the protocol.

Both resizings and the blur are linear in the rows and in the columns of a map apart, so the evaluated map of
a grid G (h, w) is

    M = R G C',   R (H, h) = blur . (image height -> H) . (h -> image height),   C (W, w) likewise,

two matrix products, with R and C made once per size. The grid is enlarged with corners aligned and then
brought to the resolution with corners not aligned, as in the released code of INP-Former (Luo et al. 2025)
and Dinomaly (Guo et al. 2025); the image score is the mean of the largest values. Products are taken in
double precision and a chunk of maps at a time.

Beyond the edge the released codes have zeros, below which their maps do not fall. What takes the place of
zero for maps of any scale is their own smallest value (`Ground`): a M + b is then evaluated as M is. Where
maps hardly differ from a large value they are counted from it, which costs no precision; values are rounded
to 41 bits, so that what is equal stays so in whatever order a machine adds.

>>> steps = PostProcess(image_size=(64, 64), resolution=(64, 64))
>>> round(steps.evaluated(np.ones((1, 16, 16))).maps[0, 32, 0], 4)  # a zero-padded blur darkens the edge
np.float64(0.6063)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError

Matrix = NDArray[np.float64]

Padding = Literal["zero", "reflect", "none"]
"""What lies beyond the edge of a map when it is blurred: "zero" is the floor of `Ground`, 0 in the released
code; or its mirror image; "none" leaves the blur out.
"""

_CHUNK_VALUES = 1 << 20
"""Values of evaluated maps that are held at once."""

_LAST_BITS = 12
"""Of the 53 bits of a value, those that are rounded off."""


_FAR = 1024
"""How many times the spread of maps is a large offset."""


class Ground(NamedTuple):
    """What maps stand on. floor: what lies beyond their edge under zero padding.  origin: where their values
    are counted from.
    """

    floor: float = 0.0
    origin: float = 0.0


_PLAIN = Ground()


def ground_of(grids: NDArray[Any]) -> Ground:
    """Return the smallest value of `grids`, float (N, h, w), N > 0, and their middle where they are close to
    it and far from 0, else 0.
    """
    some = grids.reshape(-1)[:: 1 + grids.size // (1 << 16)].astype(np.float64)
    low, middle, high = np.quantile(some, (0.01, 0.5, 0.99), method="nearest").tolist()
    return Ground(float(grids.min()), middle if abs(middle) > _FAR * (high - low) else 0.0)


class Evaluated(NamedTuple):
    """What N maps come to: maps float64 (N, H, W), counted from the origin of their ground; image scores
    float64 (N,).
    """

    maps: NDArray[np.float64]
    scores: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PostProcess:
    """How a protocol evaluates maps.

    image_size: height and width that grids are enlarged to, in pixels.  resolution: those of evaluated maps
    and masks.
    blur_size: an odd number of pixels, 0 or 1 for no blur.  blur_sigma: in pixels; one much larger than the
    size makes a box.
    top: the share of largest values whose mean is the image score, of one pixel at least; 0 is the maximum.
    """

    image_size: tuple[int, int]
    resolution: tuple[int, int]
    blur_size: int = 5
    blur_sigma: float = 4.0
    blur_padding: Padding = "zero"
    top: float = 0.01

    def __post_init__(self) -> None:
        """Refuse what cannot be computed.

        Raises:
            UserError: the field, what it must be and what it is.
        """
        if self.blur_padding not in get_args(Padding):
            raise UserError(
                f"blur_padding must be one of {', '.join(get_args(Padding))}, got {self.blur_padding!r}"
            )
        if self.blur_size < 0 or (self.blur_size and self.blur_size % 2 == 0):
            raise UserError(f"blur_size must be odd, or 0 for no blur, got {self.blur_size}")
        if self.blur_padding == "reflect" and self.blur_size // 2 >= min(self.resolution):
            raise UserError(
                f"a blur of {self.blur_size} pixels reaches beyond the mirror image of a map of {self.resolution}"
            )
        if not 0 <= self.top <= 1:
            raise UserError(f"top must lie between 0 and 1, got {self.top}")

    @property
    def top_pixels(self) -> int:
        """How many of the largest values an image score is the mean of: the share rounded down, one at least."""
        return max(1, math.floor(self.top * self.resolution[0] * self.resolution[1] + 1e-9))

    def evaluated(self, grids: NDArray[Any], ground: Ground = _PLAIN) -> Evaluated:
        """Return evaluated maps and image scores of `grids`, float (N, h, w); all at once, so meant for few."""
        rows, columns = self._matrices(grids.shape[1:])
        inside = np.outer(
            rows.sum(axis=1), columns.sum(axis=1)
        )  # the share of a value that does not come from beyond the edge
        beyond = np.where(inside > 1 - 1e-9, 0.0, 1 - inside)
        maps = rows @ (grids.astype(np.float64) - ground.origin) @ columns.T
        maps += (ground.floor - ground.origin) * beyond
        flat, top = maps.reshape(len(maps), -1), self.top_pixels
        largest = np.partition(flat, -top, axis=1)[:, -top:] if len(maps) else flat
        scores = (largest / top).sum(axis=1)  # the sum of the largest values themselves could overflow
        return Evaluated(_rounded(maps), _rounded(scores) + ground.origin)

    def chunks(self, grids: NDArray[Any], ground: Ground = _PLAIN) -> Iterator[tuple[slice, Evaluated]]:
        """Yield the places of a few maps at a time, and what they come to; `grids` float (N, h, w)."""
        size = max(1, _CHUNK_VALUES // (self.resolution[0] * self.resolution[1]))
        for start in range(0, len(grids), size):
            places = slice(start, start + size)
            yield places, self.evaluated(grids[places], ground)

    def image_scores(self, grids: NDArray[Any], ground: Ground = _PLAIN) -> NDArray[np.float64]:
        """Return the image scores of `grids`, float64 (N,)."""
        return np.concatenate([np.zeros(0), *(found.scores for _, found in self.chunks(grids, ground))])

    def _matrices(self, grid: tuple[int, ...]) -> tuple[Matrix, Matrix]:
        return tuple(  # type: ignore[return-value]
            _line(size, image, wanted, self.blur_size, self.blur_sigma, self.blur_padding)
            for size, image, wanted in zip(grid, self.image_size, self.resolution, strict=True)
        )


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `values` with their last bits rounded off, in the same memory."""
    bits = values.view(np.int64)
    bits += 1 << (_LAST_BITS - 1)
    bits &= -(1 << _LAST_BITS)
    return values


@lru_cache(maxsize=64)
def _line(size: int, image: int, wanted: int, blur_size: int, sigma: float, padding: Padding) -> Matrix:
    """Return what becomes of a line of `size` values, float64 (wanted, size)."""
    matrix = bilinear(size, image, align_corners=True)
    if wanted != image:
        matrix = bilinear(image, wanted, align_corners=False) @ matrix
    if blur_size > 1 and padding != "none":
        matrix = blur(wanted, blur_size, sigma, padding) @ matrix
    matrix.setflags(write=False)
    return matrix


def bilinear(size: int, wanted: int, *, align_corners: bool) -> Matrix:
    """Return linear interpolation of `size` points at `wanted` points, float64 (wanted, size); as
    torch.nn.functional.interpolate has it.

    Corners aligned: the outermost points fall together. Not aligned: points are centres of cells, and what
    lies beyond the outermost centres has their value. Neither smooths before it leaves points out.
    """
    target = np.arange(wanted, dtype=np.float64)
    if align_corners:
        position = target * (size - 1) / (wanted - 1) if wanted > 1 else np.zeros(1)
    else:
        position = np.clip((target + 0.5) * size / wanted - 0.5, 0, size - 1)
    left = np.minimum(position.astype(np.int64), size - 1)
    share = position - left
    matrix = np.zeros((wanted, size))
    matrix[np.arange(wanted), left] = 1 - share
    matrix[np.arange(wanted), np.minimum(left + 1, size - 1)] += share
    return matrix


def kernel(size: int, sigma: float) -> NDArray[np.float64]:
    """Return exp(-x^2 / 2 sigma^2) at `size` pixels around 0, summing to 1; its outer product with itself is
    the Gaussian of the map.
    """
    offsets = np.arange(size) - size // 2
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    return np.asarray(weights / weights.sum())


def blur(length: int, size: int, sigma: float, padding: Padding) -> Matrix:
    """Return a Gaussian blur of a line of `length` values, float64 (length, length). The mirror image does
    not repeat the edge.
    """
    matrix = np.zeros((length, length))
    at = np.arange(length)
    for offset, weight in zip(np.arange(size) - size // 2, kernel(size, sigma), strict=True):
        source = at + offset
        if padding == "reflect":
            source = (length - 1) - np.abs((length - 1) - np.abs(source))
        inside = (source >= 0) & (source < length)
        np.add.at(matrix, (at[inside], source[inside]), weight)
    return matrix


__all__ = ["Evaluated", "Ground", "Padding", "PostProcess", "bilinear", "blur", "ground_of", "kernel"]
