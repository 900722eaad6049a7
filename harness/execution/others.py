"""The cells of a run that other drivers have: who they are, when they come free, and how they ended there."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from harness.protocol.cells import Cell
from harness.store.leases import Leases
from harness.store.mlflow_store import Store
from harness.store.record import FINAL, INTERRUPTED, ORPHANED, Record
from harness.store.tracking import is_outage

_LOOK_S = 2.0

Meet = Callable[[Sequence[tuple[str, int]]], None]
"""Told who else works on cells of a run, and on how many of them, whenever that changes."""


class Others:
    """Claims the cells of a run, and keeps account of those that other drivers have."""

    def __init__(
        self,
        leases: Leases,
        store: Store,
        *,
        again: bool,
        mixed: bool,
        meet: Meet,
        counts: Callable[[Record], bool] = lambda _: True,
    ) -> None:
        """Take the leases of this driver; `again`: what others have ended does not count, nor without `mixed` what
        ran with other libraries than its key names, nor records for which `counts` says no.
        """
        self.counts = counts
        self.leases, self.store, self.again, self.meet = leases, store, again, meet
        self.mixed = mixed
        self.elsewhere: dict[str, Cell] = {}
        self.lost: deque[Cell] = deque()
        """Cells that were run here while another driver took them over; the thread that records says so."""
        self._mine: dict[str, str] = {}
        self._met: set[str] = set()
        self._due = 0.0
        self._told: list[tuple[str, int]] = []

    def claim(self, cells: Sequence[Cell]) -> tuple[list[Cell], dict[str, Record]]:
        """Return those of these cells that are to be run here, and by key the records of those that another driver
        has ended meanwhile; what another is working on is `elsewhere`.
        """
        won = self.leases.claim([cell.key for cell in cells])
        ours, ended = [], {}
        for cell in cells:
            if cell.key not in won:
                self._mine.pop(cell.key, None)
                self._met.add(cell.key)
                self.elsewhere[cell.key] = cell
            elif self._mine.get(cell.key) == self.leases.name:
                ours.append(cell)
            elif (record := self._ended(cell)) is not None:
                self.leases.release([cell.key])
                ended[cell.key] = record
            else:
                self._mine[cell.key] = self.leases.name
                ours.append(cell)
        return ours, ended

    def release(self, cell: Cell) -> None:
        """Let others have a cell that was recorded."""
        self._mine.pop(cell.key, None)
        self.leases.release([cell.key])

    def taken(self) -> list[Cell]:
        """Return the cells that were `lost`, which are elsewhere now."""
        cells = [self.lost.popleft() for _ in range(len(self.lost))]
        self.elsewhere.update((cell.key, cell) for cell in cells)
        self._met.update(cell.key for cell in cells)
        return cells

    def freed(self) -> list[Cell]:
        """Return the cells elsewhere that nobody has any more. Others are looked at every two seconds."""
        if not self.elsewhere or time.monotonic() < self._due:
            return []
        self._due = time.monotonic() + _LOOK_S
        self.leases.look()
        having = {key: str(other) for other in self.leases.others.values() for key in other.keys}
        free = [cell for key, cell in self.elsewhere.items() if key not in having]
        for cell in free:
            del self.elsewhere[cell.key]
        told = sorted(Counter(having[key] for key in self.elsewhere).items())
        if told != self._told:
            self.meet(told)
            self._told = told
        return free

    @property
    def awaited(self) -> dict[str, int]:
        """How many cells of this run other drivers have, by their names on the roster."""
        others = self.leases.others.items()
        counts = {name: len(self.elsewhere.keys() & other.keys) for name, other in others}
        return {name: count for name, count in counts.items() if count}

    def _ended(self, cell: Cell) -> Record | None:
        """Return the record by which another driver has ended a cell since this run was planned, None where it has
        not; what a dead one left as running is marked.
        """
        if not self.leases.had_company:
            return None
        try:
            return self._looked_up(cell)
        except Exception as error:
            if is_outage(error):  # then it was claimed because nobody else was there
                return None
            raise

    def _looked_up(self, cell: Cell) -> Record | None:
        for left in self.store.running(key=cell.key):
            self.store.mark_orphan_failed(left.run_id)
        record = self.store.newest(cell.key)
        if record is None or self.again or (record.mixed and not self.mixed):
            return None
        if record.status in FINAL:
            return record if self.counts(record) and not self.store.lost([record]) else None
        is_of_now = cell.key in self._met or record.started >= self.leases.since
        return record if is_of_now and record.reason not in (INTERRUPTED, ORPHANED) else None


def mark_orphans_failed(store: Store, leases: Leases, protocol_hash: str) -> None:
    """Mark the records of a protocol as failed that say `running` although nobody has their cells."""
    for record in store.running(protocol=protocol_hash):
        if leases.claim([record.key]):
            store.mark_orphan_failed(record.run_id)
            leases.release([record.key])


__all__ = ["Meet", "Others", "mark_orphans_failed"]
