"""What a run would do: cells that are there already, cells to run, and which of these learn together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.protocol import Cell
from harness.record import Record, Store
from harness.together import packs


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run would do: cells that are there already, and cells to run."""

    cached: dict[str, Record]
    cells: Sequence[Cell]

    @property
    def open(self) -> list[Cell]:
        """The cells without a finished record."""
        return [cell for cell in self.cells if cell.key not in self.cached]

    @property
    def packs(self) -> list[tuple[Cell, ...]]:
        """The open cells in the packs that all cells make; what is cached is missing from its pack."""
        left = [tuple(cell for cell in pack if cell.key not in self.cached) for pack in packs(self.cells)]
        return [pack for pack in left if pack]


def plan(cells: Sequence[Cell], store: Store) -> Plan:
    """Look up which cells have a finished record."""
    known = store.finished({cell.protocol.hash for cell in cells})
    return Plan(cells=cells, cached={cell.key: known[cell.key] for cell in cells if cell.key in known})


__all__ = ["Plan", "plan"]
