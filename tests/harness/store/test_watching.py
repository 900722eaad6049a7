"""What is seen of the runs on a store by whoever looks on, and that nothing is changed by it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from runs import BLOBS, world
from tracking_server import TrackingServer

from harness.contracts import Status
from harness.errors import UserError
from harness.protocol.cells import Cell, cells, contenders, protocols
from harness.store.entries import FAILED, Addition, Start
from harness.store.leases import Leases
from harness.store.mlflow_store import Store
from harness.store.outbox import Outbox
from harness.store.record import Ending
from harness.store.report import Progress, Report, read_report
from harness.store.roster import Driver, FolderRoster, Roster, RunRoster
from harness.store.watching import Watching

Stores = Callable[[], Store]


@pytest.fixture
def todo() -> list[Cell]:
    """Return six cells."""
    return cells(protocols([BLOBS]), contenders([world("Means")]), 6)


@pytest.fixture(params=["folder", "MLflow"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Stores, Roster]:
    """Return what opens a store to look on, and its roster: in a folder, and by MLflow's interface as on a server."""
    folder = tmp_path / "store"
    client = Store(str(folder)).client

    def opened() -> Store:
        store = Store(str(folder), sends=False)
        store.is_local = request.param == "folder"
        return store

    return opened, FolderRoster(folder, 30) if request.param == "folder" else RunRoster(client)


def _bytes(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return the bytes of every file below a folder, and when it was written."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def _wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_who_works_what_runs_and_how_others_ended_is_seen_and_nothing_is_written(
    tmp_path: Path, place: tuple[Stores, Roster], todo: list[Cell]
) -> None:
    opened, roster = place
    writes = Store(str(tmp_path / "store"))
    with ExitStack() as both:
        first, second = (both.enter_context(Leases(roster)) for _ in range(2))
        first.claim([todo[0].key])
        second.claim([todo[1].key])
        runs = [writes.begin(cell, experiment="test", environment={}) for cell in todo[:5]]
        writes.end(runs[2], Ending(status=Status.DONE))
        writes.end(runs[3], Ending(status=Status.TIMEOUT, reason="longer than 1 s"))
        far = Progress(learned=1, stages=3, share=0.25)
        first.say(Report(waiting=4, elsewhere={second.name: 1}, progress={todo[0].key: far}))
        second.say(Report(waiting=1))
        _wait_for(lambda: all(driver.report for driver in roster.read().drivers.values()))

        before = _bytes(tmp_path)
        watching = Watching(opened())
        look = watching.look()
        assert _bytes(tmp_path) == before
    assert {each.driver.name for each in look.drivers} == {first.name, second.name}
    assert not any(each.is_gone for each in look.drivers)
    seen = {each.record.key: (each.driver and each.driver.name, each.progress) for each in look.running}
    assert seen == {
        todo[0].key: (first.name, far),
        todo[1].key: (second.name, None),
        todo[4].key: (None, None),
    }
    assert look.counts == {"done": 1, "timeout": 1}
    assert [(record.key, record.reason) for record in look.failures] == [(todo[3].key, "longer than 1 s")]
    assert look.waiting == 5
    minutes = max(1.0, look.at - min(first.since, second.since)) / 60
    assert math.isclose(look.per_minute, 2 / minutes)
    assert math.isclose(look.left_s, 60 * (5 + 3) / look.per_minute)
    content = look.content()
    by_name = {each["name"]: each for each in content["drivers"]}
    assert by_name[first.name]["elsewhere"] == {second.name: 1}
    assert [by_name[each.name]["waiting"] for each in (first, second)] == [4, 1]

    writes.end(runs[0], Ending(status=Status.DIVERGED))
    later = watching.look()
    assert later.drivers == [], "who leaves is on the roster no more, and neither is the report"
    assert later.counts == {"done": 1, "timeout": 1, "diverged": 1}
    assert later.since == look.since
    assert len(later.failures) == 1, "an end that follows from the cell alone is no failure"


def test_a_cell_that_runs_anew_counts_as_running_alone(tmp_path: Path, todo: list[Cell]) -> None:
    store = Store(str(tmp_path / "store"))
    watching = Watching(Store(str(tmp_path / "store"), sends=False))
    store.end(store.begin(todo[0], experiment="test", environment={}), Ending(status=Status.FAILED))
    assert watching.look().counts == {"failed": 1}
    run = store.begin(todo[0], experiment="test", environment={})
    look = watching.look()
    assert (len(look.running), look.counts) == (1, {})
    store.end(run, Ending(status=Status.DONE))
    assert watching.look().counts == {"done": 1}


def test_a_driver_that_is_gone_or_says_nothing_is_told_from_one_that_lives(tmp_path: Path) -> None:
    roster = FolderRoster(tmp_path / "store", 30)
    here = Driver(process="elsewhere:1:1", host="other", pid=1, since=time.time())
    name = roster.enter(here)
    dead = roster.enter(Driver(process=":1:1", host="dead", pid=1, since=time.time()))
    _ = Store(str(tmp_path / "store")).client
    watching = Watching(Store(str(tmp_path / "store"), sends=False))
    first = {each.driver.name: each for each in watching.look().drivers}
    assert {name: each.is_gone for name, each in first.items()} == {name: False, dead: True}
    assert math.isnan(first[name].silent_s)
    time.sleep(0.05)
    silent = {each.driver.name: each.silent_s for each in watching.look().drivers}[name]
    assert silent >= 0.05
    roster.beat(name, 1)
    assert {each.driver.name: each.silent_s for each in watching.look().drivers}[name] == 0.0


def test_where_no_store_is_there_nothing_is_made(tmp_path: Path) -> None:
    look = Watching(Store(str(tmp_path / "none"), sends=False)).look()
    assert (look.drivers, look.running, look.ended, look.waiting) == ([], [], [], 0)
    assert [*tmp_path.iterdir()] == []


def test_records_that_wait_for_a_server_are_not_sent(tmp_path: Path) -> None:
    """Any other use of the store sends them first."""
    _ = Store(str(tmp_path / "store")).client
    looks, sends = (Store(str(tmp_path / "store"), sends=sends) for sends in (False, True))
    looks.is_local = sends.is_local = False
    box = Outbox(looks.folder, looks.uri)
    box.keep("unsent-1", Start(experiment="test", name="late", tags={}), Addition(status=FAILED))
    box.unlock()
    assert Watching(looks).look().ended == []
    assert (len(box), looks.experiments()) == (1, [])
    assert (sends.experiments(), len(box)) == (["test"], 0)


def test_a_report_is_read_as_it_was_said_and_a_long_one_goes_without_progress() -> None:
    far = Progress(learned=1, stages=3, share=0.5)
    short = Report(waiting=2, elsewhere={"7": 1}, progress={"a" * 64: far})
    read = read_report(short.text())
    assert read is not None
    assert (read.waiting, read.elsewhere, read.of("a" * 64), read.of("b" * 64)) == (2, {"7": 1}, far, None)
    long = Report(waiting=2, progress={f"{number:064d}"[::-1]: far for number in range(1000)})
    assert read_report(long.text()) == Report(waiting=2)
    for other in ("", "{}", "[1]", '[1, {"2": "x"}, {}]', "[1, {}, {}, {}]", "no JSON", None):
        assert read_report(other) is None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TrackingServer]:
    """Return a tracking server that has started."""
    server = TrackingServer(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.mark.slow
def test_a_tracking_server_is_watched_and_an_outage_is_one_sentence(
    tmp_path: Path, server: TrackingServer, todo: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    writes = Store(server.uri)
    watching = Watching(Store(server.uri, sends=False))
    assert watching.look().drivers == []
    assert writes.client.get_experiment_by_name("openworld-bench: drivers at work") is None
    with Leases(RunRoster(writes.client)) as leases:
        leases.claim([todo[0].key])
        writes.begin(todo[0], experiment="test", environment={})
        run = writes.begin(todo[1], experiment="test", environment={})
        writes.end(run, Ending(status=Status.FAILED, reason="on purpose"))
        writes.flush()
        leases.say(Report(waiting=9))
        _wait_for(lambda: watching.look().waiting == 9)
        look = watching.look()
        (runs,) = look.running
        assert runs.driver is not None and runs.driver.pid == look.drivers[0].driver.pid
        assert [record.reason for record in look.failures] == ["on purpose"]
        server.kill()
        with pytest.raises(UserError, match="the store does not answer"):
            watching.look()
    assert isinstance(look.content()["per_minute"], float)
