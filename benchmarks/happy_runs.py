"""Whole runs of Happy, all stages, on one thread in this process: seconds of every stage.

Run: OMP_NUM_THREADS=1 python benchmarks/happy_runs.py
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

from harness.run import Conditions, learner_seed, run_cell
from harness.sealing import build
from harness.selection import configured

SEED = 0


def main() -> None:
    """Print one line per track."""
    torch.set_num_threads(1)
    for text in ("cgcd[preset=clinc150]", "cgcd[preset=chars47]"):
        scenario = configured("scenario", text)
        started = time.perf_counter()
        sealed = build(scenario, SEED)
        conditions = Conditions(root_seed=learner_seed(SEED), **scenario.lent(), needed=scenario.answers)
        with tempfile.TemporaryDirectory() as folder:
            results = list(run_cell(configured("strategy", "happy"), sealed.episodes, conditions, scratch=Path(folder)))
        score = scenario.score(sealed.truth, [answer for result in results for answer in result.answers]).final["mean_all"]
        stages = ", ".join(f"{result.learn_s:.1f}" for result in results)
        print(f"{text:24s} {time.perf_counter() - started:6.1f} s in all; stages {stages} s; mean All {100 * score:.1f} %")


if __name__ == "__main__":
    main()
