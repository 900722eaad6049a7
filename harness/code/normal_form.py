"""What a text of Python says, whatever its words, its layout and the names of the modules it imports from."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from harness.code.imports import Import, statements


@dataclass(frozen=True, slots=True)
class NormalForm:
    """deeds: digest of the syntax tree without docstrings, import statements and what type checkers alone
    run.

    imports: what is imported, one tuple for every place in the tree at which import statements stand
    together.
    """

    deeds: str
    imports: tuple[tuple[Import, ...], ...] = ()


@lru_cache(maxsize=4096)
def normal_form(source: str | bytes) -> NormalForm:
    """Return the normal form of `source`; raise `SyntaxError`, `ValueError`, `RecursionError` or
    `MemoryError` where it is not Python.
    """
    tree = ast.parse(source)
    imports: list[tuple[Import, ...]] = []
    _tidy(tree, imports)
    return NormalForm(digest_of(ast.dump(tree)) if tree.body else "", tuple(imports))


def digest_of(content: str | bytes) -> str:
    """Return the SHA-256 of a text or of bytes."""
    return hashlib.sha256(
        content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    ).hexdigest()


def _tidy(node: ast.AST, imports: list[tuple[Import, ...]]) -> None:
    """Bring `node` and the statements in it into normal form, and append what they import to `imports`."""
    for name, value in ast.iter_fields(node):
        if not isinstance(value, list) or not value:
            continue
        if isinstance(value[0], ast.stmt):
            has_words = isinstance(
                node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            ) and _is_text(value[0])
            body = _body(value[1:] if has_words else value, imports)
            setattr(node, name, body if body or isinstance(node, ast.Module) else [ast.Pass()])
            value = body
        if isinstance(value[0] if value else None, (ast.stmt, ast.excepthandler, ast.match_case)):
            for child in value:
                _tidy(child, imports)


def _body(body: Sequence[ast.stmt], imports: list[tuple[Import, ...]]) -> list[ast.stmt]:
    """Return `body` with one mark where import statements stand together, without the branches of type
    checkers.
    """
    ran: list[ast.stmt] = []
    for node in body:
        ran += node.orelse if isinstance(node, ast.If) and _asks_for_type_checker(node.test) else [node]
    kept: list[ast.stmt] = []
    for is_import, nodes in groupby(ran, lambda node: isinstance(node, (ast.Import, ast.ImportFrom))):
        together = list(nodes)
        if is_import:
            imports.append(tuple(statements(together)))
            together = [ast.Expr(ast.Constant("import"))]
        kept += together
    return kept


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _asks_for_type_checker(test: ast.expr) -> bool:
    return (
        test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    ) == "TYPE_CHECKING"


__all__ = ["NormalForm", "digest_of", "normal_form"]
