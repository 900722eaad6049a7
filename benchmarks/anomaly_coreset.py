"""The greedy coreset with a running minimum against distances to all chosen points at every step, side by
side on one thread.

Patches as the default encoder has them (19 channels), and as a projection to 128 dimensions leaves those of a
large network. A third column has the form of PatchCore's released code, which appends the new distances as a
column and takes the minimum of two.

Run: OMP_NUM_THREADS=1 python benchmarks/anomaly_coreset.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from strategies.anomaly.coreset import k_centres

PATCHES, SHARE, ROUNDS = 4_096, 0.1, 3


def recomputed(points: Tensor, count: int, first: int) -> Tensor:
    """Return the same choice with the distances to all chosen points taken anew at every step."""
    rows = [first]
    while len(rows) < count:
        squares = points.square().sum(dim=1)
        products = points @ points[rows].T
        distances = squares[:, None] - 2 * products + squares[rows]
        nearest = distances.amin(dim=1)
        nearest[rows] = -torch.inf
        rows.append(int(nearest.argmax()))
    return torch.tensor(rows)


def column_by_column(points: Tensor, count: int, first: int) -> Tensor:
    """Return the same choice as the released code computes it: a column of two, its minimum, a copy."""
    rows, nearest = [], torch.full((len(points), 1), torch.inf)
    chosen = first
    for _ in range(count):
        rows.append(chosen)
        one = points[chosen : chosen + 1]
        squares = points.square().sum(dim=1, keepdim=True) - 2 * points @ one.T + one.square().sum()
        nearest = torch.cat([nearest, squares.clamp(min=0).sqrt()], dim=-1).min(dim=1).values.reshape(-1, 1)
        nearest[chosen] = -torch.inf
        chosen = int(nearest.argmax())
    return torch.tensor(rows)


def seconds_of(action: Callable[[], Tensor]) -> float:
    """Return the seconds of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def main() -> None:
    """Print both comparisons; the three forms take turns, so that a busy moment meets all of them."""
    torch.set_num_threads(1)
    for dimensions in (19, 128):
        points = torch.from_numpy(
            np.random.default_rng(0).normal(size=(PATCHES, dimensions)).astype(np.float32)
        )
        count = round(SHARE * PATCHES)
        first = int(k_centres(points, 1, np.random.default_rng(1), dimensions=0)[0])
        centred = points - points.mean(dim=0)
        forms: dict[str, Callable[[], Tensor]] = {
            "running minimum": lambda points=points, count=count: k_centres(
                points, count, np.random.default_rng(1), dimensions=0
            ),
            "all distances anew": lambda points=centred, count=count, first=first: recomputed(
                points, count, first
            ),
            "column by column": lambda points=centred, count=count, first=first: column_by_column(
                points, count, first
            ),
        }
        choices = [form() for form in forms.values()]
        agree = min(float((choices[0] == other).float().mean()) for other in choices[1:])
        taken: dict[str, list[float]] = {name: [] for name in forms}
        for _ in range(ROUNDS):
            for name, form in forms.items():
                taken[name].append(seconds_of(form))
        ours, anew, columns = (statistics.median(seconds) for seconds in taken.values())
        print(
            f"coreset of {count:,} of {PATCHES:,} x {dimensions}: {ours:.2f} s, all distances anew "
            f"{anew:.2f} s: {anew / ours:.1f} x, "
            f"column by column {columns:.2f} s: {columns / ours:.1f} x; {agree:.0%} of the choice agrees"
        )


if __name__ == "__main__":
    main()
