"""Figures of anomaly detection, exact: of images, of pixels, of regions, and of categories that arrive one
after another.

AUROC, average precision and F1-max are those of `harness.metrics.detection`, anomalous items the positives.
(The code of INP-Former and Dinomaly adds 1e-7 to the denominator of F1 and is lower by less than that.)

    AUPRO    mean over regions of the share found, PRO(FPR), integrated from (0, 0) over FPR up to a limit and
    divided by the limit; by
             trapezoid, interpolated linearly at the limit (Bergmann et al. 2020, "Uninformed Students",
             section 4.1)

A region is an 8-connected component of one image's mask and counts the same whatever its size. Where there
is none, or no normal pixel, AUPRO is NaN: it is missing.

`PixelCounts` counts the pixels at every distinct value image by image in bounded memory. Up to 2^24 normal
pixels (256 maps of 256 x 256) it is exact; beyond, neighbouring ones are joined, at most a fifty-thousandth of
those above, which leaves the top, where AP, F1-max and AUPRO are decided, as it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from harness.metrics.detection import (
    NAN,
    Counts,
    Floats,
    Levels,
    Mask,
    Side,
    at_least,
    auroc,
    average_precision,
    f1_max,
    levels,
    levels_of,
)
from harness.metrics.discovery import mean_of_finite

FPR_LIMIT = 0.3
AT_ONCE = 1 << 24
"""Normal pixels that are sorted at once, 8 bytes each."""
KEPT = 1 << 20
"""Places in their order that are kept where there are more."""
_FINEST = 1 << 10
"""The rank from which on they lie apart in proportion to their rank."""
_EIGHT = np.ones((3, 3), dtype=np.int64)


class PixelLevels(NamedTuple):
    """The pixels of a category at each distinct value of its maps.

    counts: anomalous pixels are the positives, of weight 1 / area of their region: a level's weight is the
    share of regions that lies there.
    n_regions: how many regions there are.
    """

    counts: Levels
    n_regions: int


class PixelMetrics(NamedTuple):
    """The four figures of a category's maps."""

    auroc: float
    average_precision: float
    f1_max: float
    aupro: float


class Continual(NamedTuple):
    """What becomes of categories that arrive one after another, from R[i, j]."""

    final: float
    learning: float
    incremental: float
    forgetting: float
    backward_transfer: float


# --- the pixels ---------------------------------------------------------------------------------------------


def pixel_levels(maps: NDArray[Any], masks: Mask) -> PixelLevels:
    """Make the table of all pixels of a category by one sort; `maps` float (N, H, W) of any precision,
    `masks` bool (N, H, W).
    """
    parts = [region_shares(mask) for mask in masks]
    shares = np.concatenate([np.zeros(0), *(own for own, _ in parts)])
    return PixelLevels(levels(maps.ravel(), masks.ravel(), shares), sum(number for _, number in parts))


def region_shares(mask: Mask) -> tuple[Floats, int]:
    """Return 1 / area of its region for every anomalous pixel of `mask`, bool (H, W), in the order of
    `x[mask]`; and how many regions.
    """
    if not mask.any():
        return np.zeros(0), 0
    components, number = ndimage.label(mask, structure=_EIGHT)
    own = components[mask]
    return 1.0 / np.bincount(own)[own], int(number)


class PixelCounts:
    """The table of a category's pixels, image by image: 300 MB at most, and 16 bytes for every anomalous
    pixel.
    """

    def __init__(self) -> None:
        self._found: list[Floats] = []
        self._shares: list[Floats] = []
        self._n_regions = 0
        self._waiting: list[Floats] = []
        self._n_waiting = 0
        self._joined = _Joined(np.zeros(0), np.zeros(1, dtype=np.int64))

    def add(self, values: NDArray[Any], mask: Mask) -> None:
        """Count one image.

        Args:
            values: its map, float (H, W) of any precision.
            mask: bool (H, W), its anomalous pixels; none for a normal image.

        Raises:
            ValueError: a value that is not finite, or a mask of another size.
        """
        if values.shape != mask.shape:
            raise ValueError(f"a map of {values.shape} pixels does not fit a mask of {mask.shape}")
        if not np.isfinite(values).all():
            raise ValueError("a map holds values that are not finite")
        shares, number = region_shares(mask)
        if number:
            self._found.append(values[mask].astype(np.float64))
            self._shares.append(shares)
            self._n_regions += number
        self._waiting.append((values[~mask] if number else values.ravel()).astype(np.float64))
        self._n_waiting += self._waiting[-1].size
        if self._n_waiting > AT_ONCE:
            self._joined = self._joined.with_those(self._sorted())
            self._waiting, self._n_waiting = [], 0

    @property
    def held(self) -> int:
        """How many numbers of normal pixels are in memory."""
        return self._n_waiting + len(self._joined.values)

    def levels(self) -> PixelLevels:
        """Return the table of the images so far."""
        rising, joined = self._sorted(), self._joined
        found, shares = (
            np.concatenate([np.zeros(0), *self._found]),
            np.concatenate([np.zeros(0), *self._shares]),
        )
        total = len(rising) + int(joined.as_large[0])
        counts = levels_of(
            found,
            shares,
            total,
            lambda values, side: at_least(rising, values, side) + joined.at_least(values, side),
        )
        return PixelLevels(counts, self._n_regions)

    def figures(self, fpr_limit: float = FPR_LIMIT) -> PixelMetrics:
        """Return the four figures of the images so far."""
        return pixel_metrics(self.levels(), fpr_limit)

    def _sorted(self) -> Floats:
        """Return the normal pixels that are waiting, rising."""
        rising = np.concatenate([np.zeros(0), *self._waiting])
        rising.sort()
        self._waiting = [rising]
        return rising


class _Joined(NamedTuple):
    """Normal pixels of which only some places in their order are known. values: rising (K,).  as_large: how
    many are, and 0, (K + 1,).
    """

    values: Floats
    as_large: Counts

    def at_least(self, values: NDArray[Any], side: Side) -> Counts:
        """Return what `detection.at_least` does."""
        return self.as_large[np.searchsorted(self.values, values, side)]

    def with_those(self, rising: Floats) -> _Joined:
        """Return these and others, at `KEPT` places at most: all of the largest ones, then further and
        further apart.
        """
        some = np.unique(len(rising) - _places(len(rising)))
        values = np.sort(np.concatenate([self.values, rising[some]]))
        as_large = at_least(rising, values, "left") + self.at_least(values, "left")
        kept = np.unique(np.searchsorted(-as_large, -_places(int(as_large[0])), "right") - 1)
        return _Joined(values[kept], np.append(as_large[kept], 0))


def _places(total: int) -> Counts:
    """Return ranks from the top, from 1 to `total`, less than `KEPT`, the distance growing with the rank."""
    steps = np.linspace(0, np.log1p(total / _FINEST), KEPT)
    return np.unique(np.clip((_FINEST * np.expm1(steps)).astype(np.int64), 1, total))


# --- figures of a table -------------------------------------------------------------------------------------


def aupro(table: PixelLevels, fpr_limit: float = FPR_LIMIT) -> float:
    """Return the area under PRO(FPR) up to `fpr_limit` in (0, 1], over the limit; NaN without regions or
    without normal pixels.
    """
    normal, regions = table.counts.negative, table.counts.weight
    if regions is None or not table.n_regions or not normal.any():
        return NAN
    fpr = np.append(0.0, np.cumsum(normal) / normal.sum())
    end = int(np.searchsorted(fpr, fpr_limit))  # the first point at or beyond the limit
    pro = np.append(0.0, np.cumsum(regions[:end]) / table.n_regions)
    part = (fpr_limit - fpr[end - 1]) / (fpr[end] - fpr[end - 1])
    at_limit = pro[end - 1] + part * (pro[end] - pro[end - 1])
    return float(np.trapezoid(np.append(pro[:end], at_limit), np.append(fpr[:end], fpr_limit)) / fpr_limit)


def pixel_metrics(table: PixelLevels, fpr_limit: float = FPR_LIMIT) -> PixelMetrics:
    """Return the four figures of the maps of a category."""
    counts = table.counts
    return PixelMetrics(auroc(counts), average_precision(counts), f1_max(counts), aupro(table, fpr_limit))


# --- categories that arrive one after another ---------------------------------------------------------------


def continual(matrix: Floats, arrival: Counts) -> Continual:
    """Return the figures of R[i, j], a metric on category j after stage i
    (`harness.metrics.class_incremental` has it by stage).

        final         mean over j of R[T, j]                     learning   mean over j of R[a_j, j]
        incremental   mean over i of mean over j seen by then of R[i, j]
        forgetting    mean over j with a_j < T of  max over i in [a_j, T) of R[i, j]  -  R[T, j]; below 0
        where it got better backward transfer   mean over the same j of  R[T, j] - R[a_j, j]

    with a_j the stage in which category j arrives and T the last one. Categories without a figure are left
    out; NaN where none is left.

    Args:
        matrix: float64 (stages, J); what lies before the arrival of a category is not looked at.
        arrival: int64 (J,), a_j.
    """
    last, columns = len(matrix) - 1, np.arange(len(arrival))
    final, learned, old = matrix[last], matrix[arrival, columns], arrival < last
    best = np.array([matrix[arrival[column] : last, column].max() for column in columns[old]])
    means = np.array([mean_of_finite(row[arrival <= stage]) for stage, row in enumerate(matrix)])
    return Continual(
        final=mean_of_finite(final),
        learning=mean_of_finite(learned),
        incremental=mean_of_finite(means),
        forgetting=mean_of_finite(best - final[old]),
        backward_transfer=mean_of_finite((final - learned)[old]),
    )


__all__ = [
    "FPR_LIMIT",
    "Continual",
    "PixelCounts",
    "PixelLevels",
    "PixelMetrics",
    "aupro",
    "continual",
    "pixel_levels",
    "pixel_metrics",
    "region_shares",
]
