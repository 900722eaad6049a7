"""The selection that stands for a class or an object: what the command line would be told."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from harness.api import notebook
from harness.contracts import Scenario, Strategy
from harness.errors import UserError
from harness.parameters import model_of
from harness.plugins import registered
from harness.selection import Selection

Kind = Literal["strategy", "scenario"]
AnyStrategy = str | type[Strategy] | Strategy
"""A selection as the command line takes it, a class, or an instance, which stands for its class and parameters."""
AnyScenario = str | type[Scenario] | Scenario
"""Likewise."""


def selection_of(kind: Kind, what: AnyStrategy | AnyScenario, store: Path) -> str:
    """Return the selection of a class, by its name where it is registered, else by its file and name; of an
    instance with those of its parameters that are not at their defaults.

    Args:
        kind: what it is.
        what: itself; a selection is returned as it is.
        store: the folder below which a class of a notebook is written.

    Raises:
        UserError: a class that lies in no file and cannot be written to one.
    """
    if isinstance(what, str):
        return what
    cls = what if isinstance(what, type) else type(what)
    name = _registered(kind, cls) or f"{_near(_file_of(cls, store))}:{cls.__name__}"
    if what is cls:
        return name
    fields = model_of(cls).model_fields
    said = {each: getattr(what, each) for each in fields if getattr(what, each) != fields[each].default}
    return str(Selection(name, said))


def selections_of(
    kind: Kind, several: AnyStrategy | AnyScenario | Sequence[AnyStrategy | AnyScenario], store: Path
) -> list[str]:
    """Return the selections of one or several, as `selection_of`."""
    each = [several] if isinstance(several, (str, type, Strategy, Scenario)) else several
    return [selection_of(kind, one, store) for one in each]


def _registered(kind: Kind, cls: type) -> str:
    target = f"{cls.__module__}:{cls.__qualname__}"
    return next((name for name, point in registered(kind).items() if point.value == target), "")


def _file_of(cls: type, store: Path) -> Path:
    if cls.__module__ == notebook.MAIN:
        return notebook.written_out(cls, store)
    try:
        file = inspect.getsourcefile(cls)
    except (OSError, TypeError):
        file = None
    if file is None or not Path(file).is_file() or "." in cls.__qualname__:
        raise UserError(
            f"{cls.__name__} lies in no file, where a worker could find it: define it at the top of a file or of a "
            "cell, or run one cell here with debug()"
        )
    return Path(file)


def _near(path: Path) -> Path:
    """Return a path from the current folder, where it lies below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


__all__ = ["AnyScenario", "AnyStrategy", "selection_of", "selections_of"]
