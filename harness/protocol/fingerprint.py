"""Digests of what can change a result: values, what a scenario deals, and the source code behind a plugin.

Code is digested by its syntax tree without docstrings, together with that of every module it imports which is
neither of the standard library nor of a released distribution; those of releases count by name and version.
So a reworded comment keeps finished cells valid, and a changed loss does not, wherever it stands. Modules
have no names in a digest, and an import of one that is digested counts by what that one
says: a module that is moved or renamed keeps finished cells valid too. Nothing is imported to find out. Not
seen are imports whose name is put together at run time, and files that are no code.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from harness.code.imports import Module, module_named
from harness.code.normal_form import NormalForm, digest_of, normal_form
from harness.contracts import Deal, Inputs

ENGINE = ("harness.cell.run", "harness.cell.sealing")
READ_AT_ONCE = 32 << 20
LIBRARIES = ("torch", "numpy", "timm", "avalanche-lib", "faiss-cpu", "faiss-gpu", "scikit-learn")


def of_value(value: Any) -> str:
    """Return the SHA-256 of JSON-ready `value`: equal values have equal digests on every machine."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def of_arrays(arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """Return the SHA-256 over names, dtypes, shapes and bytes of `arrays`."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def of_deal(deal: Deal) -> str:
    """Return the digest of what a scenario dealt: labels, rows of every stage, and the facts and inputs that
    lie in memory.

    What loaders would fetch is left to the digests that the scenario states of its data, or to `of_loaders`.
    """
    in_memory = {name: values for name, values in deal.facts.items() if isinstance(values, np.ndarray)}
    arrays = {"labels": deal.labels, **{f"facts.{name}": values for name, values in in_memory.items()}}
    for index, stage in enumerate(deal.stages):
        arrays |= {
            f"{index}.rows": stage.rows,
            f"{index}.given": stage.observed_labels,
            f"{index}.query": stage.query,
        }
        further = {
            "watched": stage.monitored,
            "held": stage.validation,
            "held_given": stage.validation_labels,
        }
        arrays |= {f"{index}.{name}": values for name, values in further.items() if len(values)}
        if stage.noise_info is not None:
            arrays[f"{index}.told"] = np.append(
                stage.noise_info.rate, stage.noise_info.matrix if stage.noise_info.matrix is not None else []
            )
    if isinstance(deal.inputs, np.ndarray):
        arrays["inputs"] = deal.inputs
    return of_arrays(arrays)


def of_loaders(deal: Deal) -> dict[str, str]:
    """Return the digests of the inputs and facts that do not lie in memory, all items read in order, a few at
    a time.
    """
    loaders = {"inputs": deal.inputs, **{f"facts.{name}": values for name, values in deal.facts.items()}}
    return {name: _of_items(values) for name, values in loaders.items() if not isinstance(values, np.ndarray)}


def _of_items(items: Inputs) -> str:
    digest = hashlib.sha256(f"{items.shape}|".encode())
    rows, step = np.arange(len(items)), 1
    while len(rows):
        array = np.ascontiguousarray(items[rows[:step]])
        digest.update(f"{array.dtype.str}|".encode() + array.tobytes())
        rows, step = rows[step:], max(1, READ_AT_ONCE // max(1, array.nbytes // len(array)))
    return digest.hexdigest()


def of_code(
    module: str, source: str | None = None, folder: str = "", *, engine: Sequence[str] = ENGINE
) -> str:
    """Return the digest of a plugin's code, of all that it imports, and of what runs it.

    Args:
        module: the plugin's module, by its full name.
        source: the text, for a plugin by path; `module` is not looked at then.
        folder: where a plugin by path has its neighbours; empty if there are none.
        engine: the modules of this project that run it.

    Raises:
        SyntaxError: `source` is not Python; so may be ValueError, RecursionError and MemoryError.
    """
    own = module_named(module) if source is None else [Module("", folder=folder)]
    if all(each.is_ours for each in own):
        return _of_ours(module, tuple(engine))
    importlib.invalidate_caches()
    return of_value(_closure(own, engine, source))


def behind(source: str, folder: str) -> list[Module]:
    """Return the modules that are digested because a plugin by path, with this text, imports them, those of this
    project left out; `folder` and what is raised as for `of_code`.
    """
    own = Module("", folder=folder)
    importlib.invalidate_caches()
    return [module for module in _all_read([own], (), source) if module != own and not module.is_ours]


@cache
def _of_ours(module: str, engine: tuple[str, ...]) -> str:
    """Return the digest for a module of this project, whose files are as they were when it was loaded."""
    return of_value(_closure(module_named(module), engine, None))


@cache
def libraries() -> dict[str, str]:
    """Return the installed versions of the libraries that can change a number."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True, slots=True)
class _Read:
    """digest: of what a module says and imports.  behind: the modules that are digested because of it.
    releases: those it imports.
    """

    digest: str
    behind: tuple[Module, ...]
    releases: frozenset[str]


def _closure(own: Sequence[Module], engine: Sequence[str], source: str | None) -> list[Any]:
    """Return the digests of the plugin's module, the last of `own`, and of all modules behind it, and the
    releases that these use.
    """
    read = _all_read(own, engine, source)
    releases = {
        release
        for one in read.values()
        for release in one.releases
        if release.partition("==")[0] not in LIBRARIES
    }
    return [
        read[own[-1]].digest if own else "",
        sorted({one.digest for one in read.values()}),
        sorted(releases),
    ]


def _all_read(own: Sequence[Module], engine: Sequence[str], source: str | None) -> dict[Module, _Read]:
    read: dict[Module, _Read] = {}
    package = own[0].name.partition(".")[0] if own else ""
    queue = [*own, *(module for name in engine for module in module_named(name))]
    while queue:
        module = queue.pop()
        if module not in read:
            is_text = source is not None and module == own[-1]
            read[module] = (
                _read_ours(module)
                if module.is_ours
                else _read(module, normal_form(source) if is_text else _form(module), package)
            )
            queue += read[module].behind
    return read


def _read(module: Module, form: NormalForm, package: str) -> _Read:
    """Read a module. What it imports from `package`, the plugin's own, is digested even where that is of a
    release.
    """
    behind: list[Module] = []
    releases: set[str] = set()
    said = []
    for together in form.imports:
        names = []
        for one in together:
            loaded, item = module.imported(one)
            followed = [each for each in loaded if _is_followed(each, module, package)]
            behind += followed
            releases |= {name for each in loaded if each not in followed for name in each.releases}
            is_followed = bool(loaded) and loaded[-1] in followed
            names.append(f"{_form(loaded[-1]).deeds} {item} {one.bound}" if is_followed else str(one))
        said.append(sorted(names))
    return _Read(of_value([form.deeds, said]), tuple(behind), frozenset(releases))


@cache
def _read_ours(module: Module) -> _Read:
    return _read(module, _form_of_ours(module), "")


def _is_followed(module: Module, importer: Module, package: str) -> bool:
    if module.folder or module.is_ours or importer.is_ours:
        return not importer.is_ours or module.is_ours
    return not module.is_standard and (module.name.partition(".")[0] == package or not module.releases)


def _form(module: Module) -> NormalForm:
    return _form_of_ours(module) if module.is_ours else _form_on_disk(module)


@cache
def _form_of_ours(module: Module) -> NormalForm:
    return _form_on_disk(module)


def _form_on_disk(module: Module) -> NormalForm:
    """Return the normal form of a module's file; of one that is not Python, the digest of its bytes; nothing
    for a bare folder.
    """
    if not module.origin:
        return NormalForm("")
    content = Path(module.origin).read_bytes()
    try:
        return normal_form(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return NormalForm(digest_of(content))
