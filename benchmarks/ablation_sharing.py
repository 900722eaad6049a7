"""How much work an ablation saves by learning shared stages once: the seven rows of Happy's Table 5 on 150 intents.

Every row is learned twice under a seed, in turn: from the state that the rows share after stage 0, and alone. Seconds are those of learning
and predicting in this process on one thread; a stage is counted where it is learned.

Run: OMP_NUM_THREADS=1 python benchmarks/ablation_sharing.py [SEEDS]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from harness.ablation import published
from harness.answers import digest
from harness.protocol import Cell, cells, contenders, protocols
from harness.run import Conditions, StageResult, learner_seed, run_cell
from harness.sealing import build
from harness.stage_sharing import Sharing

SCENARIO = "cgcd[preset=clinc150]"


def main() -> None:
    """Print seconds per row, both totals and their ratio."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    torch.set_num_threads(1)
    todo = cells(protocols([SCENARIO]), contenders(published("happy", "happy-5").arms), seeds)
    together = alone = 0.0
    with tempfile.TemporaryDirectory() as folder:
        sharing = Sharing(todo, Path(folder))
        for cell in todo:
            shared, own = _run(cell, sharing.paths(cell), Path(folder)), _run(cell, (), Path(folder))
            if _digest(shared) != _digest(own):
                raise SystemExit(f"{cell}: the predictions differ")
            spent = sum(result.learn_s - result.borrowed_s + result.predict_s for result in shared)
            spent_alone = sum(result.learn_s + result.predict_s for result in own)
            together, alone = together + spent, alone + spent_alone
            print(f"{cell}: {spent:.1f} s, alone {spent_alone:.1f} s", flush=True)
    print(f"{len(todo)} cells: {together:.0f} s shared, {alone:.0f} s alone, {alone / together:.2f} x less work, equal predictions")


def _run(cell: Cell, shared: Sequence[Path | None], scratch: Path) -> list[StageResult]:
    scenario = cell.protocol.scenario
    conditions = Conditions(root_seed=learner_seed(cell.seed), **scenario.lent(), needed=scenario.answers, probed=scenario.probed)
    strategy = cell.contender.plugin.cls(**cell.contender.params)
    return list(run_cell(strategy, build(scenario, cell.seed).episodes, conditions, scratch=scratch, shared=shared))


def _digest(results: Sequence[StageResult]) -> str:
    return digest([answer for result in results for answer in result.answers])


if __name__ == "__main__":
    main()
