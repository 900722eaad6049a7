"""Reading a folder of JPEG files: `folder[root=...]` against torchvision's `ImageFolder`, the first time and again.

20,000 photographs of 400 x 300 px in 10 classes are made, and brought to 224 px as usual: the shorter side to 256 px,
then the centre. A first read hashes and decodes every file, packs the pictures, digests them and fetches each once,
in batches; a second read, in a process of its own, checks that nothing has changed and fetches all again.
torchvision's side is a `DataLoader` of 2 workers over `Resize(256)`, `CenterCrop(224)` and `ToTensor` or
`PILToTensor`, which leaves bytes as they are as the pack does. The sides take turns, each in a fresh process, with
all files in the system's cache; what is printed is the median of the rounds.

Run: python benchmarks/own_folder.py [--images 20000] [--rounds 3] [--folder FOLDER]
Needs room for 4 GB per 20,000 images in FOLDER.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

BATCH = 64
CLASSES = 10
SIDES = {
    "first": "folder, first read",
    "again": "folder, second read",
    "ToTensor": "ImageFolder, ToTensor",
    "PILToTensor": "ImageFolder, PILToTensor",
}


def main() -> None:
    """Make the pictures and time every side by turns."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--images", type=int, default=20_000)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--folder", default="")
    asked.add_argument("--side", default="", help=argparse.SUPPRESS)
    said = asked.parse_args()
    if said.side:
        seconds, peak = timed(said.side, Path(said.folder) / "pictures")
        print(seconds, peak)
        return
    with tempfile.TemporaryDirectory(dir=said.folder or None) as above:
        root = Path(above) / "pictures"
        with ProcessPoolExecutor() as pool:
            list(pool.map(partial(made, root), range(said.images), chunksize=100))
        found: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
        for _ in range(said.rounds):
            shutil.rmtree(Path(above) / "cache", ignore_errors=True)
            for side in SIDES:
                found[side].append(in_own_process(side, Path(above)))
        first = median(seconds for seconds, _ in found["first"])
        again = median(seconds for seconds, _ in found["again"])
        for side, title in SIDES.items():
            own = median(seconds for seconds, _ in found[side])
            peak = max(peak for _, peak in found[side])
            print(
                f"{title:26} {own:7.2f} s  {said.images / own:7.0f} images/s  peak {peak:5.0f} MiB  "
                f"first read is {own / first:5.2f} x, second {own / again:5.2f} x as fast"
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


def in_own_process(side: str, above: Path) -> tuple[float, float]:
    """Return the seconds and the peak memory in MiB of one side."""
    said = subprocess.run(
        [sys.executable, __file__, "--side", side, "--folder", str(above)],
        env={**os.environ, "OWB_CACHE": str(above / "cache")},
        check=True,
        capture_output=True,
        text=True,
    )
    seconds, peak = map(float, said.stdout.split())
    return seconds, peak


def timed(side: str, root: Path) -> tuple[float, float]:
    """Read all pictures once; seconds from the first line of user code, with imports before."""
    read = _ours(root) if side in ("first", "again") else _torchvision(root, side)
    start = time.perf_counter()
    items = read()
    seconds = time.perf_counter() - start
    assert items == sum(len(files) for _, _, files in os.walk(root))
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _ours(root: Path):  # type: ignore[no-untyped-def]
    from scenarios.datasets.by_name import data_of

    def read() -> int:
        data = data_of(f"folder[root={root},resize=256,crop=224]")
        items = 0
        for start in range(0, len(data.labels), BATCH):
            items += len(data.inputs[np.arange(start, min(start + BATCH, len(data.labels)))])
        return items

    return read


def _torchvision(root: Path, last: str):  # type: ignore[no-untyped-def]
    import torch
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    torch.set_num_threads(1)

    def read() -> int:
        steps = [transforms.Resize(256), transforms.CenterCrop(224), getattr(transforms, last)()]
        pictures = ImageFolder(str(root), transforms.Compose(steps))
        loader = torch.utils.data.DataLoader(pictures, batch_size=BATCH, num_workers=2)
        return sum(len(labels) for _, labels in loader)

    return read


if __name__ == "__main__":
    main()
