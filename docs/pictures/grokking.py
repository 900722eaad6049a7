"""Draw fates, pruning, spectra and detection of grokking from committed boards: python
docs/pictures/grokking.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.cell.sealing import build
from harness.contracts import Scenario, Scores
from harness.selection import configured
from harness.store import line_plots
from harness.store.predictions import read_answers
from leaderboards.publishing.board import predictions_file, read_board

HERE = Path(__file__).parent
BOARDS = HERE.parents[1] / "leaderboards" / "boards"
DECAYS = (0, 5, 15)


def main() -> None:
    """Write the pictures: one run each but for detection, the mean over the seeds of its board."""
    spectra = {
        decay: scores_of("grokking-spectra", f"grok-adamw[weight_decay={decay}]", 0) for decay in DECAYS
    }
    fates = {name: spectra[15].probes[name] for name in ("test", "clean", "memorised", "recovered")}
    line_plots.panel(fates, title="weight decay 15", by_step=True).savefig(
        HERE / "grokking-fates.png", dpi=90
    )
    line_plots.prune_curves(spectra[0].matrices["pruning"], title="weight decay 0").savefig(
        HERE / "grokking-pruning.png", dpi=90
    )
    ratios = {f"decay {decay}": scores.histograms["ipr"]["neurons"] for decay, scores in spectra.items()}
    picture = line_plots.histogram(
        ratios, title="", quantity="inverse participation ratio of a neuron", edges=np.linspace(0, 1, 21)
    )
    picture.savefig(HERE / "grokking-ipr.png", dpi=90)
    seeds = range(read_board(BOARDS / "grokking-detection").header.suite.seeds)
    told = {
        f"decay {decay}": mean_curve(f"grok-adamw[weight_decay={decay}]", "loss_auroc", seeds)
        for decay in DECAYS
    }
    line_plots.panel(told, title="AUROC of the loss for wrong labels", by_step=True).savefig(
        HERE / "grokking-detection.png", dpi=90
    )


def mean_curve(label: str, name: str, seeds: range) -> list[tuple[int, int, float]]:
    """Return a curve of the detection board, mean over its seeds."""
    each = np.array([scores_of("grokking-detection", label, seed).probes[name] for seed in seeds]).mean(
        axis=0
    )
    return [(int(stage), int(step), float(value)) for stage, step, value in each]


def scores_of(board: str, label: str, seed: int) -> Scores:
    """Return what one run of a board of one protocol comes to, from its predictions."""
    folder = BOARDS / board
    content = read_board(folder)
    entry = next(entry for entry in content.entries if entry.label == label)
    cell = next(cell for cell in entry.cells if cell.seed == seed)
    scenario: Scenario = configured("scenario", cell.scenario)
    return scenario.score(build(scenario, seed).truth, read_answers(folder / predictions_file(entry, cell)))


if __name__ == "__main__":
    main()
