"""A notebook without IPython: cells run in a `__main__` of their own, and their text lies where IPython puts it."""

from __future__ import annotations

import ast
import linecache
import sys
from types import ModuleType
from typing import Any

import pytest


class Notebook:
    """Runs cells one after another in one `__main__`, which has no file."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch, self.cells = patch, 0
        self.main = ModuleType("__main__")
        patch.setitem(sys.modules, "__main__", self.main)

    def __call__(self, text: str) -> Any:
        """Run a cell and return the value of the expression that it ends with, None where it ends otherwise."""
        self.cells += 1
        name = f"<cell {id(self)}-{self.cells}>"
        self.patch.setitem(linecache.cache, name, (len(text), None, text.splitlines(keepends=True), name))
        tree = ast.parse(text)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), vars(self.main))
        if not isinstance(last, ast.Expr):
            return None
        return eval(compile(ast.Expression(last.value), name, "eval"), vars(self.main))

    def __getitem__(self, name: str) -> Any:
        return getattr(self.main, name)
