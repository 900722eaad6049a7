"""What packages above the harness, and anybody else's, add to the command line: verbs, published suites,
lines of `owb doctor`.

They register under entry points, as plugins do: `openworld.commands` (verb -> a Typer app, or a function
whose module has an EPILOGUE, and SETTINGS of its context where it needs any), `openworld.suites` (prefix of
`--preset` names -> a module like `Suites`), `openworld.doctor` (name of a line -> a function without arguments
that returns a `Finding`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal, Protocol

import typer

from harness.errors import UserError, unknown

if TYPE_CHECKING:
    from harness.protocol.cells import Suite
    from harness.store.record import Record

Group = Literal["commands", "suites", "doctor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that `owb doctor` looked at.

    text: for people.  facts: for machines.  advice: what to do next, a line each.  broken: what does not
    work, a line each.
    """

    text: str
    facts: dict[str, Any] = field(default_factory=dict)
    advice: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


class Suites(Protocol):
    """Suites that can be run by name, such as published tables. A module with these functions is one."""

    def suite_of(self, name: str, *, smoke: bool, plan: bool) -> Suite:
        """Return the suite called `name`, or that of its smoke run; raise `UserError` where there is none."""
        ...

    def show_presets(self, *, as_json: bool) -> None:
        """List every suite."""
        ...

    def show_comparison(self, name: str, records: Sequence[Record], *, as_json: bool) -> None:
        """Print what the run of `name` came to, beside what was published."""
        ...


@cache
def _registered(group: Group) -> dict[str, EntryPoint]:
    return {
        point.name: point
        for point in sorted(entry_points(group=f"openworld.{group}"), key=lambda point: point.name)
    }


def _loaded(point: EntryPoint) -> Any:
    try:
        return point.load()
    except ImportError as error:
        raise UserError(f"{point.name!r} is registered and does not import: {error}") from error


def _verb(point: EntryPoint) -> Any:
    """Return a verb; where it does not import, one that says so, since the others are still of use."""
    try:
        return _loaded(point)
    except UserError as error:
        refusal = error

    def refuse() -> None:
        """Not to be had: its package does not import."""
        raise refusal

    return refuse


def add_commands(app: typer.Typer, own: dict[str, Any], order: Sequence[str]) -> None:
    """Add the verbs of `own` and those that are registered to `app`, in `order`, the others after them."""
    found = {**{name: _verb(point) for name, point in _registered("commands").items()}, **own}
    for name in sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name)):
        verb = found[name]
        if isinstance(verb, typer.Typer):
            app.add_typer(verb, name=name)
        else:
            module = sys.modules[verb.__module__]
            settings = getattr(module, "SETTINGS", None)
            app.command(name, epilog=getattr(module, "EPILOGUE", None), context_settings=settings)(verb)


def suites_of(preset: str) -> Suites:
    """Return who has the suite called `preset`, such as paper/happy-cifar100.

    Raises:
        UserError: nobody registered the first part of the name.
    """
    prefix, points = preset.partition("/")[0], _registered("suites")
    if prefix not in points:
        raise unknown("preset", preset, [f"{name}/" for name in points], "owb run --preset list")
    suites: Suites = _loaded(points[prefix])
    return suites


def every_suites() -> list[Suites]:
    """Return all who have suites."""
    return [_loaded(point) for point in _registered("suites").values()]


def findings() -> dict[str, Callable[[], Finding]]:
    """Return the looks that are registered for `owb doctor`, by the name of their line."""
    return {name.replace("-", " "): _loaded(point) for name, point in _registered("doctor").items()}


__all__ = ["Finding", "Suites", "add_commands", "every_suites", "findings", "suites_of"]
