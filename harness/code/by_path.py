"""Loading a plugin from a file, with the modules beside it, apart from everything else that is loaded.

A file `FOLDER/mine.py` becomes the module `harness.code.by_path.CODE.mine`, where CODE spells FOLDER, and its
neighbours (`helper.py`, packages) modules beside it; so two folders may each have a helper, and any process
that can read the folder can import what was pickled in another. Neighbours are found by relative imports and
by their bare names, inside functions too. A file that changed, or whose neighbour did, is loaded anew.
Nothing beside a text is found that was sent without its file.
"""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import decode_source, module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.code.imports import beside, spec_in

__path__: list[str] = []  # so that this module is a package, whose modules `_Finder` finds
_PREFIX = f"{__name__}."
_SENT = "sent"
_loaders: dict[
    str, _Loader
] = {}  # of what is loaded: looking through all of sys.modules would copy its pages in a forked process


def folder_of(path: str) -> str:
    """Return the folder in which the file at `path` has its neighbours; empty where there is no such file."""
    file = Path(path).resolve()
    return str(file.parent) if file.is_file() else ""


def load(path: str, source: str) -> ModuleType:
    """Return the module of the file at `path`, which says `source`; whatever executing it raises is raised
    here.
    """
    folder = folder_of(path)
    package = _PREFIX + (os.fsencode(folder).hex() if folder else _SENT)
    name = f"{package}.{Path(path).stem.replace('.', '_')}"
    if _has_changed(package, name, source):
        for loaded in [each for each in sys.modules if each == package or each.startswith(f"{package}.")]:
            del sys.modules[loaded]
    if name in sys.modules:
        return sys.modules[name]
    import_module(package)
    spec = spec_from_loader(name, _Loader(name, path, source))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _Loader(SourceFileLoader):
    """Executes the text as it is now, or as it was sent, never bytecode kept from before; lets it import its
    neighbours by bare names.
    """

    def __init__(self, fullname: str, path: str, text: str | None = None) -> None:
        super().__init__(fullname, path)
        self.text = text

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_source(fullname), self.path)

    def get_source(self, fullname: str) -> str:
        if self.text is None:
            self.text = decode_source(self.get_data(self.path))
        return self.text

    def exec_module(self, module: ModuleType) -> None:
        package = ".".join(module.__name__.split(".")[: _PREFIX.count(".") + 1])
        vars(module)["__builtins__"] = vars(builtins) | {"__import__": _importing(package)}
        _loaders[module.__name__] = self
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds folders by the names that spell them, and what lies in them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(_PREFIX) or path is None:
            return None
        if "." not in fullname.removeprefix(_PREFIX):
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = _folders(fullname)
            return spec
        return next(filter(None, (spec_in(place, fullname, _Loader) for place in path)), None)


def _importing(package: str) -> Callable[..., Any]:
    """Return the `__import__` of the modules of `package`: bare names of neighbours stand for modules of the
    package.
    """
    folders = _folders(package)

    @cache
    def is_beside(name: str) -> bool:
        return any(beside(folder, name) is not None for folder in folders)

    def imported(
        name: str,
        globals: Any = None,  # noqa: A002
        locals: Any = None,  # noqa: A002
        fromlist: Any = (),
        level: int = 0,
    ) -> Any:
        top = name.partition(".")[0]
        if level or not is_beside(top):
            return builtins.__import__(name, globals, locals, fromlist, level)
        module = builtins.__import__(f"{package}.{name}", globals, locals, fromlist)
        return module if fromlist else sys.modules[f"{package}.{top}"]

    return imported


def _folders(package: str) -> list[str]:
    code = package.removeprefix(_PREFIX)
    return [] if code == _SENT else [os.fsdecode(bytes.fromhex(code))]


def _has_changed(package: str, name: str, source: str) -> bool:
    """Say whether the module `name` no longer says `source`, or a neighbour that is loaded no longer says
    what its file does.
    """
    return any(
        loader.text != (source if each == name else _source_text(loader.path))
        for each, loader in _loaders.items()
        if each.startswith(f"{package}.") and each in sys.modules
    )


def _source_text(path: str) -> str | None:
    try:
        return decode_source(Path(path).read_bytes())
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None


sys.meta_path.insert(0, _Finder())
