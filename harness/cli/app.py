"""The verbs in the order of use. Verb modules import nothing heavy before they run, so that `owb --help`
answers at once.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]  # typer lists no names there
from typer.core import TyperGroup

from harness.cli import (
    ablate,
    check,
    completion,
    console,
    doctor,
    export,
    forget,
    listing,
    new,
    packages,
    plugged,
    rename,
    run,
    show,
    slurm,
    sweep,
    watch,
)
from harness.errors import UserError, unknown
from harness.places import settle_home

USER_ERROR = 2
_NEW_OBJECTS = 50_000
"""How many there are before garbage is looked for. Libraries make a million that stay; at Python's 700, a fifth of
the time in which they load is spent on looking.
"""


class _NearestVerb(TyperGroup):
    """Names the nearest verb where one was mistyped."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise unknown("command", args[0], self.list_commands(ctx), "owb --help")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_NearestVerb,
    name="owb",
    help=(
        "Benchmark learners in an open world: classes keep arriving, labels are noisy, some inputs are out of "
        "distribution, generalisation comes late."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_OWN = {
    "list": listing.list_plugins,
    "run": run.run,
    "show": show.show,
    "watch": watch.watch,
    "forget": forget.forget,
    "rename": rename.rename,
    "export": export.export,
    "ablate": ablate.ablate,
    "sweep": sweep.sweep,
    "slurm": slurm.slurm,
    "check": check.check,
    "new": new.app,
    "doctor": doctor.doctor,
    "completion": completion.completion,
}
_ORDER = (
    "demo",
    "list",
    "run",
    "show",
    "watch",
    "forget",
    "rename",
    "compare",
    "export",
    "ablate",
    "sweep",
    "slurm",
    "board",
    "check",
    "new",
    "submit",
    "verify",
    "accept",
    "data",
    "doctor",
    "completion",
)
plugged.add_commands(app, _OWN, _ORDER)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        console.say(f"openworld-bench {version('openworld-bench')}")
        raise typer.Exit


@app.callback()
def _owb(
    shows_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Options that need no verb."""


def main() -> None:
    """Run the command line; exit with 0 fine, 1 some cells failed, 2 user error, 3 gate refused."""
    gc.set_threshold(_NEW_OBJECTS)
    console.take_streams()
    console.take_log()
    settle_home()
    try:
        if said := packages.foreign():
            raise UserError(said[0])
        with console.only_json() if "--json" in sys.argv else contextlib.nullcontext():
            if completion.VARIABLE in os.environ:
                completion_init()
            app(prog_name="owb")
    except UserError as error:
        console.complain(str(error))
        sys.exit(USER_ERROR)
    except OSError as error:
        console.complain(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        sys.exit(USER_ERROR)
