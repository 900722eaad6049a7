"""Many records of a local store at once: its tables are read as they lie, for MLflow's own search makes an
object of every figure.

Read only, in one transaction. Ten thousand records take half a second this way, where the search takes
thirteen. The schema is that of the pinned MLflow; a test holds both ways against each other.
"""

from __future__ import annotations

import math
import sqlite3
import sys
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from harness.store.busy import PATIENCE_S, opened, patiently

_RUNS = (
    "SELECT run_uuid, start_time, end_time FROM runs JOIN experiments USING (experiment_id) WHERE {} ORDER BY "
    "start_time, run_uuid"
)
_ACTIVE = "runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active'"
_TAGGED = "EXISTS (SELECT 1 FROM tags WHERE tags.run_uuid = runs.run_uuid AND key = 'owb.{}' AND value {})"
_TAGS, _PARAMS, _FIGURES = range(3)
_CONTENT = f"""
    SELECT place, {_TAGS}, own.key, own.value FROM temp.chosen CROSS JOIN tags AS own USING (run_uuid)
    UNION ALL
    SELECT place, {_PARAMS}, own.key, own.value FROM temp.chosen CROSS JOIN params AS own USING (run_uuid)
    UNION ALL
    SELECT place, {_FIGURES}, own.key, CASE WHEN is_nan THEN NULL ELSE own.value END
    FROM temp.chosen CROSS JOIN latest_metrics AS own USING (run_uuid)
    WHERE own.key NOT LIKE 'stage/%' AND own.key NOT LIKE 'probe/%'
    ORDER BY place
"""  # noqa: S608

_CURVES = """
    SELECT run_uuid, key, step, CASE WHEN is_nan THEN NULL ELSE value END
    FROM temp.asked CROSS JOIN metrics USING (run_uuid) WHERE key LIKE ? ORDER BY run_uuid, key, timestamp
"""


@dataclass(slots=True)
class Row:
    """One run: its id, its start and end in milliseconds (None while it goes on), and by name its tags, parameters
    and newest figures (NaN where it is not a number).

    Read from tables, it has no figures after stages or of probes.
    """

    run_id: str
    start_time: int
    end_time: int | None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


@contextmanager
def reading(database: Path, patience_s: float = PATIENCE_S) -> Iterator[sqlite3.Connection]:
    """Give a connection that sees one state of an sqlite file, which is waited for while it is busy."""
    with closing(patiently(lambda: _begun(database), database, patience_s)) as base:
        yield base


def experiments(base: sqlite3.Connection) -> list[str]:
    """Return the names of the experiments that were made by us and not deleted."""
    ours = (
        "SELECT name FROM experiments JOIN experiment_tags USING (experiment_id) WHERE key = 'owb' AND "
        "lifecycle_stage = 'active'"
    )
    return sorted(name for (name,) in base.execute(ours))


def experiment_id(base: sqlite3.Connection, name: str) -> str | None:
    """Return the id of an experiment, None where there is none of this name."""
    found = base.execute("SELECT experiment_id FROM experiments WHERE name = ?", (name,)).fetchone()
    return str(found[0]) if found else None


def rows(
    base: sqlite3.Connection,
    *,
    experiment: str = "",
    key: str = "",
    protocols: Collection[str] = (),
    since: float | None = None,
) -> Iterator[Row]:
    """Return our runs that MLflow wrote, oldest first, one after another.

    Where they are said: those of one experiment, of keys that begin with `key`, of these protocols, those that go
    on or ended at `since` milliseconds or later.
    """
    said = [_ACTIVE, _TAGGED.format("schema", "IS NOT NULL"), _TAGGED.format("key", "GLOB ?")]
    said += [_TAGGED.format("protocol", f"IN ({','.join('?' * len(protocols))})")] if protocols else []
    said += ["runs.experiment_id = ?"] if experiment else []
    said += ["(end_time IS NULL OR end_time >= ?)"] if since is not None else []
    values = [f"{key}*", *protocols, *([int(experiment)] if experiment else [])]
    values += [since] if since is not None else []
    columns = "run_uuid TEXT, start_time INTEGER, end_time INTEGER"
    base.execute(f"CREATE TEMP TABLE IF NOT EXISTS chosen (place INTEGER PRIMARY KEY, {columns})")
    base.execute("DELETE FROM temp.chosen")
    chosen = _RUNS.format(" AND ".join(said))
    base.execute(f"INSERT INTO temp.chosen (run_uuid, start_time, end_time) {chosen}", values)
    runs = base.execute("SELECT run_uuid, start_time, end_time FROM temp.chosen ORDER BY place")
    texts: dict[str, str] = {}  # most are those of other rows as well, and kept once
    for run, (_, content) in zip(runs, groupby(base.execute(_CONTENT), key=itemgetter(0)), strict=True):
        row = Row(*run)
        for _, table, name, value in content:
            if table == _FIGURES:
                row.metrics[sys.intern(name)] = math.nan if value is None else float(value)
            elif table == _PARAMS:
                row.params[sys.intern(name)] = texts.setdefault(value, value)
            else:
                row.tags[sys.intern(name)] = value
        yield row


def curves(
    base: sqlite3.Connection, runs: Collection[str], prefix: str
) -> dict[str, dict[str, dict[int, float]]]:
    """Return the figures of runs whose names begin so, the last at every step: by run, name without the prefix, and
    stage or step (NaN where it is not a number).
    """
    base.execute("CREATE TEMP TABLE IF NOT EXISTS asked (run_uuid TEXT)")
    base.execute("DELETE FROM temp.asked")
    base.executemany("INSERT INTO temp.asked VALUES (?)", [(run,) for run in runs])
    found: dict[str, dict[str, dict[int, float]]] = {}
    for run, name, step, value in base.execute(_CURVES, [f"{prefix}%"]):
        of_run = found.setdefault(run, {})
        of_run.setdefault(name.removeprefix(prefix), {})[step] = math.nan if value is None else float(value)
    return found


def _begun(database: Path) -> sqlite3.Connection:
    """Return a connection whose transaction has begun."""
    base = opened(database)
    try:
        base.execute("PRAGMA temp_store = MEMORY")
        base.execute("BEGIN")
        base.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error:
        base.close()
        raise
    return base


__all__ = ["Row", "curves", "experiment_id", "experiments", "reading", "rows"]
