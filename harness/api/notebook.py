"""Classes of a notebook, or of the script that is being run: written to a file of their own, with what they use of
it, so that workers can import them and the command line can run them again.

A class that is the same but for comments and docstrings has the same file, whatever else the notebook says.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import inspect
import linecache
import os
import pickle
import re
import symtable
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from harness.code import public
from harness.code.normal_form import normal_form
from harness.errors import UserError

MAIN = "__main__"
FOLDER = "classes"
"""Where in a store such files lie."""

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_PLAIN = (int, float, complex, str, bytes, bool, type(None), tuple, list, dict, set)


def written_out(cls: type, store: Path) -> Path:
    """Return the file of a class of a notebook, `STORE/classes/DIGEST/name.py`, which is written where it is not
    there.

    Raises:
        UserError: its text is not known, it uses an object that cannot be written out, or the store cannot be
        written.
    """
    text = text_of(cls)
    form = normal_form(text)
    said = [form.deeds, *(str(one) for together in form.imports for one in together)]
    digest = hashlib.sha256("\n".join(said).encode()).hexdigest()
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
    path = store / FOLDER / digest[:12] / f"{name}.py"
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".tmp{os.getpid()}")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {cls.__name__} to {path}: {error.strerror or error}") from error
    return path


def text_of(cls: type) -> str:
    """Return a file that says a class of a notebook and what it uses of it: imports, plain values, functions and
    classes.

    Raises:
        UserError: as `written_out`.
    """
    found = _Text(cls.__name__)
    found.add(cls)
    imports = sorted(found.imports, key=lambda line: (line.startswith("from"), line))
    title = f'"""{cls.__name__}, as it was run from a notebook."""'
    head = "\n".join([title, "", "from __future__ import annotations", "", *imports])
    values = "\n".join(found.values)
    return "\n\n\n".join(filter(None, [f"{head}\n\n{values}".rstrip(), *found.definitions])) + "\n"


@dataclass
class _Text:
    """What the file of the class `title` says so far."""

    title: str
    imports: set[str] = field(default_factory=set)
    values: list[str] = field(default_factory=list)
    definitions: list[str] = field(default_factory=list)
    known: dict[str, Any] = field(default_factory=dict)

    def add(self, made: Any) -> None:
        """Add a class or function of the notebook, after what it uses."""
        self.known[made.__name__] = made
        text = _definition(made, self.title)
        names = _globals_of(made)
        for base in getattr(made, "__bases__", ()):
            if base.__module__ == MAIN and names.get(base.__name__) is not base:
                raise UserError(
                    f"{made.__name__} is made from a {base.__name__} that the notebook no longer has: run its cell anew"
                )
        for name in _used(text):
            if name in names:
                self._add_name(name, names[name])
            elif not hasattr(builtins, name):
                raise UserError(f"{self.title} uses {name}, which the notebook does not define")
        self.definitions.append(text)

    def _add_name(self, name: str, value: Any) -> None:
        if self.known.get(name) is value and name in self.known:
            return
        if name in self.known:
            raise UserError(
                f"{self.title} uses two things called {name}: run the cells that define and use it again"
            )
        own = inspect.unwrap(value) if callable(value) else value
        if isinstance(value, ModuleType) and value.__name__ != MAIN:
            alias = "" if value.__name__ == name else f" as {name}"
            self.imports.add(f"import {value.__name__}{alias}")
        elif isinstance(own, (type, FunctionType)) and own.__module__ == MAIN and own.__name__ == name:
            self.add(own)
        elif _is_plain(value):
            self.values.append(f"{name} = {value!r}")
        elif place := _importable(value, name):
            module, item = place
            self.imports.add(f"from {module} import {item}{'' if item == name else f' as {name}'}")
        else:
            kind = type(value).__name__
            raise UserError(
                f"{self.title} uses {name}, a {kind} of the notebook that a worker does not have: make it in the "
                "class, or let a parameter say it"
            )
        self.known[name] = value


def _definition(made: Any, title: str) -> str:
    """Return the statement at the top of a cell that made a class or function, with its decorators."""
    if made.__qualname__ != made.__name__ or made.__name__ == "<lambda>":
        raise UserError(
            f"{made.__qualname__}{'' if made.__name__ == title else f', which {title} uses,'} is made inside of "
            "something else, where no worker finds it: define it by itself, at the top of a cell"
        )
    codes = [function.__code__ for function in _functions(made)]
    line = codes[0].co_firstlineno if codes else 0
    files = [codes[0].co_filename] if codes else _every_text()
    for file in files:
        lines = linecache.getlines(file)
        for node in reversed(_definitions(lines)):
            first = min(each.lineno for each in (node, *node.decorator_list))
            last = node.end_lineno or first
            if node.name == made.__name__ and (not line or first <= line <= last):
                return "".join(lines[first - 1 : last]).rstrip()
    raise UserError(
        f"the text of {made.__name__} is not known here: write it into a file, in a notebook by %%writefile mine.py "
        f"above it, and name 'mine.py:{made.__name__}', or run one cell here with debug()"
    )


def _functions(made: Any) -> Iterator[FunctionType]:
    """Return the functions that a definition holds: itself, or the methods that stand in the class."""
    if isinstance(made, FunctionType):
        yield made
        return
    for value in vars(made).values():
        function = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
        function = inspect.unwrap(function) if callable(function) else function
        if isinstance(function, FunctionType) and function.__qualname__.startswith(f"{made.__qualname__}."):
            yield function


def _every_text() -> list[str]:
    """Return the names of all cells, the newest first, and of the script that is being run."""
    script = getattr(sys.modules[MAIN], "__file__", None)
    return [
        *(name for name in reversed(linecache.cache) if not Path(name).is_file()),
        *([script] if script else []),
    ]


def _definitions(lines: list[str]) -> list[_Definition]:
    try:
        body = ast.parse("".join(lines)).body
    except (SyntaxError, ValueError):
        return []
    return [node for node in body if isinstance(node, _Definition)]


def _globals_of(made: Any) -> Mapping[str, Any]:
    """Return the names of the notebook, as the class or function sees them."""
    for function in _functions(made):
        return function.__globals__
    return vars(sys.modules[MAIN])


def _used(text: str) -> list[str]:
    """Return the names that a definition takes from around it, in order of their letters; not those that only
    the annotations of its functions say, which nothing evaluates.
    """
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    tables = [symtable.symtable(ast.unparse(tree), "<class>", "exec")]
    names = set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        names |= {
            each.get_name() for each in table.get_symbols() if each.is_global() and each.is_referenced()
        }
    return sorted(names)


def _is_plain(value: Any) -> bool:
    """Say whether a value is a number, a text or a container of these, which its own words make again."""
    if type(value) not in _PLAIN:
        return False
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False


def _importable(value: Any, name: str) -> tuple[str, str] | None:
    """Return the module and the name there by which a worker can import `value`; None where there is none."""
    for item in (getattr(value, "__qualname__", name), getattr(value, "__name__", name), name):
        module = pickle.whichmodule(value, item)  # type: ignore[attr-defined]
        if module != MAIN and getattr(sys.modules.get(module), item, None) is value:
            return (public.NAME if public.homes().get(item) == module else module), item
    return None


__all__ = ["text_of", "written_out"]
