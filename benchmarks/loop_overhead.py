"""What our training loop costs over a bare PyTorch loop on the same work, and what Avalanche's costs.

The same network, items, optimiser and number of steps, in turn, ROUNDS times over. A ratio is taken within
each round, so that a machine that slows down for a while slows down both; what is printed is the median over
rounds and the middle half.
Run: python benchmarks/loop_overhead.py
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness.cell.run import CellContext, CellSettings
from harness.cell.sealing import build
from harness.contracts import TrainingBudget
from harness.processes.cell import throttled
from harness.selection import configured
from strategies.avalanche_adapter.experiences import SeenSoFar, experience_of
from strategies.avalanche_adapter.loading import avalanche
from strategies.toolkit.training.loop import sgd, train
from strategies.toolkit.training.tensors import Items, items_of

ROUNDS, EPOCHS, BATCH = 25, 20, 32


def network() -> nn.Sequential:
    """Return the demo's MLP with a head for ten classes."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def bare(model: nn.Module, items: Items, optimiser: torch.optim.Optimizer) -> None:
    """Train as one would write it in a notebook."""
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(items)).split(BATCH):
            optimiser.zero_grad()
            loss: Tensor = cross_entropy(model(items.inputs[rows]), items.labels[rows])
            loss.backward()
            optimiser.step()


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    scenario = configured("scenario", "class-incremental[dataset=digits,stages=1]")
    stage = build(scenario, 0).episodes[0].stage
    nobody: Any = SimpleNamespace(send=lambda event: None)
    settings = CellSettings(
        root_seed=0, budget=TrainingBudget(backbone="mlp", epochs=EPOCHS, batch_size=BATCH)
    )
    context = CellContext(
        settings=settings, scratch=Path(tempfile.gettempdir()), on_progress=throttled("key", nobody)
    )
    items = items_of(stage, context)

    def fused(model: nn.Module) -> torch.optim.Optimizer:
        return sgd(model.parameters(), lr=0.05, momentum=0.9)

    def plain(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def ours() -> None:
        model = network()
        train(
            model,
            items,
            lambda batch: cross_entropy(model(batch.inputs), batch.labels),
            fused(model),
            context,
        )

    def theirs() -> None:
        model = network()
        naive = avalanche("training.supervised").Naive(
            model=model, optimizer=plain(model), train_mb_size=BATCH, train_epochs=EPOCHS, evaluator=None
        )
        naive.train(experience_of(stage, SeenSoFar()), num_workers=0)

    def bare_with(make: Callable[[nn.Module], torch.optim.Optimizer]) -> None:
        model = network()
        bare(model, items, make(model))

    ways = {
        "bare loop, fused SGD": lambda: bare_with(fused),
        "our loop": ours,
        "bare loop, plain SGD": lambda: bare_with(plain),
        "Avalanche Naive": theirs,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for work in ways.values():
        work()  # imports and first-call costs
    for _ in range(ROUNDS):
        for name, work in ways.items():
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    steps = EPOCHS * -(-len(items) // BATCH)
    print(
        f"{len(items)} digits, {EPOCHS} epochs, batches of {BATCH}: {steps} steps; one thread; median of "
        f"{ROUNDS} rounds in turn"
    )
    for name, median in medians.items():
        spread = f"{min(seconds[name]):.3f} to {max(seconds[name]):.3f}"
        print(f"  {name:<22} {median:.3f} s ({spread})  {median / steps * 1e6:.0f} us a step")
    for above, below in (
        ("our loop", "bare loop, fused SGD"),
        ("Avalanche Naive", "bare loop, plain SGD"),
        ("Avalanche Naive", "our loop"),
    ):
        ratios = [a / b for a, b in zip(seconds[above], seconds[below], strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4)
        print(f"{above} / {below}: {median:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
