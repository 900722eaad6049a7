"""What batched views cost beside the same recipes image by image (PIL and torchvision), and what reading
ahead saves on a pack of images.

Both sides start from decoded bytes and end with a float batch. The recipes: the padded crop of CIFAR (ELR,
DivideMix), the same with colour jitter, and the resized crop with jitter of UNO. One thread for all that is
computed; each round measures both sides one after the other, and a ratio is taken within a round, so that a
machine that slows down for a while slows down both.

The pack is dropped from the system's cache before each pass, as far as the system lets go of it. The thread
that reads ahead saves what is spent waiting; copying bytes it can only take over where a second core is free.
So a second run lets every batch come late.

Run: OMP_NUM_THREADS=1 python benchmarks/augmentation.py, then once more with THP_MEM_ALLOC_ENABLE=1 (PyTorch
asks for large pages)
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from harness.contracts import AnyArray, Inputs, IntArray
from scenarios.datasets.packed import Packed
from strategies.toolkit.augmentations import augmentation_of
from strategies.toolkit.training.lazy_tensor import FromInputs, Stored
from strategies.toolkit.training.prefetch import AHEAD, in_turn

ROUNDS = 7
SIZES = {32: 512, 224: 64}
JITTER = "colour-jitter[brightness=0.4,contrast=0.4,saturation=0.2,hue=0.1,chance=0.8]"
PACKED, SIDE, BATCH, WAIT_S = 1024, 224, 64, 0.2


def jitter() -> transforms.RandomApply:
    """Return torchvision's form of `JITTER`."""
    return transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8)


def recipes(side: int) -> dict[str, tuple[str, list[Callable[..., object]]]]:
    """Return each recipe as a text of ours and as torchvision's transforms of PIL images."""
    padded = [transforms.RandomCrop(side, padding=4), transforms.RandomHorizontalFlip()]
    resized = [transforms.RandomResizedCrop(side, scale=(0.5, 1.0)), transforms.RandomHorizontalFlip()]
    return {
        "padded crop, mirror": ("padded-crop[mirror=0.5]", padded),
        "padded crop, mirror, jitter": (f"padded-crop[mirror=0.5]+{JITTER}", [*padded, jitter()]),
        "resized crop, mirror, jitter": (
            f"resized-crop[low=0.5,high=1,mirror=0.5]+{JITTER}",
            [*resized, jitter()],
        ),
    }


def pictures(items: int, side: int) -> Tensor:
    """Return smooth random images, uint8 (items, 3, side, side)."""
    rough = torch.rand(items, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.interpolate(rough, size=side, mode="bicubic", align_corners=False)
    return (255 * smooth).clamp_(0, 255).byte()


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_rounds(ways: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Return seconds of every way, one round after another, after one that does not count."""
    for work in ways.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            seconds[name].append(timed(work))
    return seconds


def compare_views() -> None:
    """Print images per second of both sides."""
    for side, batch in SIZES.items():
        images = pictures(batch, side)
        arrays = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in images]
        for name, (text, steps) in recipes(side).items():
            augment, generator = augmentation_of(text), torch.Generator().manual_seed(0)
            one = transforms.Compose([*steps, transforms.ToTensor()])
            seconds = in_rounds(
                {
                    "ours": lambda augment=augment, generator=generator, images=images: augment(
                        images.float().div_(255), generator
                    ),
                    "PIL": lambda one=one, arrays=arrays: torch.stack(
                        [one(Image.fromarray(array)) for array in arrays]
                    ),
                }
            )
            ratios = [theirs / ours for theirs, ours in zip(seconds["PIL"], seconds["ours"], strict=True)]
            low, median, high = statistics.quantiles(ratios, n=4)
            ours, theirs = (batch / statistics.median(seconds[way]) for way in ("ours", "PIL"))
            print(
                f"{side} x {side}, batch {batch}, {name:<28} ours {ours:>7,.0f} images/s, PIL {theirs:>6,.0f}: "
                f"{median:.1f} x ({low:.1f} to {high:.1f})",
                flush=True,
            )


def forget(path: Path) -> None:
    """Ask the system to drop a file from its cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@dataclass(frozen=True)
class Distant:
    """A pack of which every batch comes `WAIT_S` late, as from a disk across a network."""

    packed: Packed

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *item shape)."""
        return self.packed.shape

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, index: IntArray) -> AnyArray:
        time.sleep(WAIT_S)
        return self.packed[index]


def write(path: Path) -> Packed:
    """Write a pack."""
    content = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(PACKED, 3, SIDE, SIDE))
    for start in range(0, PACKED, BATCH):
        content[start : start + BATCH] = pictures(BATCH, SIDE).numpy()
    content.flush()
    return Packed(str(path), np.arange(PACKED), (3, SIDE, SIDE), "uint8")


def compare_reading() -> None:
    """Print images per second of passes over a pack, with and without reading ahead."""
    network = nn.Sequential(
        nn.Conv2d(3, 32, 16, stride=16), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 14 * 14, 100)
    )
    batches = torch.split(torch.randperm(PACKED, generator=torch.Generator().manual_seed(1)), BATCH)

    def passed(inputs: Inputs, ahead: int, *, computing: bool = True) -> None:
        forget(path)
        items = Stored(FromInputs(inputs), torch.arange(PACKED), inputs.shape[1:], "cpu")
        with closing(in_turn(items, batches, ahead=ahead)) as read:
            for batch in read:
                if computing:
                    network.zero_grad()
                    network(batch).square().mean().backward()

    print(
        (
            f"a pack of {PACKED} images {SIDE} x {SIDE} ({PACKED * 3 * SIDE * SIDE / 2**20:.0f} MiB), batches "
            f"of {BATCH}, two layers"
        ),
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pack.npy"
        packed = write(path)
        for name, inputs in {
            "as it lies here": packed,
            f"every batch {WAIT_S:g} s late": Distant(packed),
        }.items():
            ways = {
                "read alone": lambda inputs=inputs: passed(inputs, 0, computing=False),
                "read, then a step": lambda inputs=inputs: passed(inputs, 0),
                f"read {AHEAD} ahead": lambda inputs=inputs: passed(inputs, AHEAD),
            }
            seconds = in_rounds(ways, rounds=5)
            speeds = ", ".join(
                f"{way} {PACKED / statistics.median(values):,.0f}" for way, values in seconds.items()
            )
            _, plain, ahead = seconds.values()
            low, median, high = statistics.quantiles(
                [before / after for before, after in zip(plain, ahead, strict=True)], n=4
            )
            print(f"  {name:<22} images/s: {speeds}: {median:.2f} x ({low:.2f} to {high:.2f})", flush=True)


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, one thread; load of the machine at the start "
        f"{os.getloadavg()[0]:.1f}; medians, middle half of ratios"
    )
    compare_views()
    compare_reading()


if __name__ == "__main__":
    main()
