"""Fixtures that tests share, and the order in which files run."""

from __future__ import annotations

import gc
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from runs import BLOBS, Owb, Run, Said

from harness.cli import main
from harness.execution.cluster import start
from harness.execution.execute import Limits, execute, plan
from harness.execution.machine import Machine
from harness.execution.pool import Pool
from harness.execution.probing import Probing
from harness.protocol.cells import cells, contenders, protocols
from harness.store import tracking
from harness.store.mlflow_store import Store
from harness.store.record import Record

gc.disable()  # until all is collected, see below: it would take 7 s of the processor
LONGEST = (
    "test_execute.py",
    "test_isolation.py",
    "test_search.py",
    "test_papers.py",
    "test_conformance.py",
    "test_cli.py",
    "test_faults.py",
    "test_docs.py",
    "test_grokking_claims.py",
    "test_novel_strategies.py",
    "test_workflows.py",
)
"""Files that take a process longest: begun first, so that none is left alone with one of them at the end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shuffle",
        type=int,
        metavar="SEED",
        help="run files, and the tests of a file, in an order drawn by this seed",
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    seed = config.getoption("shuffle")
    if seed is not None:
        terminalreporter.write_line(f"shuffled: --shuffle {seed} for the same order")


def pytest_collection_finish() -> None:
    """Take the objects of all libraries out of what the garbage collector walks: they outlive every test."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first; or shuffle files and the tests in each. All processes of a run draw the
    same order.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    order = sorted(files, key=lambda path: LONGEST.index(path.name) if path.name in LONGEST else len(LONGEST))
    seed = config.getoption("shuffle")
    if seed is not None:
        rng = random.Random(seed)
        rng.shuffle(order)
        for own in files.values():
            rng.shuffle(own)
    items[:] = [item for path in order for item in files[path]]


@pytest.fixture(scope="session", autouse=True)
def one_empty_data_base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Begin every store of this process as a copy of one that MLflow made: making it takes a second."""
    empty = tmp_path_factory.getbasetemp() / "empty" / "mlflow.db"

    def copy(database: Path) -> None:
        tracking.make(empty)
        if not database.is_file() or not database.stat().st_size:
            database.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(empty, part := database.with_name(f"{database.name}.part"))
            part.replace(database)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.store.mlflow_store.make", copy)
        yield


@pytest.fixture
def call_owb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Owb:
    """Return a function that calls `owb` with the given words, in this process."""

    def call(*args: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["owb", *args])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return call


class _Lending(Pool):
    """A pool whose workers, which run no strategy themselves, are left to the next one: they take seconds to
    load their libraries.
    """

    idle: ClassVar[list[tuple[object, Any]]] = []

    def __exit__(self, *error: object) -> None:
        self.idle += [(self._kind(), seat) for seat in self._seats if seat.task is None]
        self._seats = [seat for seat in self._seats if seat.task is not None]
        super().__exit__(*error)

    def _new_seat(self, node: str = "") -> Any:
        for place, (kind, seat) in enumerate(self.idle):
            if kind == self._kind():
                del self.idle[place]
                return seat
        self.dismiss()  # else those of another kind would hold the cores
        return super()._new_seat(node)

    def _kind(self) -> object:
        return (self.machine.threads, self.machine.gpus, tuple(sys.path))

    @classmethod
    def dismiss(cls) -> None:
        import ray

        while cls.idle:
            ray.kill(cls.idle.pop()[1].worker)


@pytest.fixture(scope="session")
def warm_ray() -> Iterator[None]:
    """Start Ray once for all tests of a process; every pool joins it and takes over the workers of the one
    before.
    """
    start(Machine(workers=4, object_store_mib=256))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.execution.execute.Pool", _Lending)
        yield
    import ray

    _Lending.dismiss()
    ray.shutdown()


@pytest.fixture
def tiny_run(tmp_path: Path, warm_ray: None) -> Run:
    """Return a function that runs strategies on blobs through the real pool and store."""

    def run(strategies: Sequence[str], *, scenario: str = BLOBS, seeds: int = 1, workers: int = 2, store: str = "store",
            limits: Limits = Limits(), reverse: bool = False, share: bool = True, again: bool = False, probing: Probing | None = None) -> list[Record]:  # fmt: skip  # noqa: B008
        todo = cells(protocols([scenario]), contenders(strategies), seeds)
        opened = Store(str(tmp_path / store))
        planned = plan(todo[::-1] if reverse else todo, opened, again=again, probing=probing)
        machine = Machine(workers=workers, object_store_mib=128, share=share)
        return execute(planned, opened, experiment="test", machine=machine, limits=limits)

    return run
