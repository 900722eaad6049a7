"""What a look costs: milliseconds of each probe, 512 items of 128 features in 10 classes, on one thread.

Processor time, so that what else the machine does stays out: median and middle half of the rounds, and the fastest.
Curvature is that of a multilayer perceptron of 51 thousand weights, beside one gradient of the same items.

Run: OMP_NUM_THREADS=1 python benchmarks/probes.py [PROBE ...]
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import cast

import numpy as np
import torch

from harness.plugins import registered
from harness.probes.contract import Look, Probe
from harness.selection import configured

ITEMS, FEATURES, CLASSES = 512, 128, 10
ROUNDS = 15


def main() -> None:
    """Print a line for every probe."""
    torch.set_num_threads(1)
    look = _look()
    for name in sys.argv[1:] or registered("probe"):
        probe = cast(Probe, configured("probe", name))
        times = [_milliseconds(probe, look) for _ in range(ROUNDS + 1)][1:]  # the first round warms up
        low, middle, high = statistics.quantiles(times, n=4)
        print(f"{name}: {middle:.2f} ms (middle half {low:.2f} to {high:.2f}, fastest {min(times):.2f})")


def _look() -> Look:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(ITEMS) % CLASSES)
    means = rng.normal(size=(CLASSES, FEATURES))
    features = np.maximum(means[labels] + rng.normal(size=(ITEMS, FEATURES)), 0).astype(np.float32)
    head = (means - means.mean(axis=0)).astype(np.float32)
    given = np.where(rng.random(ITEMS) < 0.4, rng.integers(0, CLASSES, ITEMS), labels)
    return Look(features=features, logits=features @ head.T, head=head, labels=labels, given=given)


def _milliseconds(probe: Probe, look: Look) -> float:
    start = time.process_time()
    probe.measure(look, np.random.default_rng(0))
    return 1000 * (time.process_time() - start)


if __name__ == "__main__":
    main()
