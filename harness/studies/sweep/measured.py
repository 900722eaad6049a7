"""The records of a sweep as series over seeds, by the labels of its definition. A cell that is cached may
have been recorded under another name for the same configuration, so records are told apart by their order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.contracts import Status
from harness.results.costs import common, where_measured
from harness.statistics.series import Floats
from harness.studies.sweep.definition import Definition, Family, Setting

if TYPE_CHECKING:
    from harness.store.record import Record

_DONE = (Status.DONE, Status.CACHED)


class Point(NamedTuple):
    """A setting on a scenario with its values by dimension; figures float64 (seeds,) in one metric, NaN where
    there is none.
    """

    setting: Setting
    scenario: str
    values: Mapping[str, Any]
    figures: Floats


class SweepTable:
    """The figures of a sweep."""

    def __init__(self, definition: Definition, records: Sequence[Record]) -> None:
        """Take records in the order of the definition's blocks; raise `ValueError` where their number
        differs.
        """
        self.definition = definition
        places = [
            place
            for block in definition.blocks
            for place in itertools.product(block.scenarios, range(definition.seeds), block.strategies)
        ]
        self.cells: dict[tuple[str, int, str], Record] = dict(zip(places, records, strict=True))
        self.measured_in = common(records)

    def protocol(self, scenario: str) -> str:
        """Return the hash of a scenario's protocol."""
        return next(record.protocol_hash for (label, _, _), record in self.cells.items() if label == scenario)

    def figures(self, scenario: str, strategy: str, metric: str) -> Floats:
        """Return a metric under every seed, float64 (seeds,)."""
        return self._series(scenario, strategy, lambda record: record.metrics.get(metric, math.nan))

    def seconds(self, scenario: str, strategy: str, *, anywhere: bool = False) -> Floats:
        """Return wall time under every seed, float64 (seeds,): of the run and machine that most cells are of,
        or `anywhere`.
        """
        return self._series(
            scenario,
            strategy,
            lambda record: (
                record.seconds if anywhere or where_measured(record) == self.measured_in else math.nan
            ),
        )

    def points(self, scenario: str, metric: str, *, family: Family) -> list[Point]:
        """Return every setting that runs on a scenario, with its values in the dimensions of strategy and
        scenario.
        """
        own = next(place.values for place in family.places if place.label == scenario)
        return [
            Point(setting, scenario, {**setting.values, **own}, self.figures(scenario, setting.label, metric))
            for setting in self.definition.settings_on(scenario)
        ]

    def factor(self, scenarios: Sequence[str], metric: str) -> float:
        """Return 100 where all figures lie in [-1, 1], a share to be shown in per cent, else 1."""
        largest = max(
            (
                abs(record.metrics.get(metric, 0.0))
                for (label, _, _), record in self.cells.items()
                if label in scenarios and _ok(record)
            ),
            default=0.0,
        )
        return 1.0 if largest > 1 else 100.0

    def _series(self, scenario: str, strategy: str, figure: Callable[[Record], float]) -> Floats:
        records = [self.cells[scenario, seed, strategy] for seed in range(self.definition.seeds)]
        return np.array([figure(record) if _ok(record) else math.nan for record in records], dtype=float)


def _ok(record: Record) -> bool:
    return record.status in _DONE


__all__ = ["Point", "SweepTable"]
