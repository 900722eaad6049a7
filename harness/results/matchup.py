"""Where two strategies met: a protocol under which both were run, from the store or from a board, with
figures and predictions by seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.contracts import Metric, Scenario, Status, StoredPrediction
from harness.errors import UserError, unknown
from harness.protocol.cells import Protocol, protocols
from harness.results.ranking import by_protocol

if TYPE_CHECKING:
    from harness.store.mlflow_store import Store
    from harness.store.record import Record

Pair = tuple[str, str]
"""The labels of the two strategies."""

Cells = Mapping[int, Mapping[str, float]]
"""The metrics of every finished cell, by seed."""

Read = Callable[[int, int], list[StoredPrediction]]
"""(side, seed) -> the stored predictions of that cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matchup:
    """A protocol that both were run under.

    metrics: the first is the primary one.  cells: of either side.  field: on a board, the cells of both sides
    and of every contender that has all seeds, over whose pairs a test is corrected; empty in a store, where
    the one pair that was asked about is all there is.
    """

    pair: Pair
    protocol: Protocol
    protocol_hash: str
    metrics: Sequence[Metric]
    cells: tuple[Cells, Cells]
    read: Read
    field: Mapping[str, Cells] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The scenario as it was selected."""
        return self.protocol.label

    @property
    def scenario(self) -> Scenario:
        """The scenario with its configuration."""
        return self.protocol.scenario

    @property
    def seeds(self) -> list[int]:
        """The seeds under which both cells are done."""
        return sorted(self.cells[0].keys() & self.cells[1].keys())

    def pairs(self, metric: str) -> tuple[list[float], list[float]]:
        """Return the figures of both sides under every seed where both have one."""
        both = [
            seed
            for seed in self.seeds
            if all(math.isfinite(cells[seed].get(metric, math.nan)) for cells in self.cells)
        ]
        first, second = ([cells[seed][metric] for seed in both] for cells in self.cells)
        return first, second


def in_store(store: Store, pair: Pair, experiment: str = "") -> list[Matchup]:
    """Return the matchups among the records of an experiment, of all experiments if none is named.

    Raises:
        UserError: no such experiment, or a strategy without finished cells.
    """
    return in_records(store, pair, store.records(experiment), see=f"owb show {experiment}".strip())


def in_records(
    store: Store, pair: Pair, records: Iterable[Record], *, see: str = "owb show"
) -> list[Matchup]:
    """Return the matchups among records of the store; `see` is the command that shows them.

    Raises:
        UserError: a strategy without finished cells.
    """
    done = [record for record in records if record.status in (Status.DONE, Status.CACHED)]
    check_pair(pair, sorted({record.strategy for record in done}), see)
    found = []
    for protocol_hash, group in by_protocol(done).items():
        own = tuple({record.seed: record for record in group if record.strategy == label} for label in pair)
        if not all(own):
            continue
        (protocol,) = protocols([group[0].scenario])
        first, second = ({seed: record.metrics for seed, record in side.items()} for side in own)
        found.append(
            Matchup(
                pair=pair,
                protocol=protocol,
                protocol_hash=protocol_hash,
                metrics=protocol.scenario.metrics,
                cells=(first, second),
                read=_from_store(store, own),
            )
        )
    return found


def _from_store(store: Store, records: Sequence[Mapping[int, Record]]) -> Read:
    return lambda side, seed: store.answers(records[side][seed])


def check_pair(pair: Pair, labels: Sequence[str], see: str) -> None:
    """Refuse two labels that are the same, or one that is not among `labels`, which the command `see` shows."""
    if not labels:
        raise UserError(f"no cell is finished yet: run both first, owb run {pair[0]} {pair[1]}")
    for label in pair:
        if label not in labels:
            raise unknown("strategy with finished cells", label, labels, see)
    if pair[0] == pair[1]:
        raise UserError(f"{pair[0]} would be compared with itself: name two strategies")


__all__ = ["Cells", "Matchup", "Pair", "Read", "check_pair", "in_records", "in_store"]
