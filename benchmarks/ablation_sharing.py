"""How much work an ablation saves by learning shared stages once: the seven rows of Happy's Table 5 on 150
intents.

Rows run one after another on one thread in this process, each from the state after stage 0 that the first one
keeps. What they would have taken alone is the same with the seconds of stage 0 in every row; the last row is
run alone too, to hold its predictions and its seconds against that.

Run: OMP_NUM_THREADS=1 python benchmarks/ablation_sharing.py [SEEDS]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from harness.cell.run import CellSettings, StageResult, learner_seed, run_cell
from harness.cell.sealing import build
from harness.protocol.cells import Cell, cells, contenders, protocols
from harness.protocol.stage_sharing import Sharing
from harness.store.predictions import digest
from harness.studies.ablation.design import published

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
            results = _run(cell, sharing.paths(cell), Path(folder))
            whole = sum(result.learn_s + result.predict_s for result in results)
            spent = whole - sum(result.borrowed_s for result in results)
            together, alone = together + spent, alone + whole
            print(f"{cell}: {spent:.1f} s, with stage 0 {whole:.1f} s", flush=True)
        print(
            f"{len(todo)} cells: {together:.0f} s shared, {alone:.0f} s alone, {alone / together:.2f} x less work",
            flush=True,
        )
        own = _run(cell, (), Path(folder))
    if _digest(results) != _digest(own):
        raise SystemExit(f"{cell}: the predictions differ")
    print(
        f"the last row alone: {sum(result.learn_s + result.predict_s for result in own):.1f} s, the same predictions"
    )


def _run(cell: Cell, shared: Sequence[Path | None], scratch: Path) -> list[StageResult]:
    scenario = cell.protocol.scenario
    settings = CellSettings(
        root_seed=learner_seed(cell.seed),
        budget=scenario.budget(),
        needed=scenario.answers,
        probed=scenario.probed,
    )
    strategy = cell.contender.plugin.cls(**cell.contender.params)
    return list(
        run_cell(strategy, build(scenario, cell.seed).episodes, settings, scratch=scratch, shared=shared)
    )


def _digest(results: Sequence[StageResult]) -> str:
    return digest([answer for result in results for answer in result.answers])


if __name__ == "__main__":
    main()
