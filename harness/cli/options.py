"""Options that several verbs share, each declared once."""

from __future__ import annotations

from typing import Annotated

import typer

Store = Annotated[str, typer.Option("--store", help="Folder, data base URI or tracking server that keeps the records.", envvar="OWB_STORE")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Experiment = Annotated[str, typer.Option("--name", help="Experiment the cells are recorded under.")]


def examples(*lines: str) -> str:
    """Return the epilogue of a help text that shows how a verb is used."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)  # \b keeps click from joining the lines
