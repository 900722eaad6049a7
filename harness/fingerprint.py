"""Digests of what can change a result: values, and the source code behind a plugin.

Code is digested by its syntax tree without docstrings, together with the project modules it imports, so that a reworded comment keeps
finished cells valid and a changed loss does not. Nothing is imported to find out.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from harness.contracts import Deal

OURS = ("harness", "scenarios", "strategies")
ENGINE = ("harness.run", "harness.sealing")
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
    """Return the digest of what a scenario dealt: labels, rows of every stage, and the facts and inputs that lie in memory."""
    in_memory = {name: values for name, values in deal.facts.items() if isinstance(values, np.ndarray)}
    arrays = {"labels": deal.labels, **{f"facts.{name}": values for name, values in in_memory.items()}}
    for index, stage in enumerate(deal.stages):
        arrays |= {f"{index}.rows": stage.rows, f"{index}.given": stage.given, f"{index}.query": stage.query}
        further = {"watched": stage.watched, "held": stage.held, "held_given": stage.held_given}
        arrays |= {f"{index}.{name}": values for name, values in further.items() if len(values)}
        if stage.told is not None:
            arrays[f"{index}.told"] = np.append(stage.told.rate, stage.told.matrix if stage.told.matrix is not None else [])
    if isinstance(deal.inputs, np.ndarray):
        arrays["inputs"] = deal.inputs
    return of_arrays(arrays)


@cache
def of_code(module: str, source: str | None = None) -> str:
    """Return the digest of a plugin's module (or of `source`, for a plugin by path), what it imports of ours, and the engine."""
    texts: dict[str, str] = {}
    queue = list(ENGINE)
    if source is None:
        queue.append(module)
    else:
        tree = ast.parse(source)
        texts["<by path>"] = _normal(tree)
        queue += _imports(tree)
    while queue:
        name = queue.pop()
        if name in texts:
            continue
        text, imports = _read(name)
        texts[name] = text
        queue += imports
    return of_value(texts)


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


@cache
def _read(module: str) -> tuple[str, tuple[str, ...]]:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.origin:
        return "", ()
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    imports = _imports(tree)
    return _normal(tree), tuple(imports)


def _imports(tree: ast.Module) -> list[str]:
    """Return the modules that `tree` imports, anywhere in it; outside our own packages they count by the version of their library."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.partition(".")[0] in OURS and _is_module(name)]


@cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def _normal(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)
