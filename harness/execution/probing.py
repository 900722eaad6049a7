"""What probes give for the cells of a run: which cells have to be learned for it, and what is kept by cell.

Figures are kept under a cell's key, the moments of the looks and the identity of the probe: a cell whose figures are
all there is not learned again for them, and neither is one whose features were kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cell.looks import SHARE, Looks, Shown, group_of
from harness.cell.probe_scorer import ProbeScorer
from harness.cell.run import StageResult
from harness.cell.sealing import build
from harness.contracts import Status
from harness.errors import UserError
from harness.protocol import fingerprint
from harness.protocol.cells import Cell
from harness.protocol.probes import looks_of
from harness.store.mlflow_store import Store
from harness.store.probe_figures import Ledger

if TYPE_CHECKING:
    from harness.store.record import Record

_MARK = "looks.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """What is measured in a run. keep_features: what learners show is kept too, for probes that are asked later."""

    looks: Looks
    keep_features: bool = False

    def ledger(self, store: Store, key: str) -> Ledger:
        """Return what is kept of a cell."""
        return Ledger(store.folder, key, self.looks.at)

    def is_answered(self, store: Store, key: str) -> bool:
        """Say whether all figures of a cell are there, or follow from features that were kept."""
        ledger = self.ledger(store, key)
        missing = self._missing(ledger)
        if not missing:
            return True
        probes = [asked.made() for asked in self.looks.probes if asked.identity in missing]
        kept = ledger.drawn() if all(probe.place == "scorer" for probe in probes) else set()
        return {(group_of(probe.of), probe.items) for probe in probes} <= kept

    def counts(self, store: Store, record: Record) -> bool:
        """Say whether a finished record does for this run; one of a cell that came to no result has no figures."""
        return record.status is not Status.DONE or self.is_answered(store, record.key)

    def complete(self, store: Store, cell: Cell, record: Record) -> None:
        """See to it that the record of a finished cell has all figures, without learning it again."""
        ledger = self.ledger(store, cell.key)
        if missing := self._missing(ledger):
            only = replace(
                self.looks, probes=tuple(one for one in self.looks.probes if one.identity in missing)
            )
            scorer = ProbeScorer(only, build(cell.protocol.scenario, cell.seed).truth, cell.seed)
            for shown in ledger.shown():
                scorer.add_shown(shown)
            ledger.add(scorer.figures)
        wanted = {asked.identity for asked in self.looks.probes}
        if new := wanted - ledger.recorded(record.run_id):
            store.add_probes(record.run_id, ledger.curves(new))
            ledger.note(record.run_id, new)

    def settle(self, keep: Path) -> None:
        """Clear what an earlier run with other looks has left of a cell: its stages would go on without these."""
        mark, said = (
            keep / _MARK,
            fingerprint.of_value([self.looks.at, [one.identity for one in self.looks.probes]]),
        )
        if not mark.is_file() or mark.read_text(encoding="utf-8") != said:
            shutil.rmtree(keep, ignore_errors=True)
            keep.mkdir(parents=True)
            mark.write_text(said, encoding="utf-8")

    def _missing(self, ledger: Ledger) -> set[str]:
        return {asked.identity for asked in self.looks.probes} - ledger.identities()


def probing_of(
    texts: Iterable[str], at: str = "", *, share: float = SHARE, keep_features: bool = False
) -> Probing | None:
    """Return what is measured in a run, None where nothing is; arguments and errors are those of `looks_of`."""
    looks = looks_of(texts, at, share=share)
    if looks is None and keep_features:
        raise UserError("--keep-features keeps what probes were shown: name one with --probe too")
    return None if looks is None else Probing(looks=looks, keep_features=keep_features)


def keep_figures(
    probing: Probing,
    store: Store,
    cell: Cell,
    record: Record,
    scorer: ProbeScorer,
    results: Iterable[StageResult],
) -> None:
    """Keep the figures of a cell that is done, and with `keep_features` what it showed."""
    if record.status is not Status.DONE:
        return
    ledger = probing.ledger(store, cell.key)
    ledger.add(scorer.figures)
    if probing.keep_features:
        ledger.keep([Shown(**plain) for result in results for plain in result.shown])
    ledger.note(record.run_id, set(scorer.figures))
    if others := ledger.identities() - set(scorer.figures):
        store.add_probes(record.run_id, ledger.curves(others))
        ledger.note(record.run_id, others)


__all__ = ["Probing", "keep_figures", "probing_of"]
