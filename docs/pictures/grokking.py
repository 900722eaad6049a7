"""Draw fates, pruning, spectra and detection of grokking from committed boards: python
docs/pictures/grokking.py
"""

from __future__ import annotations

import numpy as np
from drawing import BOARDS, save, scores_of

from harness.store import line_plots
from leaderboards.publishing.board import read_board

DECAYS = (0, 5, 15)


def main() -> None:
    """Write the pictures: one run each but for detection, the mean over the seeds of its board."""
    spectra = {decay: scores_of("grokking-spectra", f"grok-adamw[weight_decay={decay}]") for decay in DECAYS}
    fates = {name: spectra[15].probes[name] for name in ("test", "clean", "memorised", "recovered")}
    save(line_plots.panel(fates, title="weight decay 15", by_step=True), "grokking-fates")
    save(line_plots.prune_curves(spectra[0].matrices["pruning"], title="weight decay 0"), "grokking-pruning")
    ratios = {f"decay {decay}": scores.histograms["ipr"]["neurons"] for decay, scores in spectra.items()}
    picture = line_plots.histogram(
        ratios, title="", quantity="inverse participation ratio of a neuron", edges=np.linspace(0, 1, 21)
    )
    save(picture, "grokking-ipr")
    seeds = range(read_board(BOARDS / "grokking-detection").header.suite.seeds)
    told = {
        f"decay {decay}": mean_curve(f"grok-adamw[weight_decay={decay}]", "loss_auroc", seeds)
        for decay in DECAYS
    }
    save(
        line_plots.panel(told, title="AUROC of the loss for wrong labels", by_step=True), "grokking-detection"
    )


def mean_curve(label: str, name: str, seeds: range) -> list[tuple[int, int, float]]:
    """Return a curve of the detection board, mean over its seeds."""
    each = np.array([scores_of("grokking-detection", label, seed).probes[name] for seed in seeds]).mean(
        axis=0
    )
    return [(int(stage), int(step), float(value)) for stage, step, value in each]


if __name__ == "__main__":
    main()
