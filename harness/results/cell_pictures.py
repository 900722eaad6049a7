"""Pictures of one cell: drawn when somebody looks, from its stored predictions and
what probes measured, and kept with its record.

To draw them while cells run would cost more than recording does, and few are ever looked at.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cell.probe_scorer import with_curves
from harness.cell.sealing import build
from harness.errors import UserError
from harness.protocol.cells import protocols
from harness.store import plots

if TYPE_CHECKING:
    from harness.store.mlflow_store import Store
from harness.store.record import Record


def add_pictures(store: Store, record: Record) -> list[str]:
    """Draw what the scores of a finished cell have to show and add it to its record, unless that was done
    before; return a line for every picture that could not be drawn.

    Raises:
        UserError: its predictions are lost, or this installation deals its protocol otherwise.
    """
    if any(path.suffix == ".png" for path in store.file(record, ".").iterdir()):
        return []
    (protocol,) = protocols([record.scenario])
    if protocol.hash != record.protocol_hash:
        raise UserError(f"this installation deals {record.scenario} otherwise than when it was run")
    scores = protocol.scenario.score(build(protocol.scenario, record.seed).truth, store.answers(record))
    (measured,) = store.probes_of([record])
    scores = with_curves(scores, [{f"probe/{name}": rows for name, rows in measured.items()}])
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        title = f"{record.scenario} | {record.strategy} | seed {record.seed}"
        if plots.draw(scores, Path(folder), title=title, say=failed.append):
            store.add_files(record.run_id, Path(folder))
    return failed


__all__ = ["add_pictures"]
