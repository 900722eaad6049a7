"""`owb show`: what the store holds: experiments, one experiment's ranking, or one cell."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from harness import console
from harness.cli import options

if TYPE_CHECKING:
    from harness.record import Store

EPILOGUE = options.examples(
    "owb show                  the experiments in the store",
    "owb show demo             ranking and failures of one experiment",
    "owb show 3f9c1a           one cell by the beginning of its key: scores, parameters, files",
    "owb show demo --cells     every cell of an experiment",
)


def show(
    what: Annotated[str | None, typer.Argument(help="Name of an experiment, or the beginning of a cell's key.")] = None,
    cells: Annotated[bool, typer.Option("--cells", help="List the cells of the experiment.")] = False,
    store: options.Store = "owb-store",
    as_json: options.Json = False,
) -> None:
    """Show what is recorded."""
    from harness.record import Store

    opened = Store(store)
    names = opened.experiments()
    if what is None:
        if as_json:
            console.dump(names)
            return
        for name in names:
            console.say(name)
        if not names:
            console.note(f"nothing is recorded in {opened.uri}; try: owb demo")
    elif what in names:
        _show_experiment(opened, what, cells, as_json)
    else:
        _show_cell(opened, what, as_json)


def _show_experiment(store: Store, name: str, cells: bool, as_json: bool) -> None:
    from harness.cli.tables import show as show_tables

    records = store.records(name)
    if not cells:
        show_tables(records, as_json=as_json)
    elif as_json:
        console.dump([asdict(record) for record in records])
    else:
        rows = [[r.status, r.scenario, r.strategy, str(r.seed), f"{r.seconds:.1f} s", r.key[:12], r.reason] for r in records]
        console.grid(["status", "scenario", "strategy", "seed", "time", "key", "reason"], rows)


def _show_cell(store: Store, key: str, as_json: bool) -> None:
    record = store.by_key(key)
    stages = store.stages(record)
    if as_json:
        clean = {name: [values[at] if math.isfinite(values[at]) else None for at in sorted(values)] for name, values in stages.items()}
        console.dump({**asdict(record), "stages": clean})
        return
    console.say(f"{record.scenario} | {record.strategy} | seed {record.seed}")
    facts = {"status": record.status, "reason": record.reason, "key": record.key, "protocol": record.protocol_hash,
             "predictions": record.digest, "time": f"{record.seconds:.2f} s", "memory": f"{record.peak_mib:.0f} MiB",
             "together": f"learned at once with {record.together - 1} others" if record.together > 1 else ""}  # fmt: skip
    for name, value in facts.items():
        if value:
            console.say(f"{name:<12}  {value}")
    console.grid(["metric", "value"], [[name, f"{value:.4f}"] for name, value in record.metrics.items()])
    if stages:
        steps = sorted({step for values in stages.values() for step in values})
        rows = [[name, *[_number(values.get(step, math.nan)) for step in steps]] for name, values in stages.items()]
        console.grid(["after stage", *map(str, steps)], rows)
    console.grid(["parameter", "value"], list(record.params.items()))
    console.say(f"files: {store.file(record, '.')}")


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"
