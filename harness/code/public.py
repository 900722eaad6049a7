"""The names of the package `openworld`, the public face of the project, and the modules that they lie in.

They are written once, where type checkers read them: among the imports of openworld/__init__.py that are for these
alone. What is there imported as a whole has the names of that module's `__all__`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

NAME = "openworld"
EVERYTHING = "harness.api.running"
"""What stands for the package as a whole, where code imports it and not a name of it."""

_ROOT = Path(__file__).parents[2]


@cache
def homes() -> Mapping[str, str]:
    """Return the module of every name."""
    (block,) = (node for node in _statements(f"{NAME}/__init__.py") if isinstance(node, ast.If))
    found: dict[str, str] = {}
    for node in block.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [alias.name for alias in node.names]
            found |= dict.fromkeys(_every_name(node.module) if names == ["*"] else names, node.module)
    return MappingProxyType(dict(sorted(found.items())))


def _every_name(module: str) -> list[str]:
    for node in _statements(f"{module.replace('.', '/')}.py"):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise LookupError(f"{module} has no __all__")


def _statements(file: str) -> list[ast.stmt]:
    return ast.parse((_ROOT / file).read_text(encoding="utf-8")).body


__all__ = ["EVERYTHING", "NAME", "homes"]
