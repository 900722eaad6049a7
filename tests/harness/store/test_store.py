"""The store as a folder: it may be moved, copied and have any name; its data base may be busy, read-only, or
left by a killed writer.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
from runs import Owb, Run, world

from harness.contracts import Status
from harness.errors import UserError
from harness.store import busy, tracking
from harness.store.mlflow_store import Store
from harness.store.predictions import digest
from harness.store.record import Ending

HOLD = """
import sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute(sys.argv[2])
print("held", flush=True)
sys.stdin.readline()
"""
HALF_DONE = """
import os, signal, sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute("PRAGMA cache_size = 1")
base.execute("BEGIN IMMEDIATE")
base.execute("UPDATE tags SET value = 'wrong'")
rows = [(f"new-{n}", "x" * 1000) for n in range(2000)]
base.executemany("INSERT INTO tags VALUES (?, ?, (SELECT run_uuid FROM runs))", rows)
os.kill(os.getpid(), signal.SIGKILL)
"""
TAGS = {
    "owb.schema": "1",
    "owb.key": "k",
    "owb.protocol": "p",
    "owb.scenario": "s",
    "owb.strategy": "t",
    "owb.seed": "0",
}
RUN, FILE = "runs", "predictions.npz"
ODD = "what?x=1 #50%41 é;'\""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a folder with a file to keep."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / FILE).write_bytes(b"content")
    return tmp_path / "files"


def _record(store: Store, files: Path | None = None, experiment: str = RUN, **tags: str) -> str:
    """Record a finished cell; return its run id."""
    run_id = store.open_run(
        experiment, name="a cell", tags={**TAGS, **{f"owb.{name}": value for name, value in tags.items()}}
    )
    store.end(run_id, Ending(status=Status.DONE), files=files)
    return run_id


def _content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _shown(store: Store, run_id: str) -> list[str]:
    """Return the files of a run that MLflow's own page shows, which must lie in the store."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(store.uri)
    place = Path(unquote(urlparse(client.get_run(run_id).info.artifact_uri).path))
    assert place.is_relative_to(store.folder), place
    return [file.path for file in client.list_artifacts(run_id)]


# --- moved, copied ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("move", [lambda a, b: a.rename(b), shutil.copytree], ids=["moved", "copied"])
def test_a_store_reads_and_writes_where_it_is(
    move: Callable[[Path, Path], object], files: Path, tmp_path: Path
) -> None:
    before = tmp_path / "here" / "store"
    first = _record(Store(str(before)), files)
    original = _content(before)
    after = tmp_path / "there" / "other name"
    after.parent.mkdir()
    move(before, after)
    store = Store(str(after))
    (record,) = store.records(RUN)
    assert store.file(record, FILE).read_bytes() == b"content"
    assert store.file(record, FILE).is_relative_to(after)
    assert _content(after) == original, "what only reads changes nothing"
    second = _record(store, files, key="another")
    assert _shown(store, first) == _shown(store, second) == [FILE]
    assert not before.exists() or _content(before) == original


def test_a_store_of_an_earlier_version_is_read_after_a_move(files: Path, tmp_path: Path) -> None:
    """Before 0.9 an experiment's folder was its name as it stands, with what slashes made of it."""
    old = Store(str(tmp_path / "old"))
    names = ["runs", "a/b", "per cent %41"]
    for name in names:
        old.client.create_experiment(
            name, (tmp_path / "old" / "artifacts" / name).as_uri(), tags={"owb": "experiment"}
        )
    runs = [_record(old, files, name, key=name) for name in names]
    for name, run in zip(names, runs, strict=True):
        assert (tmp_path / "old" / "artifacts" / name / run / "artifacts" / FILE).is_file()
    (tmp_path / "old").rename(tmp_path / "new")
    new = Store(str(tmp_path / "new"))
    assert [new.file_of_run(run, FILE).read_bytes() for run in runs] == [b"content"] * 3
    _record(new, files)
    assert [_shown(new, run) for run in runs] == [[FILE]] * 3
    assert not (tmp_path / "old").exists()


def test_files_are_found_under_another_name_and_in_places_of_their_own(files: Path, tmp_path: Path) -> None:
    """MLflow's page renames experiments, and one that was not made by us may have its files anywhere."""
    store = Store(str(tmp_path / "store"))
    renamed = _record(store, files)
    store.client.rename_experiment(store.client.get_experiment_by_name(RUN).experiment_id, "other")  # type: ignore[union-attr]
    store.client.create_experiment("elsewhere", (tmp_path / "artifacts" / "own").as_uri())
    foreign = _record(store, files, "elsewhere")
    (tmp_path / "store").rename(tmp_path / "moved")
    moved = Store(str(tmp_path / "moved"))
    _record(moved, files, "other")
    assert moved.file_of_run(renamed, FILE).is_relative_to(tmp_path / "moved")
    assert _shown(moved, renamed) == [FILE]
    assert moved.file_of_run(foreign, FILE).read_bytes() == b"content"
    assert (tmp_path / "artifacts" / "own" / foreign / "artifacts" / FILE).is_file()


# --- any name -----------------------------------------------------------------------------------------------


def test_any_character_may_be_in_the_path_and_in_the_name_of_an_experiment(
    files: Path, tmp_path: Path
) -> None:
    names = ["plain", ODD, "a/b", "..", "../../up", "\\ : * | <>"]
    folder = tmp_path / ODD / "store"
    store = Store(str(folder))
    runs = [_record(store, files, name, key=str(at)) for at, name in enumerate(names)]
    assert [_shown(store, run) for run in runs] == [[FILE]] * len(names)
    for again in (Store(str(folder)), Store(store.uri)):
        assert (again.exists, again.folder, again.database) == (True, folder, folder / "mlflow.db")
        assert again.experiments() == sorted(names)
        assert [again.records(name)[0].run_id for name in names] == runs
        assert {again.file_of_run(run, FILE).parents[2] for run in runs} == set(
            (folder / "artifacts").iterdir()
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["files", ODD])
    assert sorted(path.name for path in (tmp_path / ODD).iterdir()) == ["store"]


def test_a_data_base_may_be_named_by_its_uri(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address that `mlflow ui` takes is the same store, relative to the folder or not."""
    monkeypatch.chdir(tmp_path)
    _record(Store("own"), files)
    for uri in ("sqlite:///own/mlflow.db", f"sqlite:///{tmp_path}/own/mlflow.db"):
        assert Store(uri).folder == tmp_path / "own"
        assert [record.status for record in Store(uri).records(RUN)] == [Status.DONE]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", "own"]


def test_cells_run_in_a_store_of_any_name(tiny_run: Run, tmp_path: Path, call_owb: Owb) -> None:
    (record,) = tiny_run([world("Means")], store=ODD)
    assert record.status is Status.DONE
    assert [again.run_id for again in tiny_run([world("Means")], store=ODD)] == [record.run_id]
    store = Store(str(tmp_path / ODD))
    assert digest(store.answers(record)) == record.digest
    assert str(store.folder / "artifacts") in call_owb("show", record.key, "--store", str(tmp_path / ODD)).out
    assert call_owb("doctor", "--store", str(tmp_path / ODD), "--json").json["store"]["facts"]["cells"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [ODD]


# --- busy ---------------------------------------------------------------------------------------------------


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Return a function that lets another process hold the data base, until a line is written to it."""
    holders: list[subprocess.Popen[str]] = []

    def hold(how: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(tmp_path / "store" / "mlflow.db"), how]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        holders.append(holder)
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        return holder

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(busy, "SAID_AFTER_S", 0.5)
        yield hold
    for holder in holders:
        holder.kill()
        holder.wait()  # what speaks with it in another thread ends by itself


@pytest.mark.parametrize("how", ["BEGIN EXCLUSIVE", "BEGIN IMMEDIATE"])
def test_a_data_base_that_is_busy_is_waited_for_and_written_once(
    how: str,
    held: Callable[[str], subprocess.Popen[str]],
    tmp_path: Path,
    files: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One holds it against readers too, the other against writers."""
    opened = Store(str(tmp_path / "store"))
    first = _record(opened, files)
    holder = held(how)
    with pytest.raises(
        UserError, match=r"the data base .*mlflow\.db was busy for 0\.1 s: another program holds it"
    ):
        Store(str(tmp_path / "store"), patience_s=0.1).open_run(RUN, name="never", tags={})
    if how == "BEGIN IMMEDIATE":
        assert len(Store(str(tmp_path / "store"), patience_s=0.1).records(RUN)) == 1
    caplog.clear()
    threading.Timer(2.5, lambda: holder.communicate("go on\n")).start()
    second = _record(opened, files, key="another")
    assert caplog.text.count("mlflow.db is busy, another program holds it: waiting up to 5 minutes") == 1
    assert [run.info.run_id for run in opened.search("", RUN)] == [first, second]
    assert opened.file_of_run(second, FILE).read_bytes() == b"content"


def test_reading_waits_as_well(
    held: Callable[[str], subprocess.Popen[str]], tmp_path: Path, call_owb: Owb
) -> None:
    _record(Store(str(tmp_path / "store")))
    holder = held("BEGIN EXCLUSIVE")
    threading.Timer(2.5, lambda: holder.communicate("go on\n")).start()
    said = call_owb("show", RUN, "--cells", "--json", "--store", str(tmp_path / "store"))
    assert [cell["status"] for cell in said.json] == ["done"]
    assert said.err.count("waiting up to 5 minutes") == 1


# --- read-only, left by a killed writer ---------------------------------------------------------------------


def test_a_data_base_that_cannot_be_written_can_be_read(tiny_run: Run, tmp_path: Path, call_owb: Owb) -> None:
    """Byte 18 of the file says by which version of sqlite it may be written; 3 is one that does not exist."""
    (record,) = tiny_run([world("Means")])
    path = tmp_path / "store" / "mlflow.db"
    content = bytearray(path.read_bytes())
    content[18] = 3
    path.write_bytes(content)
    assert [again.run_id for again in tiny_run([world("Means")])] == [record.run_id]
    where = ("--store", str(tmp_path / "store"))
    assert [cell["key"] for cell in call_owb("show", "test", "--cells", "--json", *where).json] == [
        record.key
    ]
    assert call_owb("show", record.key, "--json", *where).json["stages"]
    assert call_owb("doctor", "--json", *where).json["store"]["facts"]["cells"] == 1
    with pytest.raises(UserError, match="cannot write to the store: attempt to write a readonly database"):
        _record(Store(str(tmp_path / "store")))


def test_what_a_killed_writer_left_half_done_is_undone(tmp_path: Path, files: Path) -> None:
    store = Store(str(tmp_path / "store"))
    run = _record(store, files)
    subprocess.run([sys.executable, "-c", HALF_DONE, str(store.database)], check=False)
    assert store.database.with_name("mlflow.db-journal").stat().st_size > 0
    (record,) = Store(str(tmp_path / "store")).records(RUN)
    assert (record.run_id, record.key, record.status) == (run, "k", Status.DONE)


def test_a_store_whose_making_was_killed_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a data base, to which MLflow's own making is not a transaction, could be neither read nor mended."""
    code = "import sys; from harness.store.mlflow_store import Store; Store(sys.argv[1]).client"
    making = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "store")], stderr=subprocess.DEVNULL
    )
    while making.poll() is None and not any(
        path.stat().st_size > 150_000 for path in tmp_path.rglob("mlflow.db")
    ):
        time.sleep(0.001)
    making.kill()
    making.wait()
    monkeypatch.setattr("harness.store.mlflow_store.make", tracking.make)
    store = Store(str(tmp_path / "store"))
    assert store.experiments() == []
    _record(store)
    assert store.by_key("k").status is Status.DONE
    assert sorted(path.name for path in store.folder.iterdir()) == ["being-made.lock", "mlflow.db"]


def test_an_experiment_that_two_drivers_make_at_once_is_one(tmp_path: Path) -> None:
    client = Store(str(tmp_path)).client

    class Slower:
        """Asks before the other one has made it, and makes it after."""

        made = ""

        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def get_experiment_by_name(self, name: str) -> Any:
            before = client.get_experiment_by_name(name)
            self.made = self.made or client.create_experiment(name)
            return before

    slower = Slower()
    assert tracking.experiment_of(slower, "both") == slower.made  # type: ignore[arg-type]
