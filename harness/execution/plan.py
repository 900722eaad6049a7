"""What a run would do: cells that are there already, cells to run, and which of these learn together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.execution.probing import Probing
from harness.protocol.cells import Cell
from harness.protocol.packing import packs
from harness.store.mlflow_store import Store
from harness.store.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run would do: cells that are there already, and cells to run; `again`: anew, from nothing that
    earlier runs have left; `mixed`: those that ran with other libraries than their keys name are there too.
    probing: what is measured while they learn.
    """

    cached: dict[str, Record]
    cells: Sequence[Cell]
    again: bool = False
    mixed: bool = False
    probing: Probing | None = None

    @property
    def open(self) -> list[Cell]:
        """The cells without a finished record."""
        return [cell for cell in self.cells if cell.key not in self.cached]

    @property
    def packs(self) -> list[tuple[Cell, ...]]:
        """The open cells in the packs that all cells make; what is cached is missing from its pack."""
        left = [tuple(cell for cell in pack if cell.key not in self.cached) for pack in packs(self.cells)]
        return [pack for pack in left if pack]


def plan(
    cells: Sequence[Cell],
    store: Store,
    *,
    again: bool = False,
    mixed: bool = False,
    probing: Probing | None = None,
) -> Plan:
    """Look up which cells have a finished record with its predictions, and with figures of the probes that are asked
    for; `again`: none counts; `mixed`: those count that ran with other libraries than their keys name.
    """
    found = Plan(cells=cells, cached={}, again=again, mixed=mixed, probing=probing)
    return renewed(found, store)


def renewed(plan: Plan, store: Store) -> Plan:
    """Return a plan with what was finished since it was made."""
    if plan.again:
        return plan
    return replace(plan, cached={**plan.cached, **_finished(plan, store)})


def _finished(plan: Plan, store: Store) -> dict[str, Record]:
    """Return by key the records that count, of cells without one."""
    cells, probing = plan.open, plan.probing
    known = store.finished({cell.protocol.hash for cell in cells})
    found = [known[cell.key] for cell in cells if cell.key in known]
    cached = {record.key: record for record in found if plan.mixed or not record.mixed}
    for key in store.lost(cached.values()):
        del cached[key]
    if probing is None:
        return cached
    return {key: record for key, record in cached.items() if probing.counts(store, record)}


__all__ = ["Plan", "plan", "renewed"]
