"""Draw noisy-accuracy.svg and noisy-memorised.svg from the committed board: python
docs/pictures/noisy_labels.py
"""

from __future__ import annotations

import numpy as np
from drawing import save, scores_of

from harness.store import line_plots

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
    curves: dict[str, dict[str, list[tuple[int, int, float]]]] = {name: {} for name in PICTURES}
    for label, name in SHOWN.items():
        probes = [scores_of("noisy-labels", label, seed, scenario=TRACK).probes for seed in range(5)]
        for quantity, lines in curves.items():
            each = np.array([probe[quantity] for probe in probes]).mean(axis=0)
            lines[name] = [(int(stage), int(epoch), float(share)) for stage, epoch, share in each]
    for quantity, title in PICTURES.items():
        save(line_plots.panel(curves[quantity], title=title), f"noisy-{quantity}")


if __name__ == "__main__":
    main()
