"""`owb show`: what the store holds: experiments, one experiment's ranking, an ablation or sweep, or one cell."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import console, options
from harness.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.store.mlflow_store import Store
    from harness.store.record import Record
    from harness.studies.study import StoredStudy

LOG = "log.txt"
EPILOGUE = options.examples(
    "owb show                  the experiments in the store",
    "owb show demo             ranking and failures of one experiment",
    "owb show ablate-elr       what an ablation or a sweep found; the newest, where there are several",
    "owb show 3f9c1a           one cell (draws its pictures), ablation or sweep by the beginning of its key",
    "owb show demo --cells     every cell of an experiment",
    "owb show 3f9c1a --log     what a cell printed, and how it failed",
)


def show(
    what: Annotated[
        str | None, typer.Argument(help="Name of an experiment, or the beginning of a key.")
    ] = None,
    cells: Annotated[bool, typer.Option("--cells", help="List the cells of the experiment.")] = False,
    log: Annotated[bool, typer.Option("--log", help="Print the end of the cell's log.")] = False,
    store: options.Store = "owb-store",
    as_json: options.Json = False,
) -> None:
    """Show what is recorded."""
    from harness.store.mlflow_store import Store
    from harness.studies.study import studies, study_by_key

    opened = Store(store)
    names = opened.experiments()
    if log:
        _show_log(opened, what)
    elif what is None:
        if as_json:
            console.dump(names)
            return
        for name in names:
            console.say(name)
        if not names:
            console.note(f"nothing is recorded in {opened.uri}; try: owb demo")
    elif what in names:
        kept = [] if cells else studies(opened, what)
        if kept:
            _show_study(opened, kept[-1], kept[:-1], as_json)
        else:
            _show_experiment(opened, what, cells, as_json)
    elif (found := study_by_key(opened, what)) is not None:
        _show_study(opened, found, [], as_json)
    else:
        _show_cell(opened, what, as_json)


def _show_log(store: Store, key: str | None) -> None:
    if key is None or key in store.experiments():
        raise UserError("--log takes the key of a cell: owb show EXPERIMENT --cells lists them")
    console.say(store.file(store.by_key(key), LOG).read_text(encoding="utf-8").rstrip())


def _show_study(store: Store, kept: StoredStudy, earlier: Sequence[StoredStudy], as_json: bool) -> None:
    """Show one study, and name those that were kept before it."""
    from harness.cli import ablate, searching, sweep
    from harness.studies.study import records_of

    show_report = {
        "ablation": ablate.show_report,
        "sweep": sweep.show_report,
        "search": searching.show_report,
    }[kept.study.kind]
    show_report(kept.study.definition, records_of(store, kept), as_json=as_json)
    if as_json:
        return
    console.note(
        f"{kept.study.kind} {kept.study.key[:12]} of {len(kept.cells)} cells, experiment {kept.experiment!r}"
    )
    for other in reversed(earlier):
        console.note(
            f"before it: {other.study.title}, {len(other.cells)} cells: owb show {other.study.key[:12]}"
        )


def _show_experiment(store: Store, name: str, cells: bool, as_json: bool) -> None:
    from harness.cli.tables import show as show_tables

    records = store.records(name)
    if not cells:
        show_tables(records, as_json=as_json)
    elif as_json:
        console.dump([asdict(record) for record in records])
    else:
        rows = [
            [
                r.status,
                r.scenario,
                r.strategy,
                str(r.seed),
                f"{r.seconds:.1f} s",
                r.session or "unknown",
                r.key[:12],
                r.reason,
            ]
            for r in records
        ]
        console.grid(["status", "scenario", "strategy", "seed", "time", "session", "key", "reason"], rows)
        console.note("times compare within a session: one run on one machine")


def _show_cell(store: Store, key: str, as_json: bool) -> None:
    record = store.by_key(key)
    stages = store.stages(record)
    if as_json:
        clean = {
            name: [values[at] if math.isfinite(values[at]) else None for at in sorted(values)]
            for name, values in stages.items()
        }
        console.dump({**asdict(record), "stages": clean})
        return
    console.say(f"{record.scenario} | {record.strategy} | seed {record.seed}")
    facts = {
        "status": record.status,
        "reason": record.reason,
        "key": record.key,
        "protocol": record.protocol_hash,
        "predictions": record.digest,
        "time": f"{record.seconds:.2f} s{_parts(record)}",
        "memory": f"{record.peak_mib:.0f} MiB",
        "session": record.session,
        "libraries": f"not those of its key ({record.mixed})" if record.mixed else "",
        "together": f"learned at once with {record.together - 1} others" if record.together > 1 else "",
    }
    for name, value in facts.items():
        if value:
            console.say(f"{name:<12}  {value}")
    console.grid(["metric", "value"], [[name, f"{value:.4f}"] for name, value in record.metrics.items()])
    if stages:
        steps = sorted({step for values in stages.values() for step in values})
        rows = [
            [name, *[_number(values.get(step, math.nan)) for step in steps]]
            for name, values in stages.items()
        ]
        console.grid(["after stage", *map(str, steps)], rows)
    console.grid(["parameter", "value"], list(record.params.items()))
    if store.lost([record]):
        console.note("its predictions are gone or damaged: run the cell anew with owb run --again")
    else:
        _draw(store, record)
        console.say(f"files: {store.file(record, '.')}")


def _draw(store: Store, record: Record) -> None:
    """Add pictures to the files of a finished cell, or say why there are none."""
    from harness.contracts import Status
    from harness.errors import UserError
    from harness.results.cell_pictures import add_pictures

    if record.status is not Status.DONE:
        return
    try:
        for problem in add_pictures(store, record):
            console.note(problem)
    except UserError as error:
        console.note(f"no pictures: {error}")


def _parts(record: Record) -> str:
    """Say what the time was spent on, where that is recorded."""
    parts = {
        "learning": record.learn_s,
        "answers in mid-stage": record.probe_s,
        "answers after stages": record.predict_s,
    }
    known = [f"{name} {value:.2f} s" for name, value in parts.items() if value > 0]
    return f" ({', '.join(known)})" if known else ""


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"
