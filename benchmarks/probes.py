"""What a look costs: milliseconds of each probe, at most 512 items of 128 features in 10 classes, on one thread.

Processor time, so that what else the machine does stays out: median and middle half of the rounds, and the fastest.
Curvature is that of a multilayer perceptron of 51 thousand weights; one gradient of the same items stands beside it.

Run: OMP_NUM_THREADS=1 python benchmarks/probes.py [PROBE ...]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import nn

from harness.plugins import registered
from harness.probes.contract import Look, Probe
from harness.selection import configured
from strategies.toolkit.loss_surface import LossSurface

ITEMS, FEATURES, CLASSES = 512, 128, 10
ROUNDS = 15


def main() -> None:
    """Print a line for every probe."""
    torch.set_num_threads(1)
    for name in sys.argv[1:] or registered("probe"):
        probe = cast(Probe, configured("probe", name))
        look = _look(min(probe.items, ITEMS))
        _print(f"{name}, {len(look.labels)} items", partial(probe.measure, look, np.random.default_rng(0)))
    surface = _look(ITEMS).surface
    assert surface is not None
    _print("a gradient", lambda: torch.autograd.grad(surface.loss(slice(None)), surface.parameters()))


def _print(name: str, call: Callable[[], object]) -> None:
    times = [_milliseconds(call) for _ in range(ROUNDS + 1)][1:]  # the first round warms up
    low, middle, high = statistics.quantiles(times, n=4)
    print(
        f"{name}: {middle:.2f} ms (middle half {low:.2f} to {high:.2f}, fastest {min(times):.2f})", flush=True
    )


def _look(items: int) -> Look:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(items) % CLASSES)
    means = rng.normal(size=(CLASSES, FEATURES))
    features = np.maximum(means[labels] + rng.normal(size=(items, FEATURES)), 0).astype(np.float32)
    head = (means - means.mean(axis=0)).astype(np.float32)
    given = np.where(rng.random(items) < 0.4, rng.integers(0, CLASSES, items), labels)
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, CLASSES)
    )
    inputs = torch.as_tensor(rng.normal(size=(items, 64)), dtype=torch.float32)
    surface = LossSurface(network, inputs, torch.as_tensor(labels)).stepped(rate=0.05, momentum=0.9)
    return Look(
        features=features, logits=features @ head.T, head=head, labels=labels, given=given, surface=surface
    )


def _milliseconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return 1000 * (time.process_time() - start)


if __name__ == "__main__":
    main()
