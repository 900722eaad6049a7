"""Which modules a piece of code imports, and where they lie: found from the text and the search path, with
nothing imported.

The code of a plugin by path looks for neighbours first: modules of the folder that its file lies in, by their
bare name or by a relative import. Whatever else it imports is looked for as the interpreter would. An import
whose name is put together at run time is not seen.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from pathlib import Path

from harness.code import public

OURS = ("harness", public.NAME, "scenarios", "strategies")
"""The packages of this project, which never are a plugin's neighbours."""


@dataclass(frozen=True, slots=True)
class Import:
    """One name that an import statement binds: `from (level dots)module import item as bound`; without
    `item`, `import module`.
    """

    level: int
    module: str
    item: str
    bound: str

    def __str__(self) -> str:
        return f"{'.' * self.level}{self.module} {self.item} {self.bound}"

    @property
    def at_home(self) -> Import:
        """The same name taken from the module that it lies in, where it is one of the public face's."""
        if self.level or self.module.partition(".")[0] != public.NAME:
            return self
        return Import(0, public.homes().get(self.item, public.EVERYTHING), self.item, self.bound)


@dataclass(frozen=True, slots=True)
class Module:
    """A module and where it lies: `origin` is its file, `places` where the modules in it are searched, if it
    is a package.

    folder: of the plugin by path that it is or lies beside; its name then counts from there.
    """

    name: str
    origin: str = ""
    places: tuple[str, ...] = ()
    folder: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it belongs to this project."""
        return not self.folder and self.name.partition(".")[0] in OURS

    @property
    def is_standard(self) -> bool:
        """Whether it belongs to the standard library."""
        if self.folder:
            return False
        if not self.places and self.origin in ("", "built-in", "frozen"):
            return True
        homes = [Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib")]
        inside = [self._place.relative_to(home).parts for home in homes if self._place.is_relative_to(home)]
        return any("site-packages" not in parts and "dist-packages" not in parts for parts in inside)

    @property
    def releases(self) -> list[str]:
        """The released distributions that it was installed by, as `name==version`; none for what lies in an
        editable tree or by itself.
        """
        if self.folder:
            return []
        found = [
            importlib.metadata.distribution(name)
            for name in _providers(tuple(sys.path)).get(self.name.partition(".")[0], ())
        ]
        return sorted(
            {f"{each.name}=={each.version}" for each in found if _is_released(each) and self._is_below(each)}
        )

    def imported(self, statement: Import) -> tuple[list[Module], str]:
        """Return the modules that `statement` loads where it stands in this one, packages before what is in them,
        and the rest of what it names.

        The rest is empty where it names the last of these modules as a whole.
        """
        statement = statement.at_home
        base = (
            f"{self._package(statement.level)}.{statement.module}".strip(".")
            if statement.level
            else statement.module
        )
        inside = bool(statement.level)
        loaded = _chain(base, self.folder, only_there=inside) if base else []
        if (loaded[-1].name if loaded else "") != base:
            return loaded, str(statement)
        if statement.item and (not loaded or loaded[-1].places):
            further = _chain(f"{base}.{statement.item}".lstrip("."), self.folder, only_there=inside)
            if len(further) > len(loaded):
                return further, ""
        return loaded, statement.item

    def _package(self, level: int) -> str:
        """Return the package that a relative import with `level` dots starts from."""
        above = level if not self.places else level - 1
        parts = self.name.split(".")
        return ".".join(parts[: max(len(parts) - above, 0)])

    @property
    def _place(self) -> Path:
        return Path(self.origin or self.places[0])

    def _is_below(self, distribution: importlib.metadata.Distribution) -> bool:
        return self._place.is_relative_to(str(distribution.locate_file("")))


def module_named(name: str) -> list[Module]:
    """Return the module called `name` after the packages it is in; those that are found."""
    return _chain(name, "")


def beside(folder: str, name: str) -> ModuleSpec | None:
    """Return the neighbour `name` of a plugin in `folder`: a module or package there; a bare folder, if
    nothing else has that name.
    """
    if name in OURS:
        return None
    spec = spec_in(folder, name)
    if spec is not None and spec.loader is None:
        other = _spec(name, None)
        return spec if other is None or other.loader is None else None
    return spec


def spec_in(
    folder: str, name: str, source_loader: type[SourceFileLoader] = SourceFileLoader
) -> ModuleSpec | None:
    """Return where the module `name` lies in `folder`, as it is on disk now."""
    return FileFinder(
        folder, (ExtensionFileLoader, EXTENSION_SUFFIXES), (source_loader, SOURCE_SUFFIXES)
    ).find_spec(name)


def statements(body: Sequence[ast.stmt]) -> Iterator[Import]:
    """Return what the import statements in `body` bind, name by name."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (
                Import(0, alias.name, "", alias.asname or alias.name.partition(".")[0])
                for alias in node.names
            )
        elif isinstance(node, ast.ImportFrom):
            yield from (
                Import(node.level, node.module or "", alias.name, alias.asname or alias.name)
                for alias in node.names
            )


def released(source: str, folder: str) -> list[str]:
    """Return the modules of released distributions that the file with this text imports as it is loaded,
    neighbours left out.
    """
    own = Module("", folder=folder)
    named = (own.imported(one)[0] for one in statements(ast.parse(source).body))
    return list(
        dict.fromkeys(
            loaded[-1].name for loaded in named if loaded and not loaded[-1].is_ours and loaded[-1].releases
        )
    )


def _chain(name: str, folder: str, *, only_there: bool = False) -> list[Module]:
    """Return the packages that lead to `name` and itself, as far as they are found; `only_there`: not outside
    `folder`, if one is said.
    """
    top, *rest = name.split(".")
    spec = beside(folder, top) if folder else None
    home = folder if spec is not None else ""
    if spec is None and not (folder and only_there):
        spec = _spec(top, None)
    found: list[Module] = []
    path = top
    while spec is not None:
        places = tuple(spec.submodule_search_locations or ())
        found.append(Module(path, "" if spec.origin == "namespace" else spec.origin or "", places, home))
        if not rest or not places:
            break
        path = f"{path}.{rest.pop(0)}"
        spec = _spec(path, places)
    return found


def _spec(name: str, places: Sequence[str] | None) -> ModuleSpec | None:
    """Ask the finders of the interpreter, which unlike `importlib.util.find_spec` imports no parent package."""
    if name.partition(".")[0] in OURS:
        return _spec_of_ours(name, places if places is None else tuple(places))
    return _find_spec(name, places)


@cache
def _spec_of_ours(name: str, places: tuple[str, ...] | None) -> ModuleSpec | None:
    return _find_spec(name, places)


def _find_spec(name: str, places: Sequence[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find(name, places) if find else None
        if spec is not None:
            return spec
    return None


@lru_cache(maxsize=8)
def _providers(_: tuple[str, ...]) -> dict[str, list[str]]:
    """Return which distributions provide a top-level module, under one search path."""
    return {name: list(found) for name, found in importlib.metadata.packages_distributions().items()}


def _is_released(distribution: importlib.metadata.Distribution) -> bool:
    """Say whether it was installed from a built distribution; a source tree has no METADATA, an editable one
    says what it is.
    """
    if distribution.read_text("METADATA") is None:
        return False
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    return not origin.get("dir_info", {}).get("editable", False)


__all__ = ["OURS", "Import", "Module", "beside", "module_named", "released", "spec_in", "statements"]
