"""Figures of anomaly detection, exact: of images, of pixels, of regions, and of categories that arrive one
after another.

Every figure is read off one table: how many anomalous and normal items lie at each distinct value of a score
(`Levels`), and, for pixels, how much of the regions lies there. Tied values are one level, one point of every
curve. Going down from the largest level,

    AUROC    P(an anomalous item scores above a normal one), ties one half (Mann-Whitney)
    AP       sum over k of (R_k - R_(k-1)) P_k, step by step and not a trapezoid
    F1-max   max over k of 2 P R / (P + R): its threshold is chosen with the labels that are tested. The code
    of INP-Former and Dinomaly
             adds 1e-7 to the denominator and is lower by less than that
    AUPRO    mean over regions of the share found, PRO(FPR), integrated from (0, 0) over FPR up to a limit and
    divided by the limit; by
             trapezoid, interpolated linearly at the limit (Bergmann et al. 2020, "Uninformed Students",
             section 4.1)

A region is an 8-connected component of one image's mask and counts the same whatever its size. Where one of
the two kinds is missing, or
there is no region, a figure is NaN: it is missing, and neither 0.5 nor 1.

Levels without an anomalous item that follow one another may be one, which moves no figure: so `levels` sorts
normal and anomalous values apart and counts the normal ones at and between the others. No value is rounded,
only the order counts. `PixelCounts` does the same image by image in bounded memory. Up to 2^24 normal pixels
(256 maps of 256 x 256) it is exact; beyond, neighbouring ones are joined, at most a fifty-thousandth of those
above, which leaves the top, where AP, F1-max and AUPRO are decided, as it is.

>>> table = levels(np.array([0.9, 0.4, 0.4, 0.1]), np.array([True, True, False, False]))
>>> auroc(table), average_precision(table), f1_max(table)
(0.875, 0.8333333333333333, 0.8)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from harness.metrics.discovery import mean_of_finite

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

NAN = float("nan")
FPR_LIMIT = 0.3
AT_ONCE = 1 << 24
"""Normal pixels that are sorted at once, 8 bytes each."""
KEPT = 1 << 20
"""Places in their order that are kept where there are more."""
_FINEST = 1 << 10
"""The rank from which on they lie apart in proportion to their rank."""
_EIGHT = np.ones((3, 3), dtype=np.int64)


class Levels(NamedTuple):
    """What lies at each distinct value of a score, the largest first; K levels.

    anomalous, normal: int64 (K,) items.
    regions: float64 (K,) shares of regions, summing to their number `n_regions`; None where items are no
    pixels.
    """

    anomalous: Counts
    normal: Counts
    regions: Floats | None = None
    n_regions: int = 0


class PixelFigures(NamedTuple):
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


# --- the table ----------------------------------------------------------------------------------------------


def levels(values: NDArray[Any], anomalous: Mask, shares: Floats | None = None, n_regions: int = 0) -> Levels:
    """Make the table of `values` by one sort of them.

    Args:
        values: float (N,) of any precision, larger is stranger.
        anomalous: bool (N,).
        shares: float64, for each of `values[anomalous]` the part of its region that the pixel is; None where
            items are no pixels.
        n_regions: how many regions there are.

    Raises:
        ValueError: a value that is NaN, which has no place in an order.
    """
    if np.isnan(values).any():
        raise ValueError("scores that are NaN cannot be ranked")
    numbers = (
        values.astype(np.float32) if values.dtype == np.float16 else values
    )  # half precision has no fast sort
    rising = np.sort(numbers[~anomalous])
    return _table(
        numbers[anomalous],
        shares,
        n_regions,
        len(rising),
        lambda values, side: _at_least(rising, values, side),
    )


Side = Literal["left", "right"]


def _at_least(rising: NDArray[Any], values: NDArray[Any], side: Side) -> Counts:
    """Return how many of `rising` are as large as each of `values` or larger; with the side "right", larger."""
    return len(rising) - np.searchsorted(rising, values, side)


def _table(
    found: NDArray[Any],
    shares: Floats | None,
    n_regions: int,
    total: int,
    normal: Callable[[NDArray[Any], Side], Counts],
) -> Levels:
    """Return the table of anomalous values with their shares of regions, and of `total` normal ones, counted
    as by `_at_least`.
    """
    values, place = np.unique(found, return_inverse=True)
    as_large, larger = normal(values, "left")[::-1], normal(values, "right")[::-1]
    counts, anomalous, regions = np.zeros((3, 2 * len(values) + 1))  # between, at, between, at, ..., below
    counts[::2] = np.append(larger, total) - np.append(0, as_large)
    counts[1::2] = as_large - larger
    anomalous[1::2] = np.bincount(place, minlength=len(values))[::-1]
    regions[1::2] = 0 if shares is None else np.bincount(place, weights=shares, minlength=len(values))[::-1]
    held = counts + anomalous > 0
    return Levels(
        anomalous[held].astype(np.int64),
        counts[held].astype(np.int64),
        None if shares is None else regions[held],
        n_regions,
    )


def pixel_levels(maps: NDArray[Any], masks: Mask) -> Levels:
    """Make the table of all pixels of a category by one sort; `maps` float (N, H, W) of any precision,
    `masks` bool (N, H, W).
    """
    parts = [region_shares(mask) for mask in masks]
    shares = np.concatenate([np.zeros(0), *(own for own, _ in parts)])
    return levels(maps.ravel(), masks.ravel(), shares, sum(number for _, number in parts))


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

    def levels(self) -> Levels:
        """Return the table of the images so far."""
        rising, joined = self._sorted(), self._joined
        found, shares = (
            np.concatenate([np.zeros(0), *self._found]),
            np.concatenate([np.zeros(0), *self._shares]),
        )
        total = len(rising) + int(joined.as_large[0])
        return _table(
            found,
            shares,
            self._n_regions,
            total,
            lambda values, side: _at_least(rising, values, side) + joined.at_least(values, side),
        )

    def figures(self, fpr_limit: float = FPR_LIMIT) -> PixelFigures:
        """Return the four figures of the images so far."""
        return pixel_figures(self.levels(), fpr_limit)

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
        """Return what `_at_least` does."""
        return self.as_large[np.searchsorted(self.values, values, side)]

    def with_those(self, rising: Floats) -> _Joined:
        """Return these and others, at `KEPT` places at most: all of the largest ones, then further and
        further apart.
        """
        some = np.unique(len(rising) - _places(len(rising)))
        values = np.sort(np.concatenate([self.values, rising[some]]))
        as_large = _at_least(rising, values, "left") + self.at_least(values, "left")
        kept = np.unique(np.searchsorted(-as_large, -_places(int(as_large[0])), "right") - 1)
        return _Joined(values[kept], np.append(as_large[kept], 0))


def _places(total: int) -> Counts:
    """Return ranks from the top, from 1 to `total`, less than `KEPT`, the distance growing with the rank."""
    steps = np.linspace(0, np.log1p(total / _FINEST), KEPT)
    return np.unique(np.clip((_FINEST * np.expm1(steps)).astype(np.int64), 1, total))


# --- figures of a table -------------------------------------------------------------------------------------


def auroc(table: Levels) -> float:
    """Return the area under the ROC curve; NaN without anomalous or without normal items."""
    if _is_one_sided(table):
        return NAN
    above = (
        2 * np.cumsum(table.anomalous) - table.anomalous
    )  # twice those above, and those at the same level once
    return int(above @ table.normal) / (2 * int(table.anomalous.sum()) * int(table.normal.sum()))


def average_precision(table: Levels) -> float:
    """Return the average precision; NaN without anomalous or without normal items."""
    if _is_one_sided(table):
        return NAN
    found, taken = np.cumsum(table.anomalous), np.cumsum(table.anomalous + table.normal)
    return float((table.anomalous * (found / taken)).sum() / found[-1])


def f1_max(table: Levels) -> float:
    """Return the largest F1 over all thresholds; NaN without anomalous or without normal items."""
    if _is_one_sided(table):
        return NAN
    found, taken = np.cumsum(table.anomalous), np.cumsum(table.anomalous + table.normal)
    return float((2 * found / (taken + found[-1])).max())


def aupro(table: Levels, fpr_limit: float = FPR_LIMIT) -> float:
    """Return the area under PRO(FPR) up to `fpr_limit` in (0, 1], over the limit; NaN without regions or
    without normal pixels.
    """
    if table.regions is None or not table.n_regions or not table.normal.any():
        return NAN
    fpr = np.append(0.0, np.cumsum(table.normal) / table.normal.sum())
    end = int(np.searchsorted(fpr, fpr_limit))  # the first point at or beyond the limit
    pro = np.append(0.0, np.cumsum(table.regions[:end]) / table.n_regions)
    part = (fpr_limit - fpr[end - 1]) / (fpr[end] - fpr[end - 1])
    at_limit = pro[end - 1] + part * (pro[end] - pro[end - 1])
    return float(np.trapezoid(np.append(pro[:end], at_limit), np.append(fpr[:end], fpr_limit)) / fpr_limit)


def pixel_figures(table: Levels, fpr_limit: float = FPR_LIMIT) -> PixelFigures:
    """Return the four figures of the maps of a category."""
    return PixelFigures(auroc(table), average_precision(table), f1_max(table), aupro(table, fpr_limit))


def _is_one_sided(table: Levels) -> bool:
    return not (table.anomalous.any() and table.normal.any())


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
    "Levels",
    "PixelCounts",
    "PixelFigures",
    "aupro",
    "auroc",
    "average_precision",
    "continual",
    "f1_max",
    "levels",
    "pixel_figures",
    "pixel_levels",
    "region_shares",
]
