"""What tests share: one-line builders of small runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harness.execute import Limits, execute, plan
from harness.pool import Resources, start
from harness.protocol import cells, contenders, protocols
from harness.record import Record, Store

WORLDS = str(Path(__file__).parent / "worlds.py")
BLOBS = f"{WORLDS}:Blobs"

Run = Callable[..., list[Record]]


def world(name: str) -> str:
    """Return the selection of a class in worlds.py."""
    return f"{WORLDS}:{name}"


@pytest.fixture(scope="session")
def warm_ray() -> Iterator[None]:
    """Start Ray once for all tests of a process: every pool joins it, with workers and a monitor of its own."""
    start(Resources(workers=4, object_store_mib=256))
    yield
    import ray

    ray.shutdown()


@pytest.fixture
def tiny_run(tmp_path: Path, warm_ray: None) -> Run:
    """Return a function that runs strategies on blobs through the real pool and store."""

    def run(strategies: Sequence[str], *, scenario: str = BLOBS, seeds: int = 1, workers: int = 2, store: str = "store",
            limits: Limits = Limits(), reverse: bool = False) -> list[Record]:  # fmt: skip  # noqa: B008
        todo = cells(protocols([scenario]), contenders(strategies), seeds)
        opened = Store(str(tmp_path / store))
        planned = plan(todo[::-1] if reverse else todo, opened)
        return execute(planned, opened, experiment="test", resources=Resources(workers=workers, object_store_mib=128), limits=limits)

    return run
