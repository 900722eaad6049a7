"""AUPRO on 50 maps of 256 x 256: exact by one sort, exact by counting, and as released codes approximate it,
side by side on one thread.

released: 200 thresholds between the extremes, at each of which the regions of every mask are labelled anew
and the share found of each is taken (the scheme of the CPU code of INP-Former and of the codes it comes
from).
lean: the same thresholds, regions labelled once, shares by one count of all pixels.
bins: values put into 200 bins of equal width (the scheme of adeval), then as the exact form.

All of them end at the limit of 0.3 by linear interpolation, so that they differ in the thresholds alone.
Errors are against the sort of all maps at once. In the end 300 maps, more than are counted exactly, are
counted beside the sort.

Run: OMP_NUM_THREADS=1 python benchmarks/anomaly_metrics.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from harness.metrics.anomaly import PixelCounts, aupro, pixel_levels, pixel_metrics

IMAGES, SIDE, THRESHOLDS, ROUNDS = 50, 256, 200, 3
EIGHT = np.ones((3, 3))


def world(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return maps float32 and masks bool, (50, 256, 256), half of the images good."""
    rng = np.random.default_rng(0)
    masks = ndimage.gaussian_filter(rng.normal(size=(IMAGES, SIDE, SIDE)), (0, 8, 8)) > 0.055
    masks[::2] = False
    noise = ndimage.gaussian_filter(rng.normal(size=masks.shape), (0, 4, 4))
    maps = noise / noise.std() + ndimage.gaussian_filter(masks.astype(float), (0, 3, 3)) * 2
    if kind == "squared":  # as distances are in some released codes
        maps = (maps - maps.min()) ** 2
    if kind == "exponential":  # a few very large values
        maps = np.exp(1.5 * maps)
    if kind == "tied":
        maps = np.round(maps)
    return maps.astype(np.float32), masks


def counting(maps: np.ndarray, masks: np.ndarray) -> float:
    """Return AUPRO of the maps, image by image."""
    counts = PixelCounts()
    for values, mask in zip(maps, masks, strict=True):
        counts.add(values, mask)
    return counts.figures().aupro


def released(maps: np.ndarray, masks: np.ndarray) -> float:
    """Return AUPRO over 200 thresholds, every region looked for at each."""
    points = []
    for threshold in np.linspace(maps.max(), maps.min(), THRESHOLDS):
        above, shares = maps > threshold, []
        for found, mask in zip(above, masks, strict=True):
            components, number = ndimage.label(mask, structure=EIGHT)
            shares += list(ndimage.mean(found, components, np.arange(1, number + 1))) if number else []
        points.append((np.sum(above & ~masks) / np.sum(~masks), np.mean(shares)))
    return area(points)


def lean(maps: np.ndarray, masks: np.ndarray) -> float:
    """Return AUPRO over 200 thresholds, the regions labelled once."""
    components, start = np.zeros(masks.shape, dtype=np.int64), 0
    for index, mask in enumerate(masks):
        found, number = ndimage.label(mask, structure=EIGHT)
        components[index] = np.where(mask, found + start, 0)
        start += number
    areas = np.bincount(components[masks])[1:]
    points = []
    for threshold in np.linspace(maps.max(), maps.min(), THRESHOLDS):
        above = maps > threshold
        shares = np.bincount(components[above & masks], minlength=start + 1)[1:] / areas
        points.append((np.sum(above & ~masks) / np.sum(~masks), np.mean(shares)))
    return area(points)


def area(points: list[tuple[float, float]]) -> float:
    """Return the area under the curve through (0, 0) and `points` up to 0.3, over 0.3."""
    fpr, pro = np.array([(0.0, 0.0), *points, (1.0, 1.0)]).T
    inside = fpr < 0.3
    at_limit = np.interp(0.3, fpr, pro)
    return float(np.trapezoid(np.append(pro[inside], at_limit), np.append(fpr[inside], 0.3)) / 0.3)


def bins(maps: np.ndarray, masks: np.ndarray) -> float:
    """Return AUPRO of values that were put into 200 bins."""
    low, high = maps.min(), maps.max()
    return aupro(
        pixel_levels(
            np.minimum((maps - low) / (high - low) * THRESHOLDS, THRESHOLDS - 1).astype(np.int64), masks
        )
    )


FORMS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "sort": lambda maps, masks: aupro(pixel_levels(maps, masks)),
    "counting": counting,
    "bins": bins,
    "lean": lean,
    "released": released,
}


def speed() -> None:
    """Print what every form takes; a round takes all of them one after another, ratios are within rounds."""
    maps, masks = world("smooth")
    taken: dict[str, list[float]] = {name: [] for name in FORMS}
    for _ in range(ROUNDS):
        for name, form in FORMS.items():
            started = time.perf_counter()
            form(maps, masks)
            taken[name].append(time.perf_counter() - started)
    print(f"{IMAGES} maps of {SIDE} x {SIDE}, {pixel_levels(maps, masks).n_regions} regions")
    for name, seconds in taken.items():
        ratios = [
            statistics.median(b / a for a, b in zip(seconds, taken[other], strict=True))
            for other in ("lean", "released")
        ]
        print(
            f"  {name:8} {1000 * statistics.median(seconds):8.0f} ms: {ratios[0]:6.1f} x as fast as lean, "
            f"{ratios[1]:6.1f} x as released"
        )


def errors() -> None:
    """Print how far every form is from the exact value."""
    for kind in ("smooth", "squared", "exponential", "tied"):
        maps, masks = world(kind)
        exact = FORMS["sort"](maps, masks)
        off = ", ".join(
            f"{name} {FORMS[name](maps, masks) - exact:+.6f}" for name in ("counting", "bins", "lean")
        )
        print(f"{kind}: exact {exact:.6f}; {off}")


def four_figures() -> None:
    """Print what all four pixel figures take by counting and by sorting, for 50 maps and for 300, and how far
    they are apart.
    """
    for copies in (1, 6):
        maps, masks = (np.concatenate([each] * copies) for each in world("exponential"))
        maps = maps * np.random.default_rng(1).uniform(0.99, 1.01, size=maps.shape)  # float64, all different
        started = time.perf_counter()
        counts = PixelCounts()
        for values, mask in zip(maps, masks, strict=True):
            counts.add(values, mask)
        streamed, between = counts.figures(), time.perf_counter()
        whole = pixel_metrics(pixel_levels(maps, masks))
        seconds, sorting = between - started, time.perf_counter() - between
        off = max(abs(a - b) for a, b in zip(streamed, whole, strict=True))
        print(
            f"four figures of {len(maps)} maps counted: {1000 * seconds:.0f} ms, sorted "
            f"{1000 * sorting:.0f} ms; apart by {off:.1e}"
        )


def main() -> None:
    """Print the comparisons."""
    speed()
    errors()
    four_figures()


if __name__ == "__main__":
    main()
