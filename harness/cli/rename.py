"""`owb rename`: an experiment under another name."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli import console, options

EPILOGUE = options.examples(
    "owb rename runs first-try         the experiment 'runs' is called 'first-try' from now on"
)


def rename(
    old: Annotated[str, typer.Argument(help="Name of an experiment.")],
    new: Annotated[str, typer.Argument(help="The name it is to have.")],
    store: options.Store = "owb-store",
) -> None:
    """Give an experiment another name."""
    from harness.store.mlflow_store import Store

    Store(store).rename_experiment(old, new)
    console.note(f"{old!r} is called {new!r} now")
