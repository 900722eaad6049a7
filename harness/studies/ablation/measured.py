"""The records of an ablation by scenario, arm and seed, as series over seeds. Labels are the ablation's own:
a cell that is cached may have been recorded under another name for the same configuration.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.contracts import Metric, Status
from harness.statistics.series import Floats

if TYPE_CHECKING:
    from harness.store.record import Record

_DONE = (Status.DONE, Status.CACHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All cells of an ablation on one scenario. `cells` by arm and seed; every series has a figure per seed,
    NaN where there is none.
    """

    label: str
    metrics: Sequence[Metric]
    seeds: int
    cells: Mapping[tuple[str, int], Record]

    @property
    def protocol(self) -> str:
        """The protocol's hash."""
        return next(iter(self.cells.values())).protocol_hash

    def figures(self, arm: str, metric: str) -> Floats:
        """Return a metric, float64 (seeds,)."""
        return self._series(arm, lambda record: record.metrics.get(metric, math.nan))

    def seconds(self, arm: str) -> Floats:
        """Return wall time, float64 (seeds,)."""
        return self._series(arm, lambda record: record.seconds)

    def peaks(self, arm: str) -> Floats:
        """Return peak memory in MiB, float64 (seeds,)."""
        return self._series(arm, lambda record: record.peak_mib)

    def sessions(self, arms: Sequence[str]) -> list[str]:
        """Return, for every seed, the run and machine that all of these arms were measured in; empty where
        not known or several.
        """
        found = [{self.cells[arm, seed].session for arm in arms} for seed in range(self.seeds)]
        return [own.pop() if len(own) == 1 else "" for own in found]

    def factor(self, metric: str) -> float:
        """Return 100 where all figures lie in [-1, 1], a share to be shown in per cent, else 1."""
        figures = [self.figures(arm, metric) for arm in dict.fromkeys(arm for arm, _ in self.cells)]
        return 1.0 if np.nanmax(np.abs(np.concatenate([[0.0], *figures]))) > 1 else 100.0

    def _series(self, arm: str, figure: Callable[[Record], float]) -> Floats:
        records = [self.cells[arm, seed] for seed in range(self.seeds)]
        return np.array(
            [figure(record) if record.status in _DONE else math.nan for record in records], dtype=float
        )


def arranged(
    records: Sequence[Record], *, scenarios: Mapping[str, Sequence[Metric]], arms: Sequence[str], seeds: int
) -> list[Measured]:
    """Return the records by scenario.

    Args:
        records: in the order of `protocol.cells`: scenario, then seed, then arm.
        scenarios: their metrics by label.
        arms: the strategies.
        seeds: how many, from 0.
    """
    places = list(itertools.product(scenarios, range(seeds), arms))
    by_place = dict(zip(places, records, strict=True))
    return [
        Measured(
            label=label,
            metrics=metrics,
            seeds=seeds,
            cells={(arm, seed): by_place[label, seed, arm] for arm in arms for seed in range(seeds)},
        )
        for label, metrics in scenarios.items()
    ]


__all__ = ["Measured", "arranged"]
