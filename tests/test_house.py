"""The house keeps its order: what a room may import, where a library lives, who prints, and which names are
private. A rule is one test; its message lists every line that breaks it.

The rooms are computed from paths: what lies loose in `harness/`, in `harness/metrics` and in `harness/probes` is the
surface, all that scenarios and strategies may use; every other folder is a room by its name.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from checkout import ROOT

PACKAGES = ("harness", "scenarios", "strategies", "leaderboards")
SURFACE = "surface"
HARNESS = (
    "code",
    SURFACE,
    "statistics",
    "cell",
    "protocol",
    "store",
    "processes",
    "execution",
    "checks",
    "sandbox",
    "results",
    "studies",
    "api",
    "cli",
)
"""The rooms of the harness: a file imports from its own room and from those before it."""
SHARED = {
    "scenarios": {"shared", "datasets", "model_selection"},
    "strategies": {"ood_scores", "toolkit", "assignment", "components"},
    "leaderboards": {"publishing"},
}
"""The rooms that all others of a package may import; its `cli` may import each of them."""
HOMES = {
    "mlflow": ("harness/store/",),
    "ray": ("harness/execution/", "harness/studies/search/"),
    "rich": ("harness/cli/console.py",),
    "avalanche": ("strategies/avalanche_adapter/",),
}
WITHOUT_TORCH = ("harness/statistics/", "harness/results/", "leaderboards/")
CONSOLE = "harness/cli/console.py"
MOST_LOOSE_FILES, MOST_LINES_OF_THE_TOOLKIT, MOST_LONG_LINES, MOST_UNFORMATTED = 14, 4300, 50, 20


class Import(NamedTuple):
    """A name that a file takes from a module, `name` empty where it takes the module itself."""

    line: int
    module: str
    name: str

    @property
    def full(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module


@cache
def _files(*folders: str) -> tuple[str, ...]:
    return tuple(
        sorted(
            path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*.py")
        )
    )


@cache
def _nodes(file: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))))


@cache
def _imports(file: str) -> tuple[Import, ...]:
    return tuple(_each_import(file))


def _each_import(file: str) -> Iterator[Import]:
    for node in _nodes(file):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = Path(file).parts[: -node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (Import(node.lineno, module, alias.name) for alias in node.names)


@cache
def _file_of(name: str) -> str:
    """Return the file that a dotted name lies in, '' where it is none of ours."""
    while name.partition(".")[0] in PACKAGES:
        path = name.replace(".", "/")
        for file in (f"{path}.py", f"{path}/__init__.py"):
            if (ROOT / file).is_file():
                return file
        name = name.rpartition(".")[0]
    return ""


def _own_imports(*folders: str) -> Iterator[tuple[str, str, str]]:
    """Yield (file, file that it imports, what to say about it)."""
    for file in _files(*folders):
        for taken in _imports(file):
            other = _file_of(taken.full)
            if other and other != file:
                yield file, other, f"{file}:{taken.line} imports {taken.full}"


def _room(file: str) -> tuple[str, str]:
    """Return the package of a file and its room: the first folder below the package."""
    package, *rest = Path(file).parts
    room = rest[0] if len(rest) > 1 else ""
    return package, SURFACE if package == "harness" and room in ("", "metrics", "probes") else room


def _holds(broken: Iterable[str]) -> None:
    lines = sorted(set(broken))
    assert not lines, "\n" + "\n".join(lines)


def _circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one node (Tarjan, SIAM J. Comput. 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        stack.append(node)
        for other in sorted(arrows.get(node, ())):
            if other not in number:
                visit(other)
            if other in stack:
                lowest[node] = min(lowest[node], lowest[other])
        if lowest[node] == number[node]:
            place = stack.index(node)
            found.append(sorted(stack[place:]))
            del stack[place:]

    for node in sorted(arrows):
        if node not in number:
            visit(node)
    return [nodes for nodes in found if len(nodes) > 1]


# --- who may import whom ------------------------------------------------------------------------------------


def test_the_harness_knows_no_scenario_no_strategy_and_no_board() -> None:
    _holds(said for _, other, said in _own_imports("harness") if _room(other)[0] != "harness")


def test_plugins_know_the_surface_and_their_own_package() -> None:
    def allowed(file: str, other: str) -> bool:
        package, room = _room(file)
        return (
            _room(other)[0] == package
            or _room(other) == ("harness", SURFACE)
            or (room == "cli" and _room(other) == ("harness", "cli"))
        )

    _holds(said for file, other, said in _own_imports("scenarios", "strategies") if not allowed(file, other))


def test_families_and_rooms_of_a_package_know_only_what_they_share() -> None:
    def allowed(file: str, other: str) -> bool:
        (package, room), (its_package, its_room) = _room(file), _room(other)
        return (
            package != its_package
            or room == its_room
            or its_room in SHARED[package]
            or (room == "cli" and room not in SHARED[package])
        )

    _holds(said for file, other, said in _own_imports(*SHARED) if not allowed(file, other))


def test_what_families_share_lies_in_floors_below_them() -> None:
    """OOD scores, above them the toolkit, above it assignments, then components."""
    floors = ["ood_scores", "toolkit", "assignment", "components"]
    _holds(
        said
        for file, other, said in _own_imports(*(f"strategies/{room}" for room in floors))
        if _room(other)[0] == "strategies"
        and _room(other)[1] not in floors[: floors.index(_room(file)[1]) + 1]
    )


def test_rooms_of_the_harness_import_downwards() -> None:
    broken = []
    for file, other, said in _own_imports("harness"):
        room, its_room = _room(file)[1], _room(other)[1]
        if _room(other)[0] == "harness" and HARNESS.index(its_room) > HARNESS.index(room):
            broken.append(f"{said}: {room} may not import {its_room}")
    _holds(broken)


def test_scripts_that_no_test_runs_import_what_is_there() -> None:
    """Benchmarks, and what draws the pictures of the docs."""
    _holds(
        f"{file}:{taken.line} imports {taken.full}, which is not there"
        for file in _files("benchmarks", "docs")
        for taken in _imports(file)
        if taken.module.partition(".")[0] in PACKAGES and taken.name and not _has(taken.module, taken.name)
    )


def _has(module: str, name: str) -> bool:
    """Say whether a module of ours has a submodule of this name, or says the name at its top."""
    file = _file_of(module)
    if _file_of(f"{module}.{name}") != file:
        return True
    said = {
        made
        for node in _nodes(file)
        for made in (
            [node.name]
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))
            else [node.id]
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            else [alias.asname or alias.name for alias in node.names]
            if isinstance(node, (ast.Import, ast.ImportFrom))
            else []
        )
    }
    return name in said


def test_no_file_imports_in_a_circle() -> None:
    arrows: dict[str, set[str]] = {}
    for file, other, _ in _own_imports(*PACKAGES):
        arrows.setdefault(file, set()).add(other)
    _holds(" <-> ".join(circle) for circle in _circles(arrows))


def test_no_folder_imports_in_a_circle() -> None:
    arrows: dict[str, set[str]] = {}
    lines: dict[tuple[str, str], str] = {}
    for file, other, said in _own_imports(*PACKAGES):
        here, there = (str(Path(name).parent) for name in (file, other))
        if here != there:
            arrows.setdefault(here, set()).add(there)
            lines[here, there] = said
    _holds(
        " <-> ".join(circle)
        + "".join(f"\n    {said}" for ends, said in lines.items() if set(ends) <= set(circle))
        for circle in _circles(arrows)
    )


def test_circles_are_found_and_chains_are_none() -> None:
    chain = {"a": {"b", "c"}, "b": {"c"}, "c": {"d"}}
    assert _circles(chain) == []
    assert _circles({**chain, "d": {"b"}}) == [["b", "c", "d"]]
    assert _circles({**chain, "e": {"f"}, "f": {"e"}, "d": {"e"}}) == [["e", "f"]]


def test_the_command_line_is_imported_by_command_lines() -> None:
    _holds(
        said
        for file, other, said in _own_imports(*PACKAGES)
        if _room(other) == ("harness", "cli") and _room(file)[1] != "cli"
    )


def test_a_toolkit_file_has_two_families_that_use_it() -> None:
    """Used by two families, named by an entry point (any protocol may name it then), or imported by a toolkit
    file that is.
    """
    points = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    shared = {_file_of(target.replace(":", ".")) for group in points.values() for target in group.values()}
    users: dict[str, set[str]] = {}
    for file, other, _ in _own_imports("strategies"):
        users.setdefault(other, set()).add(file if _room(file)[1] == "toolkit" else _room(file)[1])
    toolkit = {file for file in _files("strategies/toolkit") if not file.endswith("__init__.py")}
    shared |= {file for file in users if len({_ for _ in users[file] if not _.endswith(".py")}) > 1}
    while True:
        more = {file for file in users if users[file] & shared} - shared
        if not more:
            break
        shared |= more
    _holds(
        f"{file} is used by {', '.join(sorted(users.get(file, ()))) or 'nobody'}" for file in toolkit - shared
    )


def test_few_files_lie_loose_in_the_harness() -> None:
    loose = [file for file in _files("harness") if Path(file).parts[1:] == (Path(file).name,)]
    assert len(loose) <= MOST_LOOSE_FILES, loose


def test_the_toolkit_stays_small_and_the_formatter_decides() -> None:
    def lines(*folders: str) -> list[str]:
        return [
            line
            for file in _files(*folders)
            for line in (ROOT / file).read_text(encoding="utf-8").splitlines()
        ]

    everything = lines(
        "benchmarks", "harness", "leaderboards", "openworld", "scenarios", "strategies", "tests"
    )
    assert len(lines("strategies/toolkit")) <= MOST_LINES_OF_THE_TOOLKIT
    assert sum(len(line) > 120 for line in everything) <= MOST_LONG_LINES
    assert sum("# fmt: " + "skip" in line for line in everything) <= MOST_UNFORMATTED


# --- libraries ----------------------------------------------------------------------------------------------


def test_a_library_has_one_home() -> None:
    _holds(
        f"{file}:{taken.line} imports {taken.full}"
        for file in _files(*PACKAGES)
        for taken in _imports(file)
        if not file.startswith(HOMES.get(taken.module.partition(".")[0], ""))
    )


def test_statistics_results_and_boards_never_import_torch() -> None:
    _holds(
        f"{file}:{taken.line} imports {taken.full}"
        for file in _files(*PACKAGES)
        for taken in _imports(file)
        if file.startswith(WITHOUT_TORCH) and taken.module.partition(".")[0] == "torch"
    )


def test_only_the_console_prints() -> None:
    _holds(
        f"{file}:{node.lineno} calls {ast.unparse(node.func)}"
        for file in _files(*PACKAGES)
        for node in _nodes(file)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("print", "typer.echo", "sys.stdout.write", "sys.stderr.write")
        and file != CONSOLE
    )


def test_the_command_line_starts_without_anything_heavy() -> None:
    code = (
        "import sys; from harness.cli.app import app; from harness.plugins import PLURAL, summaries; "
        "[summaries(kind) for kind in PLURAL]; "
        "print(sorted({'torch', 'ray', 'mlflow', 'faiss', 'timm', 'avalanche', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- names --------------------------------------------------------------------------------------------------


def _private(name: str) -> bool:
    """Whether a name is private: not `_` or `__name__`, not what named tuples of Python call their own, and not
    what notebooks call, such as `_repr_html_`.
    """
    if name[:2] == "__" or name.strip("_") == "" or name.endswith("_"):
        return False
    return name.startswith("_") and not hasattr(Import, name)


@cache
def _private_names(file: str) -> frozenset[str]:
    """Return the private names that a file gives: functions, classes, variables, attributes of `self`."""
    names = set()
    for node in _nodes(file):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return frozenset(name for name in names if _private(name))


def _used_private_names(file: str) -> Iterator[tuple[int, str]]:
    """Yield the line and name of private names that a file imports, takes from an object or module other than
    `self`, or writes as text for `setattr` and the like, alone or at the end of a dotted name.
    """
    for taken in _imports(file):
        if _file_of(taken.module) or "." not in taken.module:
            yield taken.line, taken.name
    for node in _nodes(file):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and _private(node.attr):
            if ast.unparse(node.value) not in ("self", "cls", "super()"):
                yield node.lineno, node.attr
        elif (
            isinstance(node, ast.Call)
            and getattr(node.func, "attr", getattr(node.func, "id", ""))[-4:] == "attr"
        ):
            texts = [each.value for each in node.args if isinstance(each, ast.Constant)]
            yield from ((node.lineno, text.rpartition(".")[2]) for text in texts if isinstance(text, str))


def test_no_private_name_leaves_its_folder() -> None:
    """Code of one folder uses none of another's; tests and benchmarks use none of the code's."""
    packages, around = _files(*PACKAGES), _files("tests", "benchmarks")
    homes: dict[str, set[str]] = {}
    for file in (*packages, *_files("tests/support")):
        for name in _private_names(file):
            homes.setdefault(name, set()).add(str(Path(file).parent))
    _holds(
        f"{file}:{line} uses {name} of {', '.join(sorted(homes[name]))}"
        for file in (*packages, *around)
        for line, name in _used_private_names(file)
        if _private(name)
        and name in homes
        and str(Path(file).parent) not in homes[name]
        and name not in _private_names(file)
    )


def test_what_differs_between_scenarios_is_a_method_of_theirs() -> None:
    """Outside `scenarios/`, nobody asks whether an object is of a class that lies there."""
    broken = []
    for file in _files(*PACKAGES):
        theirs = {taken.name for taken in _imports(file) if taken.module.startswith("scenarios")}
        for node in _nodes(file):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("isinstance", "issubclass")
                and theirs & {each.id for each in ast.walk(node.args[1]) if isinstance(each, ast.Name)}
                and not file.startswith("scenarios/")
            ):
                broken.append(f"{file}:{node.lineno} asks {ast.unparse(node)}")
    _holds(broken)


# --- tests --------------------------------------------------------------------------------------------------


def test_tests_import_no_other_test() -> None:
    """What tests share lies in tests/support."""
    modules = {Path(file).stem for file in _files("tests") if Path(file).name.startswith("test_")}
    _holds(
        f"{file}:{taken.line} imports {taken.module}"
        for file in _files("tests")
        for taken in _imports(file)
        if taken.module in modules
    )
