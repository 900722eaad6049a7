"""Our replay, EWC and LwF beside Avalanche's on the same stream, network, budget and hyperparameters, twenty
seeds each.

Class-incremental (one head, the stage of an item is not told) and task-incremental (it is told), since EWC
and LwF do little in the first and much in the second. Avalanche's EWC squares gradients of whole batches and
has no factor 1/2, so ours runs with fisher=batch and twice the strength.

Run: python benchmarks/avalanche_parity.py
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import build
from harness.contracts import TrainingBudget
from harness.selection import configured
from harness.statistics import paired_t

SEEDS = 20
SCENARIOS = ("class-incremental[dataset=digits]", "class-incremental[dataset=digits,task_access=test]")
PAIRS = (
    ("fine-tune[lr=0.01]", "avalanche-naive[lr=0.01]"),
    ("replay[lr=0.01]", "avalanche-replay[lr=0.01]"),
    ("ewc[fisher=batch,strength=2000,lr=0.01]", "avalanche-ewc[strength=1000,lr=0.01]"),
    ("lwf[strength=5,lr=0.01]", "avalanche-lwf[alpha=5,lr=0.01]"),
)


def accuracy(strategy_text: str, scenario_text: str, seed: int) -> float:
    """Return the average accuracy of one cell, in per cent."""
    scenario = configured("scenario", scenario_text)
    sealed = build(scenario, seed)
    settings = CellSettings(
        root_seed=learner_seed(seed),
        budget=TrainingBudget(
            backbone=scenario.backbone, epochs=scenario.epochs, batch_size=scenario.batch_size
        ),
    )
    strategy = configured("strategy", strategy_text)
    with (
        tempfile.TemporaryDirectory() as scratch,
        Path(os.devnull).open("w") as devnull,
        contextlib.redirect_stderr(devnull),
    ):
        results = list(run_cell(strategy, sealed.episodes, settings, scratch=Path(scratch)))
    answers = [answer for result in results for answer in result.answers]
    return 100 * scenario.score(sealed.truth, answers).final["average_accuracy"]


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    for scenario in SCENARIOS:
        print(f"{scenario}, average accuracy in per cent, mean and standard deviation over {SEEDS} seeds")
        for ours, theirs in PAIRS:
            a, b = ([accuracy(name, scenario, seed) for seed in range(SEEDS)] for name in (ours, theirs))
            found = paired_t(a, b)
            print(f"  {ours:<40} {np.mean(a):5.1f} ({np.std(a, ddof=1):.1f})")
            print(f"  {theirs:<40} {np.mean(b):5.1f} ({np.std(b, ddof=1):.1f})")
            print(
                f"    difference {found.difference:+.1f} [{found.low:+.1f}, {found.high:+.1f}], paired t p "
                f"= {found.p:.2f}"
            )


if __name__ == "__main__":
    main()
