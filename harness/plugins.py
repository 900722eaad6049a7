"""Finding scenarios, strategies, data sets, backbones, encoders, augmentations, components and probes: by entry
point, or by path (`my.py:Mine`). Nothing is imported until it is used.

Built-ins register under the same entry-point groups as everybody else's, so a package that is installed is
found without a line here. `summaries` reads first sentences of docstrings from the source with `ast`, so that
a listing imports no torch.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Literal

from harness.code import by_path
from harness.code.imports import OURS, released
from harness.errors import UserError, unknown
from harness.places import written

Kind = Literal["strategy", "scenario", "dataset", "backbone", "encoder", "augmentation", "component", "probe"]
PLURAL: Mapping[Kind, str] = {
    "strategy": "strategies",
    "scenario": "scenarios",
    "dataset": "datasets",
    "backbone": "backbones",
    "encoder": "encoders",
    "augmentation": "augmentations",
    "component": "components",
    "probe": "probes",
}
_SENTENCE_ENDS = re.compile(r"(?<=\.) (?=[A-Z])")
_CALLED: tuple[Kind, ...] = ("backbone", "encoder", "augmentation")
"""Kinds that are made by a call, so that a function will do as well as a class (`harness.networks`)."""
_BASED: tuple[Kind, ...] = ("strategy", "scenario", "dataset")
"""Kinds whose base class is in the contract, so that the only class of a file is found without its name."""


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A class, or of some kinds a function, and where it came from. `source` is the text of the file for
    plugins by path, else None.
    """

    kind: Kind
    name: str
    cls: Any
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


def is_by_path(name: str) -> bool:
    """Say whether `name` is a file and what stands in it, such as my.py:Mine."""
    path, colon, _ = name.rpartition(":")
    return bool(colon) and path.endswith(".py")


def entry_of(name: str) -> str:
    """Return the plugin that `name` names: all of it, or of `ENTRY:NAME`, which ENTRY makes, the first part."""
    return name if is_by_path(name) else name.partition(":")[0]


def find(kind: Kind, name: str, *, source: str | None = None) -> Plugin:
    """Return the plugin called `name`, or the class in a file for `path.py:Class`.

    Args:
        kind: what to look for.
        name: entry-point name, or path and class; of a file with one class of this kind, its path.
        source: text of the file, where a worker got it sent; by default the file is read.

    Raises:
        UserError: no such plugin, file or class; or the file does not import.
    """
    if is_by_path(name):
        path, _, attribute = name.rpartition(":")
        return _by_path(kind, path, attribute, source)
    if name.endswith(".py") and kind in _BASED:
        return _by_path(kind, name, _only_one(kind, name), source)
    points = registered(kind)
    if name not in points:
        raise unknown(kind, name, points, f"owb list {PLURAL[kind]}")
    try:
        return Plugin(kind=kind, name=name, cls=points[name].load())
    except ImportError as error:
        raise UserError(f"{kind} {name!r} is registered but does not import: {error}") from error


def of_others(name: str, kinds: Sequence[Kind]) -> Iterator[Plugin]:
    """Return the plugins called `name` that are not shipped with this program: the one by path, of whatever
    kind, or what other packages registered.
    """
    if is_by_path(name):
        if written(name.rpartition(":")[0]).is_file():
            yield find(_CALLED[0], name)
        return
    entry = entry_of(name)
    for kind in kinds:
        if entry in registered(kind) and registered(kind)[entry].module.partition(".")[0] not in OURS:
            yield find(kind, entry)


def summaries(kind: Kind) -> dict[str, str]:
    """Return name and one-line summary of every registered plugin, without importing any."""
    return {name: _summary(point) for name, point in registered(kind).items()}


def summary_of(doc: str | None) -> str:
    """Return the first sentence of a docstring."""
    paragraph = " ".join((doc or "").partition("\n\n")[0].split())
    return _SENTENCE_ENDS.split(paragraph)[0]


def _only_one(kind: Kind, path: str) -> str:
    """Return the name of the class of this kind that a file holds.

    Raises:
        UserError: it holds none, or several; these are named.
    """
    from harness import contracts

    base = getattr(contracts, kind.capitalize())
    module = _module(path, None)[0]
    own = [
        key
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    if len(own) != 1:
        holds = f"holds {', '.join(own)}: say which, as {path}:{own[0]}" if own else f"holds no {kind}"
        raise UserError(f"{path} {holds}")
    return own[0]


def _module(path: str, source: str | None) -> tuple[ModuleType, str]:
    """Return the module of a file, and its text, which is read where it was not sent."""
    if source is None:
        try:
            source = written(path).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot read {path!r}: {error.strerror or error}") from None
    try:
        return by_path.load(str(written(path)), source), source
    except Exception as error:
        raise UserError(f"{path!r} does not import: {type(error).__name__}: {error}") from error


def _by_path(kind: Kind, path: str, attribute: str, source: str | None) -> Plugin:
    module, source = _module(path, source)
    types = (type, FunctionType) if kind in _CALLED else (type,)
    found = getattr(module, attribute, None)
    if not isinstance(found, types):
        own = [
            key
            for key, value in vars(module).items()
            if isinstance(value, types) and value.__module__ == module.__name__
        ]
        what, names = (
            ("class or function", "classes and functions") if kind in _CALLED else ("class", "classes")
        )
        raise unknown(what, attribute, own, f"{names} of {path}: {', '.join(own) or 'none'}")
    return Plugin(kind=kind, name=f"{path}:{attribute}", cls=found, source=source)


def _summary(point: EntryPoint) -> str:
    module = importlib.util.find_spec(point.module.partition(".")[0])
    if module is None or not module.submodule_search_locations:
        return ""
    stem = Path(module.submodule_search_locations[0]).joinpath(*point.module.split(".")[1:])
    file = stem.with_suffix(".py") if stem.with_suffix(".py").is_file() else stem / "__init__.py"
    if not file.is_file():
        return ""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == point.attr:
            return summary_of(ast.get_docstring(node))
    return ""
