"""Records read from the tables of a local store are those that MLflow's own search gives, in the same order."""

from __future__ import annotations

import math
from pathlib import Path

from conftest import Run, world

from harness import record
from harness.contracts import Status
from harness.record import Record, Store


def _same(one: Record, other: Record) -> bool:
    fields = [name for name in Record.__dataclass_fields__ if name not in ("seconds", "peak_mib")]
    equal = all(getattr(one, name) == getattr(other, name) for name in fields)
    pairs = ((one.seconds, other.seconds), (one.peak_mib, other.peak_mib))
    return equal and all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in pairs)


def test_tables_and_search_give_the_same_records(tiny_run: Run, tmp_path: Path) -> None:
    tiny_run([world("Means"), world("Raises")], seeds=2)
    store = Store(str(tmp_path / "store"))
    searched = [record._record(record._row(run)) for run in store._search("tags.`owb.schema` LIKE '%'")]
    for read in (store.records(), store.records("test")):
        assert len(read) == len(searched) == 4
        assert all(map(_same, read, searched))
    assert {one.status for one in searched} == {Status.DONE, Status.FAILED}
