"""Several drivers on one store: they split the cells, and run none twice, whichever of them ends or freezes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from runs import BLOBS, Owb, world

from harness.contracts import Status
from harness.execution.execute import Limits, Update, execute, plan
from harness.execution.machine import Machine
from harness.protocol.cells import Cell, cells, contenders, protocols
from harness.store.leases import Leases, roster_of
from harness.store.mlflow_store import Store
from harness.store.record import INTERRUPTED, Ending, Record
from harness.store.report import Report
from harness.store.watching import Look, Watching

STAGES = 3


def _todo(folder: Path, seeds: int, pause: float = 0.1) -> list[Cell]:
    return cells(protocols([BLOBS]), contenders([_announces(folder, pause)]), seeds)


def _announces(folder: Path, pause: float) -> str:
    return f"{world('Announces')}[mark={folder / 'mark'},pause={pause}]"


def _begun(folder: Path) -> int:
    """Return how many stages were begun, by all drivers together."""
    mark = folder / "mark"
    return len(mark.read_text().splitlines()) if mark.is_file() else 0


def _run(todo: Sequence[Cell], where: Path | str, *, again: bool = False, **options: Any) -> list[Record]:
    """Run cells on the store in a folder, or on a server."""
    store = Store(str(where / "store") if isinstance(where, Path) else where)
    machine = Machine(workers=1, object_store_mib=128)
    planned = plan(todo, store, again=again)
    return execute(planned, store, experiment="test", machine=machine, limits=Limits(), **options)


def _ends(store: Store, experiment: str, key: str = "") -> list[str]:
    """Return how every record of an experiment, or of a cell in it, ended, oldest first."""
    runs = store.search(f"tags.`owb.key` LIKE '{key}%'", experiment)
    return [run.data.tags["owb.status"] for run in runs]


def _wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 200
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.usefixtures("warm_ray")
def test_two_drivers_split_the_cells_and_each_returns_all_of_them(tmp_path: Path) -> None:
    heard: list[list[Update]] = [[], []]
    todo = _todo(tmp_path, 6)
    _ = Store(str(tmp_path / "store")).client
    with ThreadPoolExecutor(2) as both:
        runs = [both.submit(_run, todo, tmp_path, listen=updates.append) for updates in heard]
        mine, others = (run.result() for run in runs)
    assert [(record.key, record.run_id, record.digest) for record in mine] == [
        (record.key, record.run_id, record.digest) for record in others
    ]
    assert [record.key for record in mine] == [cell.key for cell in todo]
    assert _begun(tmp_path) == STAGES * len(todo), "no stage was learned twice"
    ends = [Counter(update.status for update in updates) for updates in heard]
    assert ends[0][Status.DONE] + ends[1][Status.DONE] == len(todo)
    assert all(end[Status.DONE] and end[Status.DONE] + end[Status.CACHED] == len(todo) for end in ends)
    alone = _run(_todo(tmp_path / "alone", 6, 0), tmp_path / "alone")
    assert [record.digest for record in mine] == [record.digest for record in alone]


class _Other:
    """Another driver, which has a cell and ends it as it is told."""

    def __init__(self, folder: Path, cell: Cell) -> None:
        self.store, self.cell = Store(str(folder / "store")), cell
        self.leases = Leases(roster_of(self.store)).__enter__()
        assert self.leases.claim([cell.key])
        self.run_id = self.store.begin(cell, experiment="test", environment={})

    def end(self, status: Status, reason: str) -> None:
        self.store.end(self.run_id, Ending(status=status, reason=reason))
        self.leases.release([self.cell.key])
        self.leases.__exit__()


@pytest.mark.usefixtures("warm_ray")
@pytest.mark.parametrize(
    ("status", "reason", "is_taken_over"),
    [
        (Status.DIVERGED, "", True),
        (Status.TIMEOUT, "longer than 1 s", True),
        (Status.FAILED, INTERRUPTED, False),
    ],
)
def test_a_cell_that_another_driver_has_comes_last_and_ends_as_it_does_there(
    status: Status, reason: str, is_taken_over: bool, tmp_path: Path
) -> None:
    todo = _todo(tmp_path, 2, 0)
    other = _Other(tmp_path, todo[0])
    heard: list[Update] = []
    met: list[Sequence[tuple[str, int]]] = []
    with ThreadPoolExecutor(1) as beside:
        run = beside.submit(_run, todo, tmp_path, listen=heard.append, meet=met.append)
        _wait_for(lambda: met and heard and heard[-1].status is Status.DONE)
        assert {update.cell.key for update in heard} == {todo[1].key}
        ((name, count),) = met[0]
        assert name.endswith(
            f"process {os.getpid()}, since {time.strftime('%H:%M', time.localtime(other.leases.since))}"
        )
        assert count == 1 and not run.done()
        other.end(status, reason)
        first, second = run.result()
    assert (first.status, first.run_id == other.run_id) == (
        (status, True) if is_taken_over else (Status.DONE, False)
    )
    assert second.status is Status.DONE
    assert met[-1] == []


@pytest.mark.usefixtures("warm_ray")
def test_whoever_watches_sees_what_a_driver_runs_how_far_it_is_and_for_whom_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = _todo(tmp_path, 2, 1.3)  # a stage, in which a driver says at least once how it stands
    monkeypatch.setattr(Leases, "beat_s", 0.1)
    other = _Other(tmp_path, todo[0])
    other.leases.say(Report(waiting=0))
    watching = Watching(Store(str(tmp_path / "store"), sends=False))
    with ThreadPoolExecutor(1) as beside:
        run = beside.submit(_run, todo, tmp_path)
        looks = [watching.look()]
        while looks[-1].counts != {"done": 1} or not _awaited(looks[-1]) or looks[-1].waiting:
            time.sleep(0.05)
            looks.append(watching.look())
        other.end(Status.DIVERGED, "")
        run.result()
    waiting = [look.waiting for look in looks if look.waiting is not None and len(look.drivers) > 1]
    assert (waiting[0], waiting[-1]) == (2, 0)
    assert waiting == sorted(waiting, reverse=True)
    far = [each for look in looks for each in look.running if each.progress]
    assert {each.record.key for each in far} == {cell.key for cell in todo[1:]}
    assert all(each.driver and each.driver.name != other.leases.name for each in far)
    said = [each.progress for each in far if each.record.key == todo[1].key]
    assert {each.stages for each in said if each} == {STAGES}
    learned = [each.learned for each in said if each]
    assert learned == sorted(learned) and len({*learned}) > 1
    assert _awaited(looks[-1]) == {other.leases.name: 1}
    assert watching.look().counts == {"done": 1, "diverged": 1}


def _awaited(look: Look) -> dict[str, int]:
    reports = [each.driver.report for each in look.drivers if each.driver.report]
    return {name: count for report in reports for name, count in report.elsewhere.items()}


@pytest.mark.usefixtures("warm_ray")
def test_a_cell_lost_to_another_driver_is_not_recorded_and_runs_here_once_that_one_gives_up(
    tmp_path: Path,
) -> None:
    """This driver is struck in mid-cell, as one that was frozen is; the other one takes its cell."""
    todo = _todo(tmp_path, 1, 0.5)
    store = Store(str(tmp_path / "store"))
    with ThreadPoolExecutor(1) as beside:
        run = beside.submit(_run, todo, tmp_path)
        _wait_for(lambda: _begun(tmp_path))
        with Leases(roster_of(store)) as other:
            (name,) = other.others
            assert other.roster.strike(name)
            other.look()
            assert other.claim([todo[0].key])
            (orphan,) = store.running()
            store.mark_orphan_failed(orphan.run_id)
            _wait_for(lambda: _begun(tmp_path) == STAGES)
            time.sleep(1)  # the cell ends there, and is not recorded
            assert store.newest(todo[0].key).status is Status.FAILED  # type: ignore[union-attr]
            assert not run.done()
        (record,) = run.result()
    assert _ends(store, "test") == [Status.FAILED, Status.DONE]
    assert record.status is Status.DONE and record.run_id != orphan.run_id


@pytest.mark.usefixtures("warm_ray")
def test_a_running_record_that_nobody_works_on_is_marked_and_one_that_a_driver_has_is_not(
    tmp_path: Path,
) -> None:
    todo = _todo(tmp_path, 3, 0)
    other, gone = _Other(tmp_path, todo[0]), _Other(tmp_path, todo[1])
    gone.leases.__exit__()
    _run(todo[1:], tmp_path)
    store = Store(str(tmp_path / "store"))
    assert [record.run_id for record in store.running()] == [other.run_id]
    assert _ends(store, "test", todo[1].key) == [Status.FAILED, Status.DONE]
    other.end(Status.FAILED, INTERRUPTED)


@pytest.mark.usefixtures("warm_ray")
def test_run_again_takes_no_record_of_others_and_leaves_their_cells_alone(tmp_path: Path) -> None:
    todo = _todo(tmp_path, 2, 0)
    before = _run(todo, tmp_path)
    other = _Other(tmp_path, todo[0])
    kept = tmp_path / "store" / "cells" / todo[0].key / "state"
    kept.parent.mkdir(parents=True)
    kept.write_text("of the other driver")
    met: list[Sequence[tuple[str, int]]] = []
    with ThreadPoolExecutor(1) as beside:
        run = beside.submit(_run, todo, tmp_path, again=True, meet=met.append)
        _wait_for(lambda: met)
        assert kept.is_file()
        other.end(Status.DIVERGED, "")
        after = run.result()
    assert not kept.is_file()
    assert [record.digest for record in after] == [record.digest for record in before]
    assert not {record.run_id for record in after} & {record.run_id for record in before}


def test_forget_waits_for_no_run_and_says_who_is_at_work(tmp_path: Path, call_owb: Owb) -> None:
    todo = _todo(tmp_path, 1)
    other = _Other(tmp_path, todo[0])
    other.store.end(other.run_id, Ending(status=Status.DIVERGED))
    command = ("forget", "test", "--yes", "--store", str(tmp_path / "store"))
    said = call_owb(*command)
    assert said.code == 2 and f"process {os.getpid()}" in said.err and "wait for it" in said.err
    assert other.store.experiments() == ["test"]
    other.leases.__exit__()
    assert call_owb(*command).code == 0
    assert other.store.experiments() == []


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """Run a tracking server; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "2"),
        *(
            "--backend-store-uri",
            f"sqlite:///{folder}/server.db",
            "--artifacts-destination",
            str(folder / "files"),
        ),
    ]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(lambda: _answers(port) or process.poll() is not None)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int) -> bool:
    with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
        return True
    return False


@pytest.mark.slow
@pytest.mark.usefixtures("warm_ray")
def test_two_drivers_split_the_cells_of_a_tracking_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    todo = _todo(tmp_path, 4)
    with _server(tmp_path) as uri:
        with ThreadPoolExecutor(2) as both:
            runs = [both.submit(_run, todo, uri) for _ in range(2)]
            mine, others = (run.result() for run in runs)
        assert _ends(Store(uri), "test") == [Status.DONE] * len(todo)
        assert roster_of(Store(uri)).read().drivers == {}
    assert [(record.run_id, record.digest) for record in mine] == [
        (record.run_id, record.digest) for record in others
    ]
    assert _begun(tmp_path) == STAGES * len(todo), "no stage was learned twice"


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_of_two_commands_the_second_takes_what_the_first_had_when_it_was_killed(
    end: signal.Signals, tmp_path: Path, call_owb: Owb
) -> None:
    seeds = 6
    command = [
        *("run", _announces(tmp_path, 0.5), "-s", BLOBS, "-n", str(seeds), "--no-bounds", "--workers", "1"),
        *("--store", str(tmp_path / "store"), "--json"),
    ]
    owb = [sys.executable, "-c", "from harness.cli import main; main()"]
    first = subprocess.Popen([*owb, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _wait_for(lambda: _begun(tmp_path))

    def kill() -> None:
        _wait_for(
            lambda: len({line.split()[0] for line in (tmp_path / "mark").read_text().splitlines()}) >= 4
        )
        first.send_signal(end)

    killing = threading.Thread(target=kill)
    killing.start()
    said = call_owb(*command)
    killing.join()
    first.wait(timeout=60)
    assert said.code == 0, said.err
    records = Store(str(tmp_path / "store")).records()
    assert [record.status for record in records] == [Status.DONE] * seeds
    alone = _run(_todo(tmp_path / "alone", seeds, 0), tmp_path / "alone")
    assert {record.seed: record.digest for record in records} == {
        record.seed: record.digest for record in alone
    }
    every = _ends(Store(str(tmp_path / "store")), "runs")
    assert every.count(Status.DONE) == seeds, "no cell was recorded twice"
    assert roster_of(Store(str(tmp_path / "store"))).read().drivers == {}
