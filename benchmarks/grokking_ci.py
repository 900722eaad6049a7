"""The 42 runs of the ci suite on one thread: seven rows of corruption and weight decay, six fresh seeds each,
learned together row by row.

Prints what every row ends in beside the band it should be in (reference runs of six seeds, 3 points and 20
steps wider, the phase in five of six), and the seconds of the whole. Asked for: under 60 s.

Run: OMP_NUM_THREADS=1 python benchmarks/grokking_ci.py [FIRST_SEED]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from harness.cell.run import CellSettings, Member, learner_seed, run_together
from harness.cell.sealing import build
from harness.contracts import Scores
from harness.protocol.cells import cells, contenders, protocols

SEEDS = 6
POINTS, STEPS = 0.03, 20


class Row(NamedTuple):
    """Corruption, weight decay, the phase it should end in, and the ranges of six reference seeds."""

    corruption: float
    decay: float
    phase: str
    bands: dict[str, tuple[float, float]]


ROWS = (
    Row(
        0, 5, "generalised", {"train_accuracy": (1, 1), "test_accuracy": (1, 1), "time_to_test_99": (40, 40)}
    ),
    Row(
        0.2,
        0,
        "coexistence",
        {"train_accuracy": (0.995, 0.998), "test_accuracy": (0.954, 0.976), "memorised": (0.976, 0.99)},
    ),
    Row(
        0.2,
        5,
        "partial_inversion",
        {
            "train_accuracy": (0.863, 0.897),
            "test_accuracy": (1, 1),
            "memorised": (0.31, 0.49),
            "time_to_test_99": (60, 60),
        },
    ),
    Row(
        0.2,
        10,
        "full_inversion",
        {
            "train_accuracy": (0.801, 0.801),
            "test_accuracy": (1, 1),
            "memorised": (0, 0),
            "time_to_test_99": (60, 70),
        },
    ),
    Row(
        0.3,
        0,
        "memorisation",
        {"train_accuracy": (0.999, 1), "test_accuracy": (0.854, 0.892), "memorised": (0.995, 1)},
    ),
    Row(
        0.3,
        10,
        "full_inversion",
        {
            "train_accuracy": (0.7, 0.702),
            "test_accuracy": (1, 1),
            "memorised": (0, 0.005),
            "time_to_test_99": (90, 110),
        },
    ),
    Row(
        0.2,
        25,
        "confusion",
        {"train_accuracy": (0.12, 0.36), "test_accuracy": (0.05, 0.23), "memorised": (0.05, 0.10)},
    ),
)


def main() -> None:
    """Run all rows, then print."""
    torch.set_num_threads(1)
    first = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seeds = range(first, first + SEEDS)
    protocols(["grokking[preset=ci]"])  # what is imported once does not count
    wall, processor = time.perf_counter(), time.process_time()
    ends = [(row, scores_of(row, seeds)) for row in ROWS]
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    for row, scores in ends:
        print(f"corruption {row.corruption:g}, decay {row.decay:g}: {'; '.join(said(row, scores))}")
    print(
        f"{len(ROWS) * SEEDS} runs, dealing and scoring included: {wall:.1f} s, {processor:.1f} s of processor time"
    )


def scores_of(row: Row, seeds: Sequence[int]) -> list[Scores]:
    """Return what the runs of a row come to."""
    (cell, *_) = cells(
        protocols([f"grokking[preset=ci,corruption={row.corruption}]"]),
        contenders([f"grok-adamw[weight_decay={row.decay}]"]),
        1,
    )
    scenario = cell.protocol.scenario
    members, truths = [], []
    for seed in seeds:
        sealed = build(scenario, seed)
        settings = CellSettings(
            root_seed=learner_seed(seed),
            budget=scenario.budget(),
            needed=scenario.answers,
            probed=scenario.probed,
            kept=scenario.kept,
        )
        members.append(
            Member(
                strategy=cell.contender.plugin.cls(**cell.contender.params),
                episode=sealed.episodes[0],
                settings=settings,
                scratch=Path(),
            )
        )
        truths.append(sealed.truth)
    return [
        scenario.score(truth, result.answers)
        for truth, result in zip(truths, run_together(members), strict=True)
    ]


def said(row: Row, scores: Sequence[Scores]) -> list[str]:
    """Return phase and figures, each with what was asked, and OUTSIDE where a seed is not within the band."""
    hits = sum(int(each.final[f"phase_{row.phase}"]) for each in scores)
    parts = [f"{row.phase} {hits} of {len(scores)}{'' if hits >= len(scores) - 1 else ' OUTSIDE'}"]
    for name, (low, high) in row.bands.items():
        wide = STEPS if name.startswith("time") else POINTS
        values = [each.final[name] for each in scores]
        outside = sum(not low - wide <= value <= high + wide for value in values)
        parts.append(
            f"{name} {min(values):.4g} to {max(values):.4g} (reference {low:.4g} to {high:.4g}"
            f"{f', {outside} OUTSIDE' if outside else ''})"
        )
    return parts


if __name__ == "__main__":
    main()
