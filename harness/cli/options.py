"""Options that several verbs share, each declared once."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from harness.cli import console
from harness.execution.machine import Machine
from harness.places import written

if TYPE_CHECKING:
    from harness.plugins import Kind

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


def scenarios(meaning: str) -> Any:
    """Return the option that names scenarios."""
    return typer.Option(
        "--scenario",
        "-s",
        help=meaning,
        callback=with_former_names("scenario"),
        autocompletion=names_of("scenario"),
    )


def strategy(meaning: str) -> Any:
    """Return the argument that names a strategy, or several."""
    return typer.Argument(
        metavar="STRATEGY",
        help=meaning,
        callback=with_former_names("strategy"),
        autocompletion=names_of("strategy"),
    )


def names_of(*kinds: Kind) -> Callable[[str], list[str]]:
    """Return what a shell completes a name by: those registered, of which no module is imported; after
    `name[dataset=` the names of data sets.
    """

    def complete(incomplete: str) -> list[str]:
        from harness.plugins import registered

        before, is_dataset, begun = incomplete.rpartition("dataset=")
        if is_dataset:
            return [f"{before}dataset={name}" for name in registered("dataset") if name.startswith(begun)]
        return [name for kind in kinds for name in registered(kind) if name.startswith(incomplete)]

    return complete


def with_former_names(kind: Literal["scenario", "strategy"]) -> Callable[[Any], Any]:
    """Return a callback that says which parameters in a selection, or in several, are called otherwise now."""

    def note(said: list[str] | str | None) -> Any:
        from harness.selection import former_parameters

        found: dict[str, str] = {}
        for text in [said] if isinstance(said, str) else said or []:
            found |= former_parameters(kind, text)
        for old, new in found.items():
            console.note(f"{old} is now called {new}; this version reads both names")
        return said

    return note


Scenarios = Annotated[list[str] | None, scenarios("Scenario; repeat for several.")]
Metrics = Annotated[
    list[str] | None, typer.Option("--metric", "-m", help="Metric to judge by, the leading one first.")
]

Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds a cell may take.")]
Memory = Annotated[int, typer.Option("--memory", min=64, help="MiB a cell may take.")]

Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Worker processes; by default cores / threads, of all nodes."),
]

_MACHINE: dict[str, Any] = {
    "workers": Workers,
    "threads": Annotated[int, typer.Option("--threads", min=1, help="Torch threads per worker.")],
    "gpus": Annotated[float, typer.Option("--gpus", min=0, help="GPU share per worker.")],
    "device": Annotated[str, typer.Option("--device", help="cpu, cuda, or cuda:N.")],
    "precision": Annotated[
        Literal["float32", "bfloat16", "float16"],
        typer.Option("--precision", help="Number format of the forward pass."),
    ],
    "compile": Annotated[
        bool, typer.Option("--compile", help="Let torch compile the network; pays for large ones.")
    ],
    "address": Annotated[
        str | None,
        typer.Option("--address", help="Address of a Ray cluster; by default Ray is started here."),
    ],
    "resources": Annotated[
        str, typer.Option("--resources", help="What a worker takes of a node besides: memory=8e9,tpu=1.")
    ],
    "labels": Annotated[str, typer.Option("--labels", help="Labels of the nodes to be used: region=eu.")],
    "together": Annotated[
        bool,
        typer.Option(
            "--together/--no-together", help="Train several cells in one batch where their strategy can."
        ),
    ],
    "share": Annotated[
        bool, typer.Option("--share/--no-share", help="Train stages once that several cells have in common.")
    ],
    "mixed": Annotated[
        bool,
        typer.Option("--mixed", help="Use nodes with other versions of libraries too; their records say so."),
    ],
    "dashboard": Annotated[
        bool, typer.Option("--dashboard", help="Have Ray's dashboard, and say its address.")
    ],
}
"""The options of a `Machine`, by field; their defaults are the fields' own."""


def on_machine(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with the options of `Machine` in place of its parameter `machine`."""
    hints = get_type_hints(command, include_extras=True)
    defaults = {field.name: field.default for field in dataclasses.fields(Machine)}
    parameters: list[inspect.Parameter] = []
    for one in inspect.signature(command).parameters.values():
        if one.name != "machine":
            parameters.append(one.replace(annotation=hints[one.name]))
            continue
        parameters += [
            one.replace(name=name, default=defaults[name], annotation=hint) for name, hint in _MACHINE.items()
        ]

    @functools.wraps(command)
    def filled(**given: Any) -> None:
        command(machine=Machine(**{name: given.pop(name) for name in _MACHINE}), **given)

    filled.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    filled.__annotations__ = {one.name: one.annotation for one in parameters}
    return filled


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
