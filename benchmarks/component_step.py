"""What components cost: a stage of cross-entropy with each, relative to one without, on one thread.

Whole stages through the real loop (2 epochs of mnist5k, batch 64), with and without the component in turn; processor
time, the ratio taken within rounds. What a component trains besides, such as teachers, is in it. Components that this
stage lacks something for are left out.

Run: OMP_NUM_THREADS=1 python benchmarks/component_step.py [COMPONENT ...]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import Sealed, build
from harness.errors import Unsuitable
from harness.plugins import registered
from harness.selection import configured

ROUNDS = 9
BACKBONES = ("mlp[width=256]", "cnn[width=8]")


def main() -> None:
    """Print a line for every component and backbone."""
    torch.set_num_threads(1)
    for backbone in BACKBONES:
        scenario = configured("scenario", f"noisy-labels[preset=mnist5k,epochs=2,backbone={backbone}]")
        sealed = build(scenario, 0)
        unprobed = replace(scenario.budget(), probe_epochs=0, probe_tail=0)
        settings = CellSettings(root_seed=learner_seed(0), budget=unprobed)
        for name in sys.argv[1:] or registered("component"):
            try:
                ratios = _ratios(name, sealed, settings)
            except Unsuitable as error:
                print(f"{backbone}, {name}: {error}")
                continue
            low, middle, high = statistics.quantiles(ratios, n=4)
            print(f"{backbone}, {name}: {middle:.2f} (middle half {low:.2f} to {high:.2f})", flush=True)


def _ratios(component: str, sealed: Sealed, settings: CellSettings) -> list[float]:
    ratios = []
    for round_ in range(ROUNDS + 1):
        names = ("", component) if round_ % 2 else (component, "")
        seconds = {name: _seconds(name, sealed, settings) for name in names}
        ratios.append(seconds[component] / seconds[""])
    return ratios[1:]  # the first round warms up


def _seconds(components: str, sealed: Sealed, settings: CellSettings) -> float:
    learner = configured(
        "strategy", f"cross-entropy[components={components}]" if components else "cross-entropy"
    )
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        list(run_cell(learner, sealed.episodes, settings, scratch=Path(folder)))
        return time.process_time() - start


if __name__ == "__main__":
    main()
