"""`owb forget`: experiments, cells and studies that the store should no longer have."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli import console, options

EPILOGUE = options.examples(
    "owb forget first-try              an experiment with all its cells and files; asks first",
    "owb forget 3f9c1a --yes           one cell, ablation or sweep, without asking",
)


def forget(
    what: Annotated[str, typer.Argument(help="Name of an experiment, or the beginning of a key.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    store: options.Store = "owb-store",
) -> None:
    """Delete an experiment, a cell or a study from the store, with its files. What is forgotten runs anew."""
    from harness.store.leases import alone
    from harness.store.mlflow_store import Store
    from harness.studies.study import condition_of, study_by_key

    opened = Store(store)
    if what in opened.experiments():
        words = f"experiment {what!r} with {len(opened.records(what))} cells"
    elif (study := study_by_key(opened, what)) is not None:
        words = f"{study.study.kind} {study.study.title!r}; its cells stay"
    else:
        record = opened.by_key(what)
        words = f"{record.scenario} | {record.strategy} | seed {record.seed}"
    if not yes:
        typer.confirm(f"forget {words}, for good?", abort=True, err=True)
    with alone(opened):
        if what in opened.experiments():
            opened.forget_experiment(what)
        elif study is not None:
            opened.forget_runs(condition_of(study.study))
        else:
            opened.forget_runs(f"tags.`owb.key` = '{record.key}'")
    console.note(f"forgot {words}")
