"""Drawn defects: a mask, what fills it and how opaquely, laid over a crop of a photograph.

Every defect is composed alike: result = crop (1 - a m) + content a m, where m is the mask softened by a
Gaussian of 0.6 px and a the opacity. The truth is the mask before softening. Kinds: a scratch (a random walk
2 px wide), a foreign rectangle, a stain (ellipse of changed brightness), a piece of the same photograph
turned and pasted (after CutPaste, Li et al. 2021), foreign content inside a shape of thresholded gradient
noise (after DRAEM, Zavrtanik et al. 2021), a blurred disc. A defect that hardly shows is refused: mean
absolute change inside the mask at least 0.04 of the brightness range, mask at least 12 px.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
"""(h, w, 3) in [0, 1]."""
Mask = NDArray[np.bool_]

LEAST_CHANGE = 0.04
LEAST_PIXELS = 12
_SOFTNESS = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Severity:
    """How strongly a defect shows. area: smallest and largest share of the crop; delta: change of brightness
    of scratches and stains;
    blur: standard deviation in px; matched: whether foreign content takes the mean and spread of what it
    covers.
    """

    matched: bool
    opacity: float
    area: tuple[float, float]
    delta: float
    blur: float


SEVERITIES: Mapping[str, Severity] = MappingProxyType(
    {
        "easy": Severity(matched=False, opacity=1.0, area=(0.04, 0.15), delta=0.45, blur=3.0),
        "medium": Severity(matched=False, opacity=0.8, area=(0.02, 0.10), delta=0.35, blur=2.5),
        "hard": Severity(matched=True, opacity=0.8, area=(0.015, 0.08), delta=0.25, blur=2.0),
    }
)


class Material(NamedTuple):
    """What a defect is made from: the crop, the part of its photograph it lies in, and photographs of other
    things.
    """

    crop: Picture
    own: Picture
    foreign: Sequence[Picture]


class Overlay(NamedTuple):
    """A defect before it is laid on: where, what is there instead, and how opaque it is."""

    mask: Mask
    content: Picture
    opacity: float


class Defective(NamedTuple):
    """A crop with a defect, uint8 (h, w, 3), and the intended region, bool (h, w)."""

    image: NDArray[np.uint8]
    mask: Mask


def drawn(kind: str, material: Material, severity: Severity, rng: np.random.Generator) -> Defective | None:
    """Draw one defect of `kind`; None where it would hardly show, so that the caller draws again."""
    from scipy.ndimage import gaussian_filter

    mask, content, opacity = KINDS[kind](material, severity, rng)
    soft = opacity * gaussian_filter(mask.astype(np.float32), _SOFTNESS)[..., None]
    before = np.rint(255 * material.crop)
    after = np.clip(np.rint(255 * (material.crop * (1 - soft) + content * soft)), 0, 255)
    if mask.sum() < LEAST_PIXELS or np.abs(after - before)[mask].mean() < 255 * LEAST_CHANGE:
        return None
    return Defective(after.astype(np.uint8), mask)


def _scratch(material: Material, severity: Severity, rng: np.random.Generator) -> Overlay:
    """Return a walk in both directions from a point of the inner half, its direction drifting by 0.15 rad a
    pixel.
    """
    size = len(material.crop)
    start, direction = rng.uniform(0.25 * size, 0.75 * size, 2), rng.uniform(0, 2 * np.pi)
    half = int(rng.uniform(0.2, 0.6) * size)
    mask = np.zeros((size, size), dtype=bool)
    for way in (direction, direction + np.pi):
        angles = way + np.cumsum(rng.normal(0, 0.15, half))
        path = start + np.cumsum(np.stack([np.sin(angles), np.cos(angles)], axis=1), axis=0)
        inside = path[((path >= 0) & (path < size - 1)).all(axis=1).cumprod().astype(bool)].astype(np.int64)
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            mask[inside[:, 0] + down, inside[:, 1] + right] = True
    return Overlay(mask, _brighter(material.crop, severity.delta, rng), 1.0)


def _foreign_patch(material: Material, severity: Severity, rng: np.random.Generator) -> Overlay:
    mask = _rectangle(len(material.crop), severity, rng)
    return Overlay(mask, _foreign(material, mask, severity, rng), severity.opacity)


def _stain(material: Material, severity: Severity, rng: np.random.Generator) -> Overlay:
    mask = _ellipse(len(material.crop), severity, rng, aspect=rng.uniform(1, 2))
    return Overlay(mask, _brighter(material.crop, 0.7 * severity.delta, rng), severity.opacity)


def _cut_paste(material: Material, severity: Severity, rng: np.random.Generator) -> Overlay:
    """Return a rectangle filled with another place of the same part of the photograph, turned by 30 to 150
    degrees either way.
    """
    from scipy.ndimage import rotate

    size = len(material.crop)
    mask = _rectangle(size, severity, rng)
    angle = rng.uniform(30, 150) * rng.choice([-1, 1])
    turned = rotate(_window(material.own, size, rng), angle, reshape=False, order=1, mode="reflect")
    return Overlay(mask, np.clip(turned, 0, 1), severity.opacity)


def _perlin_blend(material: Material, severity: Severity, rng: np.random.Generator) -> Overlay:
    """Return foreign content where gradient noise of 2 to 8 cells a side is largest."""
    noise = gradient_noise(len(material.crop), int(2 ** rng.integers(1, 4)), rng)
    mask = noise > np.quantile(noise, 1 - rng.uniform(*severity.area))
    return Overlay(mask, _foreign(material, mask, severity, rng), severity.opacity)


def _blur(material: Material, severity: Severity, rng: np.random.Generator) -> Overlay:
    from scipy.ndimage import gaussian_filter

    mask = _ellipse(len(material.crop), severity, rng, aspect=1.0)
    return Overlay(mask, gaussian_filter(material.crop, (severity.blur, severity.blur, 0)), 1.0)


KINDS: Mapping[str, Callable[[Material, Severity, np.random.Generator], Overlay]] = MappingProxyType(
    {
        "scratch": _scratch,
        "foreign-patch": _foreign_patch,
        "stain": _stain,
        "cut-paste": _cut_paste,
        "perlin": _perlin_blend,
        "blur": _blur,
    }
)
"""Each draws a mask and what fills it."""


def gradient_noise(size: int, cells: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return Perlin's gradient noise of `cells` cells a side, float64 (size, size); it is zero at the corners
    of the cells.
    """
    angles = rng.uniform(0, 2 * np.pi, (cells + 1, cells + 1))
    place = np.arange(size) * cells / size
    cell, within = place.astype(np.int64), place % 1
    ease = within**3 * (within * (6 * within - 15) + 10)
    y, x = within[:, None], within[None, :]
    corner = [
        [
            np.sin(angles)[np.ix_(cell + i, cell + j)] * (y - i)
            + np.cos(angles)[np.ix_(cell + i, cell + j)] * (x - j)
            for j in (0, 1)
        ]
        for i in (0, 1)
    ]
    upper, lower = (row[0] * (1 - ease) + row[1] * ease for row in corner)
    return np.asarray(upper * (1 - ease[:, None]) + lower * ease[:, None])


def _rectangle(size: int, severity: Severity, rng: np.random.Generator) -> Mask:
    area, aspect = rng.uniform(*severity.area) * size**2, np.exp(rng.uniform(-np.log(2), np.log(2)))
    sides = np.clip(np.rint([np.sqrt(area * aspect), np.sqrt(area / aspect)]), 2, size).astype(np.int64)
    top, left = rng.integers(0, size - sides + 1)
    mask = np.zeros((size, size), dtype=bool)
    mask[top : top + sides[0], left : left + sides[1]] = True
    return mask


def _ellipse(size: int, severity: Severity, rng: np.random.Generator, *, aspect: float) -> Mask:
    """Return an ellipse that lies wholly inside; aspect: its longer to its shorter half-axis."""
    short = np.sqrt(rng.uniform(*severity.area) * size**2 / np.pi / aspect)
    long, angle = short * aspect, rng.uniform(0, np.pi)
    margin = min(long, size / 2)
    y, x = (np.arange(size) - rng.uniform(margin, size - margin) for _ in range(2))
    along = np.cos(angle) * x[None, :] + np.sin(angle) * y[:, None]
    across = np.cos(angle) * y[:, None] - np.sin(angle) * x[None, :]
    return np.asarray((along / long) ** 2 + (across / short) ** 2 <= 1)


def _brighter(crop: Picture, delta: float, rng: np.random.Generator) -> Picture:
    """Return the crop changed by `delta`, up or down."""
    return np.asarray(np.clip(crop + delta * rng.choice([-1, 1]), 0, 1), dtype=np.float32)


def _foreign(material: Material, mask: Mask, severity: Severity, rng: np.random.Generator) -> Picture:
    """Return a place of a foreign photograph, where asked for with the mean and spread of what it covers."""
    content = _window(material.foreign[int(rng.integers(len(material.foreign)))], len(material.crop), rng)
    if not severity.matched:
        return content
    covered, covering = material.crop[mask], content[mask]
    scale = covered.std(axis=0) / np.maximum(covering.std(axis=0), 1e-3)
    return np.asarray(
        np.clip((content - covering.mean(axis=0)) * scale + covered.mean(axis=0), 0, 1), dtype=np.float32
    )


def _window(photo: Picture, size: int, rng: np.random.Generator) -> Picture:
    top, left = rng.integers(0, np.array(photo.shape[:2]) - size + 1)
    return photo[top : top + size, left : left + size]
