"""Reading a folder of JPEG files: `folder[root=...]` against torchvision's `ImageFolder`, the first time and again.

20,000 photographs of 400 x 300 px in 10 classes are made, and brought to one size as usual: the shorter side to
`resize`, then the centre. A first read hashes and decodes every file, packs the pictures, digests them and fetches
each once, in batches; a second read, in a process of its own, checks that nothing has changed and fetches all again.
torchvision's side is a `DataLoader` of 2 workers over `Resize`, `CenterCrop` and `ToTensor`, or `PILToTensor`, which
leaves bytes as they are, as the pack does. `draft` decodes at a part of the size, which torchvision does not.

Both sides decode and resize by Pillow, to the same bytes. `Pillow alone` does nothing else, in two threads which keep
the memory they free, and keeps no picture: no first read of these bytes is faster than that. Of 20,000 images on two
quiet cores, in seconds on the clock: at 224 px a first read took 17.1, Pillow alone 14.1, `ImageFolder` with `ToTensor`
21.6: 1.26 times as fast where 1.53 is the most there can be. At 64 px 10.4, with `draft` 8.1, Pillow alone 9.1, against
9.9: 0.94 and 1.22 times, of 1.08. A second read took 1.5 and 0.6: 15 and 18 times as fast. Ours held 83 MiB.

The sides take turns, each in a fresh process, with all files in the system's cache. Printed are the median of the
rounds, and the least time that the processor took for all processes of a side, which other work disturbs less.

Run: python benchmarks/own_folder.py [--images 20000] [--rounds 3] [--folder FOLDER]
Needs room for 5 GB per 20,000 images in FOLDER.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

BATCH = 64
CLASSES = 10
SIZES = {"224 px": (256, 224), "64 px": (64, 64)}
SIDES = ("first", "again", "alone", "ToTensor", "PILToTensor")


class Cost(NamedTuple):
    """Seconds on the clock and of the processor, and the peak memory of the process that reads, in MiB."""

    seconds: float
    processor: float
    peak: float


def main() -> None:
    """Make the pictures and time every side by turns."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--images", type=int, default=20_000)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--folder", default="")
    asked.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    said = asked.parse_args()
    if said.side:
        print(*timed(*said.side, Path(said.folder) / "pictures"))
        return
    with tempfile.TemporaryDirectory(dir=said.folder or None) as above:
        root = Path(above) / "pictures"
        with ProcessPoolExecutor() as pool:
            list(pool.map(partial(made, root), range(said.images), chunksize=100))
        for size in SIZES:
            sides = SIDES if size == "224 px" else ("first", "draft", *SIDES[1:])
            found: dict[str, list[Cost]] = {side: [] for side in sides}
            for _ in range(said.rounds):
                for side in sides:
                    if side in ("first", "draft"):
                        shutil.rmtree(Path(above) / "cache", ignore_errors=True)
                    found[side].append(in_own_process(side, size, Path(above)))
            report(size, said.images, found)


def report(size: str, images: int, found: dict[str, list[Cost]]) -> None:
    """Print a line per side, with how many times as fast ours are."""
    titles = {
        "first": "folder, first read",
        "draft": "folder, first read, draft",
        "again": "folder, second read",
        "alone": "Pillow alone",
    }
    for side, costs in found.items():
        seconds = median(cost.seconds for cost in costs)
        processor = min(cost.processor for cost in costs)
        ratios = [
            f"{own} {seconds / median(cost.seconds for cost in found[own]):.2f} x "
            f"({processor / min(cost.processor for cost in found[own]):.2f} x)"
            for own in ("first", "draft", "again", "alone")
            if own in found and side not in titles
        ]
        print(
            f"{size:7} {titles.get(side, f'ImageFolder, {side}'):26} {seconds:7.2f} s  processor {processor:7.2f} s  "
            f"{images / seconds:6.0f} images/s  peak {max(cost.peak for cost in costs):4.0f} MiB"
            + (f"  as fast as this: {', '.join(ratios)}" if ratios else "")
        )


def made(root: Path, number: int) -> None:
    """Write one picture: coarse colours made smooth, with the noise of a camera."""
    from PIL import Image

    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (20, 26, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((400, 300), Image.Resampling.BICUBIC))
    pixels = np.clip(smooth + rng.normal(0, 5, smooth.shape), 0, 255).astype(np.uint8)
    path = root / f"class {number % CLASSES}" / f"{number}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=90)


def in_own_process(side: str, size: str, above: Path) -> Cost:
    """Return what one side costs."""
    memory_kept = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 27)}
    said = subprocess.run(
        [sys.executable, __file__, "--side", side, size, "--folder", str(above)],
        env={**os.environ, "OWB_CACHE": str(above / "cache"), **(memory_kept if side == "alone" else {})},
        check=True,
        capture_output=True,
        text=True,
    )
    return Cost(*map(float, said.stdout.split()))


def timed(side: str, size: str, root: Path) -> Cost:
    """Read all pictures once; imports come before."""
    import resource

    resize, crop = SIZES[size]
    if side == "alone":
        read = _pillow(root, resize, crop)
    elif side in SIDES[-2:]:
        read = _torchvision(root, resize, crop, side)
    else:
        read = _ours(root, resize, crop, draft=size == "64 px" and side != "first")
    before, start = sum(os.times()[:4]), time.perf_counter()
    items = read()
    seconds, processor = time.perf_counter() - start, sum(os.times()[:4]) - before
    assert items == sum(len(files) for _, _, files in os.walk(root))
    return Cost(seconds, processor, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _ours(root: Path, resize: int, crop: int, *, draft: bool) -> Callable[[], int]:
    from scenarios.datasets.by_name import data_of

    text = f"folder[root={root},resize={resize},crop={crop},draft={str(draft).lower()}]"

    def read() -> int:
        data = data_of(text)
        starts = range(0, len(data.labels), BATCH)
        return sum(
            len(data.inputs[np.arange(start, min(start + BATCH, len(data.labels)))]) for start in starts
        )

    return read


def _pillow(root: Path, resize: int, crop: int) -> Callable[[], int]:
    from PIL import Image

    def squared(path: Path) -> None:
        with Image.open(path) as picture:
            size = [side * resize // min(picture.size) for side in picture.size]
            left, top = ((side - crop) // 2 for side in size)
            picture.resize((size[0], size[1]), Image.Resampling.BILINEAR).crop(
                (left, top, left + crop, top + crop)
            )

    def read() -> int:
        paths = [*root.rglob("*.jpg")]
        with ThreadPoolExecutor(2) as pool:
            return sum(1 for _ in pool.map(squared, paths))

    return read


def _torchvision(root: Path, resize: int, crop: int, last: str) -> Callable[[], int]:
    import torch
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    torch.set_num_threads(1)

    def read() -> int:
        steps = [transforms.Resize(resize), transforms.CenterCrop(crop), getattr(transforms, last)()]
        pictures = ImageFolder(str(root), transforms.Compose(steps))
        loader = torch.utils.data.DataLoader(pictures, batch_size=BATCH, num_workers=2)
        return sum(len(labels) for _, labels in loader)

    return read


if __name__ == "__main__":
    main()
