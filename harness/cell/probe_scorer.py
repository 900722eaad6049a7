"""Where the truth is: the figures of probes, worked out from what a learner showed as it comes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.cell.looks import Looks, Shown, group_of, measured
from harness.cell.run import StageResult, learner_seed
from harness.contracts import Scores, Truth
from harness.probes.contract import Look, Of


class ProbeScorer:
    """Makes the figures of one cell from what its learner showed."""

    def __init__(self, looks: Looks, truth: Truth, seed: int) -> None:
        """Take the truth of the cell under the run's `seed`."""
        from threadpoolctl import ThreadpoolController

        self.threads = ThreadpoolController()
        self.truth, self.root_seed = truth, learner_seed(seed)
        self.probes = [(asked, asked.made()) for asked in looks.probes]
        self.figures: dict[str, dict[str, list[tuple[int, int, float]]]] = {
            asked.identity: {} for asked, _ in self.probes
        }

    def add(self, result: StageResult) -> None:
        """Take in what was shown in a stage."""
        for plain in result.shown:
            self.add_shown(Shown(**plain))

    def add_shown(self, shown: Shown) -> None:
        """Take in what was shown at one look."""
        for asked, probe in self.probes:
            names = asked.names(probe)
            if (group_of(probe.of), probe.items) != (shown.group, shown.items):
                continue
            if probe.place == "learner":
                found = {name: shown.figures[name] for name in names.values() if name in shown.figures}
            else:
                with self.threads.limit(
                    limits=1
                ):  # eigenvalues differ in the last digits by the number of threads
                    found = measured(probe, names, self._look(shown, probe.of), self.root_seed)
            for name, value in found.items():
                rows = self.figures[asked.identity].setdefault(name, [])
                rows.append((shown.stage, shown.step, value))

    def with_figures(self, scores: Scores) -> Scores:
        """Return scores with the curves of the probes."""
        return with_curves(scores, self.figures.values())

    def _look(self, shown: Shown, of: Of) -> Look:
        """Return a look with true labels, at those of the items that are wanted."""
        labels = self.truth.labels[shown.ids]
        is_known = labels < self.truth.named_classes[shown.stage]
        rows = is_known if of == "known" else ~is_known if of == "novel" else np.ones(len(labels), dtype=bool)
        items = {"features": shown.features, "logits": shown.logits}
        whole = {"head": shown.head, "bias": shown.bias}
        arrays: dict[str, Any] = {
            name: None if a is None else a[rows].astype(np.float32) for name, a in items.items()
        }
        arrays |= {name: None if a is None else a.astype(np.float32) for name, a in whole.items()}
        return Look(
            labels=labels[rows],
            given=shown.given[rows],
            stage=shown.stage,
            step=shown.step,
            total=shown.total,
            **arrays,
        )


def with_curves(scores: Scores, figures: Iterable[Mapping[str, Sequence[tuple[int, int, float]]]]) -> Scores:
    """Return scores with further curves; one without a figure at any look does not apply, and is left out."""
    curves = {
        name: rows
        for each in figures
        for name, rows in each.items()
        if any(math.isfinite(row[2]) for row in rows)
    }
    return replace(scores, probes={**scores.probes, **curves})


__all__ = ["ProbeScorer", "with_curves"]
