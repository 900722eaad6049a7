"""Options that several verbs share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from harness.places import written

Store = Annotated[
    str,
    typer.Option(
        "--store", help="Folder, data base URI or tracking server that keeps the records.", envvar="OWB_STORE"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Experiment = Annotated[str, typer.Option("--name", help="Experiment the cells are recorded under.")]

Plan = Annotated[
    bool, typer.Option("--plan", help="Show what would run and what is already there; run nothing.")
]
Scenarios = Annotated[
    list[str] | None, typer.Option("--scenario", "-s", help="Scenario; repeat for several.")
]
Metrics = Annotated[
    list[str] | None, typer.Option("--metric", "-m", help="Metric to judge by, the leading one first.")
]

Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Worker processes; by default cores / threads.")
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Torch threads per worker.")]
Gpus = Annotated[float, typer.Option("--gpus", min=0, help="GPU share per worker.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, or cuda:N.")]
Number = Annotated[
    Literal["float32", "bfloat16", "float16"],
    typer.Option("--precision", help="Number format of the forward pass."),
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Let torch compile the network; pays for large ones.")
]
Address = Annotated[
    str | None, typer.Option("--address", help="Address of a Ray cluster; by default Ray is started here.")
]
Together = Annotated[
    bool, typer.Option("--together/--no-together", help="Learn cells at once where their strategy can.")
]
Share = Annotated[
    bool, typer.Option("--share/--no-share", help="Learn stages once that several cells begin with.")
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds a cell may take.")]
Memory = Annotated[int, typer.Option("--memory", min=64, help="MiB a cell may take.")]


def path(*names: str, **said: Any) -> Any:
    """Return an option that says a path, with `~` expanded: a shell leaves it in `--out=~/folder`."""
    return typer.Option(*names, callback=_written, **said)


def _written(value: Path | None) -> Path | None:
    return written(value) if value else None


def examples(*lines: str) -> str:
    """Return the epilogue of a help text that shows how a verb is used."""
    return "\b\nExamples:\n" + "\n".join(
        f"  {line}" for line in lines
    )  # \b keeps click from joining the lines
