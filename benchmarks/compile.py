"""What `--compile` costs and gains on a CPU: gradient steps of a network as it is and compiled, side by side
on one thread.

Both take the same steps on the same noise, in turn; a ratio is taken within each pair of steps, and the
median and middle half of these are printed. Steps are counted in seconds of the processor, so that other work
on the machine counts for little; compiling in seconds of the clock, since most of it is done by the C++
compiler. The folder of compiled code is empty at first, as on a new machine; a second network then finds it
there, as the next cell does.

Run: OMP_NUM_THREADS=1 python benchmarks/compile.py
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness.cell.run import CellContext, CellSettings
from harness.contracts import TrainingBudget
from strategies.toolkit.networks import backbone
from strategies.toolkit.training.eval_mode import eval_mode

CASES = [("mlp", (1, 8, 8), 32, 1000), ("cnn", (1, 8, 8), 32, 300), ("resnet18-cifar", (3, 32, 32), 128, 7)]
"""Network, shape of an item, rows of a batch, pairs of steps."""

CLASSES = 10


class Training:
    """A network and its optimiser."""

    def __init__(self, name: str, shape: tuple[int, ...], batch: int, *, compiled: bool) -> None:
        """Draw the network; the same for the same name."""
        settings = CellSettings(
            root_seed=0, budget=TrainingBudget(backbone=name, epochs=1, batch_size=batch), compile=compiled
        )
        context = CellContext(settings=settings, scratch=Path(), on_progress=lambda *_: None)
        self.network = backbone(context, shape)
        torch.manual_seed(0)
        features: int = self.network.features  # type: ignore[assignment]
        self.head = nn.Linear(features, CLASSES)
        weights = [*self.network.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.SGD(weights, lr=0.01, momentum=0.9)
        self.losses: list[float] = []

    def step(self, inputs: Tensor, labels: Tensor) -> float:
        """Take a gradient step; return its seconds of the processor."""
        started = time.process_time()
        self.optimiser.zero_grad()
        loss: Any = cross_entropy(self.head(self.network(inputs)), labels)
        loss.backward()
        self.optimiser.step()
        self.losses.append(loss.item())
        return time.process_time() - started

    def first(self, inputs: Tensor, labels: Tensor) -> float:
        """Take a step and look at the same rows in evaluation mode; return the seconds of the clock."""
        started = time.perf_counter()
        self.step(inputs, labels)
        with eval_mode(self.network):
            self.network(inputs)
        return time.perf_counter() - started


def compare(name: str, shape: tuple[int, ...], batch: int, pairs: int) -> None:
    """Print both beside each other."""
    generator = torch.Generator().manual_seed(0)
    inputs, labels = (
        torch.rand(batch, *shape, generator=generator),
        torch.randint(CLASSES, (batch,), generator=generator),
    )
    plain, mine = (Training(name, shape, batch, compiled=compiled) for compiled in (False, True))
    once, compiling = (each.first(inputs, labels) for each in (plain, mine))
    again = Training(name, shape, batch, compiled=True).first(inputs, labels)
    seconds = [(plain.step(inputs, labels), mine.step(inputs, labels)) for _ in range(pairs)]
    ratios = sorted(other / own for own, other in seconds)
    low, _, high = statistics.quantiles(ratios, n=4)
    apart = max(abs(own - other) for own, other in zip(plain.losses[:5], mine.losses[:5], strict=True))
    own, other = (1e3 * statistics.median(column) for column in zip(*seconds, strict=True))
    print(
        f"{name}, {batch} items of {shape}, {pairs} pairs of steps; losses of the first 5 steps differ by "
        f"at most {apart:.0e}"
    )
    print(
        f"  first step and first evaluation: {once:.2f} s as it is, {compiling:.1f} s compiled, "
        f"{again:.1f} s with the code there already"
    )
    print(
        f"  a step: {own:.2f} ms as it is, {other:.2f} ms compiled; compiled / as it is "
        f"{statistics.median(ratios):.3f} "
        f"({low:.3f} to {high:.3f})"
    )
    paid = (
        [seconds * 1e3 / (own - other) for seconds in (compiling - once, again - once)] if own > other else []
    )
    print(
        "  pays after {:.0f} steps, {:.0f} where its code is there already".format(*paid)
        if paid
        else "  does not pay"
    )


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        for case in CASES:
            compare(*case)


if __name__ == "__main__":
    main()
