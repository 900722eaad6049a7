"""Whole runs under one seed on one thread in this process: the figures that are asked for, and seconds of
every stage.

For timings, and for development seeds, which no board uses. Stages that are shared are learned once; their
seconds stand in every line.

Run: OMP_NUM_THREADS=1 python benchmarks/one_run.py SEED SCENARIO METRIC,METRIC STRATEGY...
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import build
from harness.protocol.cells import cells, contenders, protocols
from harness.protocol.stage_sharing import Sharing


def main() -> None:
    """Print one line per strategy."""
    seed, scenario_text, wanted, *strategies = sys.argv[1:]
    torch.set_num_threads(1)
    todo = [
        cell
        for cell in cells(protocols([scenario_text]), contenders(strategies), int(seed) + 1)
        if cell.seed == int(seed)
    ]
    scenario = todo[0].protocol.scenario
    settings = CellSettings(
        root_seed=learner_seed(int(seed)),
        budget=scenario.budget(),
        needed=scenario.answers,
        probed=scenario.probed,
    )
    with tempfile.TemporaryDirectory() as folder:
        sharing = Sharing(todo, Path(folder))
        for cell in todo:
            sealed = build(scenario, cell.seed, reveal=cell.contender.plugin.name == scenario.upper_bound)
            strategy = cell.contender.plugin.cls(**cell.contender.params)
            results = list(
                run_cell(
                    strategy, sealed.episodes, settings, scratch=Path(folder), shared=sharing.paths(cell)
                )
            )
            final = scenario.score(
                sealed.truth, [answer for result in results for answer in result.answers]
            ).final
            figures = ", ".join(
                f"{name.replace('_', ' ')} {100 * final[name]:.1f}" for name in wanted.split(",")
            )
            seconds = [result.learn_s for result in results]
            print(
                f"{cell}: {figures} %; {sum(seconds):.1f} s ({', '.join(f'{taken:.1f}' for taken in seconds)})",
                flush=True,
            )


if __name__ == "__main__":
    main()
