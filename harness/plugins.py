"""Finding scenarios, strategies and data sets: by entry point, or by path (`my.py:Mine`). Nothing is imported
until it is used.

Built-ins register under the same entry-point groups as everybody else's, so a package that is installed is
found without a line here. `summaries` reads the first docstring line from the source with `ast`, so that a
listing imports no torch.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from harness.code import by_path
from harness.code.imports import OURS, released
from harness.errors import UserError, unknown
from harness.places import written

Kind = Literal["strategy", "scenario", "dataset"]
PLURAL: Mapping[Kind, str] = {"strategy": "strategies", "scenario": "scenarios", "dataset": "datasets"}


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A class and where it came from. `source` is the text of the file for plugins by path, else None."""

    kind: Kind
    name: str
    cls: type[Any]
    source: str | None = None

    @property
    def folder(self) -> str:
        """The folder in which a plugin by path has its neighbours; empty for others, and where its file is
        not there.
        """
        return "" if self.source is None else by_path.folder_of(str(written(self.name.rpartition(":")[0])))

    @cached_property
    def loaded_ahead(self) -> tuple[str, ...]:
        """The modules that the process of its cells begins with: those it declares, and the libraries that
        its file imports.
        """
        imported = [] if self.source is None else released(self.source, self.folder)
        return (*imported, *self.cls.loaded_ahead)

    @property
    def address(self) -> str:
        """The name by which a process with another working folder finds it."""
        path, _, class_name = self.name.rpartition(":")
        return f"{written(path).absolute()}:{class_name}" if self.folder else self.name


@cache
def registered(kind: Kind) -> Mapping[str, EntryPoint]:
    """Return the entry points of one kind by name, sorted."""
    found = entry_points(group=f"openworld.{PLURAL[kind]}")
    return {point.name: point for point in sorted(found, key=lambda point: point.name)}


def find(kind: Kind, name: str, *, source: str | None = None) -> Plugin:
    """Return the plugin called `name`, or the class in a file for `path.py:Class`.

    Args:
        kind: what to look for.
        name: entry-point name, or path and class.
        source: text of the file, where a worker got it sent; by default the file is read.

    Raises:
        UserError: no such plugin, file or class; or the file does not import.
    """
    path, colon, class_name = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _by_path(kind, name, path, class_name, source)
    points = registered(kind)
    if name not in points:
        raise unknown(kind, name, points, f"owb list {PLURAL[kind]}")
    try:
        return Plugin(kind=kind, name=name, cls=points[name].load())
    except ImportError as error:
        raise UserError(f"{kind} {name!r} is registered but does not import: {error}") from error


def of_others(name: str, kinds: Sequence[Kind]) -> Iterator[Plugin]:
    """Return the plugins called `name` that are not shipped with this program: the one by path, or what other
    packages registered.
    """
    path, colon, _ = name.rpartition(":")
    if colon and path.endswith(".py"):
        if written(path).is_file():
            yield find(kinds[0], name)
        return
    for kind in kinds:
        if name in registered(kind) and registered(kind)[name].module.partition(".")[0] not in OURS:
            yield find(kind, name)


def summaries(kind: Kind) -> dict[str, str]:
    """Return name and one-line summary of every registered plugin, without importing any."""
    return {name: _first_doc_line(point) for name, point in registered(kind).items()}


def _by_path(kind: Kind, name: str, path: str, class_name: str, source: str | None) -> Plugin:
    if source is None:
        try:
            source = written(path).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot read {path!r}: {error.strerror or error}") from None
    try:
        module = by_path.load(str(written(path)), source)
    except Exception as error:
        raise UserError(f"{path!r} does not import: {type(error).__name__}: {error}") from error
    cls = getattr(module, class_name, None)
    if not isinstance(cls, type):
        classes = [
            key
            for key, value in vars(module).items()
            if isinstance(value, type) and value.__module__ == module.__name__
        ]
        raise unknown("class", class_name, classes, f"classes of {path}: {', '.join(classes) or 'none'}")
    return Plugin(kind=kind, name=f"{path}:{class_name}", cls=cls, source=source)


def _first_doc_line(point: EntryPoint) -> str:
    module = importlib.util.find_spec(point.module.partition(".")[0])
    if module is None or not module.submodule_search_locations:
        return ""
    stem = Path(module.submodule_search_locations[0]).joinpath(*point.module.split(".")[1:])
    file = stem.with_suffix(".py") if stem.with_suffix(".py").is_file() else stem / "__init__.py"
    if not file.is_file():
        return ""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == point.attr:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""
