"""The house keeps its order: imports point one way, only one module prints, one talks to MLflow, one to Ray's
pool, one to Avalanche.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("harness", "scenarios", "strategies", "leaderboards")
# What scenarios and strategies may take from the harness: the contract, and what it is written with.
CONTRACT = {
    "contracts",
    "errors",
    "seeds",
    "selection",
    "syntax",
    "metrics",
    "clustering",
    "parameters",
    "places",
    "stamps",
    "weights",
}


def _modules(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def _imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = _outside_functions(tree) if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _outside_functions(child)


def _tops(path: Path, **options: bool) -> set[str]:
    return {name.partition(".")[0] for name in _imports(path, **options)}


@pytest.mark.parametrize("path", _modules("scenarios", "strategies"), ids=str)
def test_plugins_know_only_the_contract(path: Path) -> None:
    from_harness = {name.split(".")[1] for name in _imports(path) if name.startswith("harness.")}
    assert from_harness <= CONTRACT
    package = path.relative_to(ROOT).parts[0]
    other = {"scenarios": "strategies", "strategies": "scenarios"}[package]
    assert not {other, "leaderboards"} & _tops(path)


@pytest.mark.parametrize("path", [path for path in _modules("harness") if "cli" not in path.parts], ids=str)
def test_the_engine_knows_no_method_and_no_data_set(path: Path) -> None:
    assert not {"scenarios", "strategies", "leaderboards"} & _tops(path)


@pytest.mark.parametrize(
    ("library", "home"),
    [
        ("mlflow", ["record.py"]),
        ("ray", ["cluster.py", "pool.py", "proposing.py", "trying.py", "tuning.py", "worker.py"]),
        ("rich", ["console.py"]),
    ],
)
def test_a_library_has_one_home(library: str, home: list[str]) -> None:
    users = [path.name for path in _modules(*PACKAGES) if library in _tops(path)]
    assert sorted(users) == home


def test_avalanche_is_imported_in_its_adapter_only() -> None:
    users = {path.parent.name for path in _modules(*PACKAGES) if "avalanche" in _tops(path)}
    assert users <= {"avalanche_adapter"}


@pytest.mark.parametrize("path", [path for path in _modules(*PACKAGES) if path.name != "console.py"], ids=str)
def test_only_the_console_prints(path: Path) -> None:
    calls = [
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert "print" not in calls


@pytest.mark.parametrize("path", _modules("harness/statistics", "leaderboards"), ids=str)
def test_statistics_and_boards_never_import_torch(path: Path) -> None:
    assert "torch" not in _tops(path)


def test_the_command_line_starts_without_anything_heavy() -> None:
    code = (
        "import sys; from harness.cli.app import app; from harness.plugins import summaries; "
        "[summaries(kind) for kind in ('strategy', 'scenario', 'dataset')]; "
        "print(sorted({'torch', 'ray', 'mlflow', 'faiss', 'timm', 'avalanche', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
