"""What is known of one cell: how it ended, what it cost, and its figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.contracts import Status
from harness.store.sqlite_reader import Row

if TYPE_CHECKING:
    from harness.protocol.cells import Cell

SCHEMA = "1"
FINAL = (Status.DONE, Status.DIVERGED, Status.SKIPPED)
"""Ends that follow from the cell alone. The others depend on the machine, its limits or on code that may be
mended: they run again.
"""
INTERRUPTED = "interrupted; the same command continues"
ORPHANED = "its driver was killed; the next run continues the cell"
"""Reasons of a cell that failed because its driver did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the store knows of one cell. Read by boards and the command line.

    seconds: of the whole cell in its worker.  learn_s, probe_s, predict_s: of these, what learning, answers
    in mid-stage and answers after stages took, in all stages that ended.
    started, ended: in seconds since 1970, by its driver's clock; not a number while it is not known.
    together: how many cells learned at once; `seconds` is then this cell's equal share, `peak_mib` that of
    all.
    session: the run and machine that its cost was measured in (`sessions.session_here`); empty where it is
    not known, or of several.
    mixed: what the libraries that it ran with differ in from those that its key names (`--mixed`); empty where in
    nothing.
    environment: a digest of what is said of the machine, where a board says it.
    stamp: of the file of its predictions (`answers.stamp_of`); empty where none was stored, or by version
    0.8.
    """

    key: str
    run_id: str
    protocol_hash: str
    scenario: str
    strategy: str
    seed: int
    status: Status
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    seconds: float = math.nan
    learn_s: float = math.nan
    probe_s: float = math.nan
    predict_s: float = math.nan
    peak_mib: float = math.nan
    started: float = math.nan
    ended: float = math.nan
    together: int = 1
    session: str = ""
    mixed: str = ""
    environment: str = ""
    stamp: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a cell ended. `digest` is taken over the predictions; cost is measured in the worker; the rest as
    in `Record`.
    """

    status: Status
    reason: str = ""
    digest: str = ""
    seconds: float = math.nan
    learn_s: float = math.nan
    probe_s: float = math.nan
    predict_s: float = math.nan
    peak_mib: float = math.nan
    together: int = 1
    session: str = ""


def newest_by_key(records: Iterable[Record]) -> dict[str, Record]:
    """Return the last record of every key."""
    return {record.key: record for record in records}


def params_of(cell: Cell) -> dict[str, str]:
    """Return what is recorded of the parameters of a cell."""
    config = cell.protocol.content["config"]
    params = {"seed": cell.seed, **cell.contender.params}
    params |= {f"scenario.{name}": value for name, value in config.items()}
    return {name: str(value) for name, value in params.items()}


def record_of(run: Row) -> Record:
    """Return what the tags, parameters and newest figures of a run of ours say."""
    tags, metrics = run.tags, run.metrics
    hidden = ("stage/", "probe/", "cost/")
    return Record(
        key=tags["owb.key"],
        run_id=run.run_id,
        protocol_hash=tags["owb.protocol"],
        scenario=tags["owb.scenario"],
        strategy=tags["owb.strategy"],
        seed=int(tags["owb.seed"]),
        status=Status(tags["owb.status"]),
        reason=tags.get("owb.reason", ""),
        metrics={name: value for name, value in metrics.items() if not name.startswith(hidden)},
        params=run.params,
        digest=tags.get("owb.digest", ""),
        seconds=metrics.get("cost/seconds", math.nan),
        learn_s=metrics.get("cost/learn_seconds", math.nan),
        probe_s=metrics.get("cost/probe_seconds", math.nan),
        predict_s=metrics.get("cost/predict_seconds", math.nan),
        peak_mib=metrics.get("cost/peak_mib", math.nan),
        started=run.start_time / 1000,
        ended=math.nan if run.end_time is None else run.end_time / 1000,
        together=int(tags.get("owb.together", 1)),
        session=tags.get("owb.session", ""),
        mixed=tags.get("owb.mixed", ""),
        stamp=tags.get("owb.file", ""),
    )


__all__ = [
    "FINAL",
    "INTERRUPTED",
    "ORPHANED",
    "SCHEMA",
    "Ending",
    "Record",
    "newest_by_key",
    "params_of",
    "record_of",
]
