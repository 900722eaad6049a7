"""Draw noisy-accuracy.png and noisy-memorised.png from the committed board: python
docs/pictures/noisy_labels.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.cell.sealing import build
from harness.selection import configured
from harness.store import line_plots
from harness.store.predictions import read_answers
from leaderboards.publishing.board import predictions_file, read_board

ROOT = Path(__file__).parents[2]
TRACK = "noisy-labels[preset=digits,noise=symmetric[rate=0.4]]"
SHOWN = {
    "cross-entropy": "cross-entropy",
    "gce": "GCE",
    "elr": "ELR",
    "elr-plus": "ELR+",
    "nested-co-teaching": "nested co-teaching",
}
PICTURES = {"accuracy": "accuracy on test items", "memorised": "wrong labels that are predicted"}


def main() -> None:
    """Write both pictures: shares over the epochs, mean over the seeds of the board."""
    folder = ROOT / "leaderboards" / "boards" / "noisy-labels"
    scenario = configured("scenario", TRACK)
    truths = {seed: build(scenario, seed).truth for seed in range(5)}
    entries = {entry.label: entry for entry in read_board(folder).entries}
    curves: dict[str, dict[str, list[tuple[int, int, float]]]] = {name: {} for name in PICTURES}
    for label, name in SHOWN.items():
        cells = [cell for cell in entries[label].cells if cell.scenario == TRACK]
        probes = [
            scenario.score(
                truths[cell.seed], read_answers(folder / predictions_file(entries[label], cell))
            ).probes
            for cell in cells
        ]
        for quantity, lines in curves.items():
            each = np.array([probe[quantity] for probe in probes]).mean(axis=0)
            lines[name] = [(int(stage), int(epoch), float(share)) for stage, epoch, share in each]
    for quantity, title in PICTURES.items():
        line_plots.panel(curves[quantity], title=title).savefig(
            Path(__file__).with_name(f"noisy-{quantity}.png"), dpi=90
        )


if __name__ == "__main__":
    main()
