"""What a pool of many workers asks of Ray, on a fake of it with a clock of its own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import ray
from runs import BLOBS, world
from simulated_ray import Simulation

from harness.contracts import Status
from harness.execution.execute import Limits, execute, plan
from harness.execution.machine import Machine
from harness.processes.cell import throttled
from harness.protocol.cells import cells, contenders, protocols
from harness.store.mlflow_store import Store


def _run(simulation: Simulation, seeds: int, folder: Path) -> None:
    todo, store = cells(protocols([BLOBS]), contenders([world("Means")]), seeds), Store(str(folder))
    machine = Machine(address="10.0.0.0:6379")
    records = execute(plan(todo, store), store, experiment="test", machine=machine, limits=Limits())
    assert [record.status for record in records] == [Status.DONE] * seeds
    assert len(simulation.begun) == seeds


def test_a_look_at_all_workers_is_one_question_however_many_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question costs the driver 20 us of the processor: with one a worker, a look at 512 of them took 10 ms."""
    simulation = Simulation(4, 2, cell_s=6.0)
    looks, questions = [], []
    with simulation, monkeypatch.context() as patch:  # undone before the simulation ends
        wait = ray.wait

        def counted(what: Any, **options: Any) -> Any:
            (looks if options["timeout"] else questions).append(len(what))
            return wait(what, **options)

        patch.setattr(ray, "wait", counted)
        _run(simulation, 8, tmp_path)
    assert max(looks) >= 8
    about_nodes = 2 * simulation.size
    assert len(questions) <= len(looks) + simulation.messages + about_nodes


def test_the_more_workers_there_are_the_rarer_each_says_how_far_it_is(tmp_path: Path) -> None:
    for size, every_s in ((4, 0.5), (64, 4.0)):
        simulation = Simulation(size, 8, cell_s=6.0)
        with simulation:
            _run(simulation, 1, tmp_path / str(size))
        assert simulation.progress_s == {every_s}
    for every_s, steps in ((time.monotonic() / 2, [1]), (0.0, [1, 2, 3])):
        link = _Link()
        report = throttled("key", link, every_s)  # type: ignore[arg-type]
        for step in (1, 2, 3):
            report(0, step, 3, {})
        assert [message.step for message in link.sent] == steps


def test_a_node_whose_disk_is_full_is_left_out_and_costs_no_cell_an_attempt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    simulation = Simulation(3, 2, cell_s=2.0, full={1, 2})
    with simulation:
        _run(simulation, 8, tmp_path)
    said = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    mend = "its disk is full: make room or mend it; its cells run again elsewhere"
    assert sorted(said) == [f"node node-{k} (10.0.0.{k}) is left out: {mend}" for k in (1, 2)]


class _Link:
    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)
