"""Time to deal the published splits of continual category discovery, from label arrays of the true sizes; no
image is needed.

Beside it, what one call of a per-item selection costs, "every item whose place is in the list of chosen
places", which the released code
makes for TinyImageNet once per class and stage: it grows with the square of the items.

Run: python benchmarks/allocation.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from harness.contracts import IntArray
from harness.selection import configured

REPEATS = 5
MEMBERSHIP = (4_000, 8_000, 16_000)

CIFAR, TINY = np.full(100, 500), np.full(200, 500)
SPLITS = (
    ("happy-cifar100", "CIFAR-100", CIFAR, 100, ""),
    ("happy-tinyimagenet", "TinyImageNet", TINY, 50, ""),
    ("happy-imagenet100", "ImageNet-100", None, 50, ""),
    ("happy-imagenet100", "ImageNet-100 among 1,000 classes", 1000, 50, ""),
    ("happy-imagenet100", "all of ImageNet, 500 + 5 x 100", 1000, 50, ",classes=0,initial=500,new=5x100"),
)


def imagenet_sizes(classes: int) -> IntArray:
    """Return training images per class as ImageNet has them: 1,300 in nine classes of ten, 732 to 1,299 in
    the others.
    """
    rng = np.random.default_rng(0)
    sizes = np.full(classes, 1300)
    sizes[rng.permutation(classes)[: classes // 10]] = rng.integers(732, 1300, classes // 10)
    return sizes


def seconds(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Return the shortest time of some calls."""
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return min(found)


def by_membership(items: list[int], chosen: list[int]) -> list[int]:
    """Return the items whose places are among `chosen`, each looked up in the list."""
    return [item for place, item in enumerate(items) if place in chosen]


def main() -> None:
    """Print both tables."""
    print(f"{'split':<34} {'items':>9} {'stages':>6} {'dealt':>8} {'allocation':>11}")
    for preset, title, train, test, more in SPLITS:
        sizes = train if isinstance(train, np.ndarray) else imagenet_sizes(train or 100)
        labels = np.concatenate(
            [np.repeat(np.arange(len(sizes)), sizes), np.repeat(np.arange(len(sizes)), test)]
        )
        is_test = np.arange(len(labels)) >= sizes.sum()
        scenario: Any = configured("scenario", f"cgcd[preset={preset}{more}]")
        dealt = scenario.allocate(labels, is_test, len(sizes), 0)
        spent = seconds(lambda: scenario.allocate(labels, is_test, len(sizes), 0))  # noqa: B023  (called at once)
        print(
            f"{title:<34} {len(labels):>9,} {len(dealt.stages):>6} "
            f"{sum(len(stage.rows) for stage in dealt.stages):>8,} {spent:>9.3f} s"
        )
    print(f"\n{'one selection of half the items':<34} {'items':>9} {'per item':>16} {'index array':>14}")
    for size in MEMBERSHIP:
        items, chosen = list(range(size)), list(range(0, size, 2))
        array, places = np.arange(size), np.array(chosen)
        looped, indexed = seconds(lambda: by_membership(items, chosen), 1), seconds(lambda: array[places])  # noqa: B023
        print(f"{'':<34} {size:>9,} {looped:>14.3f} s {1e6 * indexed:>11.0f} us")
    print(
        f"{'extrapolated by the square':<34} {100_000:>9,} {looped * (100_000 / MEMBERSHIP[-1]) ** 2:>14.0f} s"
    )


if __name__ == "__main__":
    main()
