"""A server that does not answer costs no record and gets none twice. What is said of a run goes to a real MLflow
store, through a client whose calls can be cut off before they act, or before their answer arrives.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, PERMISSION_DENIED, TEMPORARILY_UNAVAILABLE
from mlflow.tracking import MlflowClient
from requests import ConnectionError as NoConnection
from requests import Response
from requests.exceptions import HTTPError
from tracking_server import TrackingServer

from harness.contracts import Status
from harness.protocol.cells import cells, contenders, protocols
from harness.store.entries import Addition, Figure, Start, inputs_of
from harness.store.mlflow_store import Store
from harness.store.outbox import Outbox
from harness.store.record import Ending
from harness.store.server_writer import ServerWriter
from harness.store.tracking import is_outage, make, uri_of

START = Start(
    experiment="runs",
    name="a cell",
    tags={"owb.key": "k", "owb.status": "running"},
    params={"seed": "0"},
    data={"digits": "0" * 36},
    texts={"cell.json": "{}"},
    at=1_000,
)
CURVE = Addition(figures=[Figure("stage/accuracy", 0.5, 0, 1_001)])
FIGURES = [Figure("stage/accuracy", 0.75, 1, 1_002), Figure("accuracy", 0.75, 0, 1_002)]
CALLS = 7  # of the client, in what `_recorded` sends: two of them while the run goes on


class Line:
    """MLflow's client behind a line that may be cut."""

    def __init__(self, client: MlflowClient) -> None:
        self.client, self.calls, self.is_cut = client, 0, False
        self.cut_at, self.after_it_acted = 0, False
        self.lock = threading.Lock()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            with self.lock:
                self.calls += 1
                is_hit = self.calls == self.cut_at
                self.is_cut |= is_hit
                if self.is_cut and not (is_hit and self.after_it_acted):
                    raise NoConnection("cut off")
                done = getattr(self.client, name)(*args, **options)
                if is_hit:
                    raise NoConnection("the answer is lost")
                return done

        return call


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> MlflowClient:
    """Return a client of a data base that stands for the server's."""
    database = tmp_path_factory.mktemp("server") / "mlflow.db"
    make(database)
    return MlflowClient(uri_of(database))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return what a cell leaves."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "predictions.npz").write_bytes(b"content")
    return tmp_path / "files"


class Server:
    """An experiment of its own on the server, and writers to it from one folder."""

    def __init__(self, client: MlflowClient, folder: Path) -> None:
        self.line, self.folder = Line(client), folder
        self.client = client
        self.experiment = client.create_experiment(folder.as_posix(), (folder / "there").as_uri())

    def writer(self, retry_s: float = 60.0) -> ServerWriter:
        box = Outbox(self.folder, self.client.tracking_uri)
        return ServerWriter(self.line, self.client.tracking_uri, box, lambda _: self.experiment, retry_s)  # type: ignore[arg-type]

    @property
    def waiting(self) -> int:
        return len(Outbox(self.folder, self.client.tracking_uri))

    def content(self) -> list[dict[str, Any]]:
        return [_content(self.client, run.info.run_id) for run in self.client.search_runs([self.experiment])]


@pytest.fixture
def server(client: MlflowClient, tmp_path: Path) -> Server:
    """Return a server that answers."""
    return Server(client, tmp_path)


def _content(client: MlflowClient, run_id: str) -> dict[str, Any]:
    run = client.get_run(run_id)
    history = {
        name: sorted(
            (point.step, point.value, point.timestamp) for point in client.get_metric_history(run_id, name)
        )
        for name in run.data.metrics
    }
    return {
        "tags": {name: value for name, value in run.data.tags.items() if name.startswith("owb.")},
        "params": run.data.params,
        "history": history,
        "data": [each.dataset.name for each in run.inputs.dataset_inputs],
        "times": (run.info.start_time, run.info.end_time, run.info.status),
        "files": sorted(file.path for file in client.list_artifacts(run_id)),
    }


WHOLE = {
    "tags": {"owb.key": "k", "owb.status": "done"},
    "params": {"seed": "0"},
    "history": {"stage/accuracy": [(0, 0.5, 1_001), (1, 0.75, 1_002)], "accuracy": [(0, 0.75, 1_002)]},
    "data": ["digits"],
    "times": (1_000, 2_000, "FINISHED"),
    "files": ["cell.json", "predictions.npz"],
}


def _recorded(writer: ServerWriter, files: Path) -> str:
    run_id = writer.begin(START)
    writer.add(run_id, CURVE)
    end = Addition(figures=FIGURES, tags={"owb.status": "done"}, files=files, status="FINISHED", at=2_000)
    writer.add(run_id, end)
    return run_id


def test_a_server_that_answers_has_everything(server: Server, files: Path) -> None:
    writer = server.writer()
    run_id = _recorded(writer, files)
    writer.flush()
    assert (server.content(), server.waiting, server.line.calls) == ([WHOLE], 0, CALLS - 2)
    assert writer.run_of(run_id) == run_id


@pytest.mark.parametrize("acted", [False, True], ids=["before it acts", "before its answer"])
@pytest.mark.parametrize("at", range(1, CALLS + 1))
def test_nothing_is_lost_or_twice_wherever_the_line_is_cut(
    server: Server, files: Path, at: int, *, acted: bool
) -> None:
    server.line.cut_at, server.line.after_it_acted = at, acted
    writer = server.writer()
    run_id = _recorded(writer, files)
    writer.flush()
    if at < CALLS - 1:
        assert (server.waiting, len(server.content())) == (1, int(at > 1 or acted))
    server.line.is_cut = False
    other = server.writer()
    other.send_left()
    assert (server.content(), server.waiting) == ([WHOLE], 0)
    assert run_id


def test_it_is_sent_by_itself_when_the_server_answers_again(
    server: Server, files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.line.is_cut = True
    writer = server.writer(retry_s=0.01)
    with caplog.at_level(logging.WARNING):
        names = [_recorded(writer, files) for _ in range(3)]
        assert [writer.run_of(name) for name in names] == [""] * 3
        assert (server.waiting, server.content()) == (3, [])
        server.line.is_cut = False
        while server.waiting:
            threading.Event().wait(0.01)
        writer.flush()
    assert len({writer.run_of(name) for name in names} - {""}) == len(server.content())
    said = [record.getMessage() for record in caplog.records]
    assert sum("does not answer" in line for line in said) == 1
    assert sum("answers again: sending 3 records" in line for line in said) == 1
    assert not any("finished and not sent" in line for line in said)


def test_what_is_left_is_counted_and_said(
    server: Server, files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.line.is_cut = True
    writer = server.writer()
    recording = threading.Thread(target=_recorded, args=(writer, files))
    recording.start()
    recording.join()
    with caplog.at_level(logging.WARNING):
        writer.flush()
    assert "1 record finished and not sent" in caplog.text
    assert str(server.folder / "unsent") in caplog.text
    server.line.is_cut = False
    server.writer().send_left()
    assert (server.content(), server.waiting) == ([WHOLE], 0), (
        "the folder is given up by the thread that flushes"
    )


def test_records_of_a_writer_that_lives_are_left_to_it(server: Server, files: Path) -> None:
    server.line.is_cut = True
    _recorded(server.writer(), files)
    server.line.is_cut = False
    server.writer().send_left()
    assert (server.waiting, server.content()) == (1, [])


def test_what_is_half_written_is_no_record(server: Server, files: Path) -> None:
    server.line.is_cut = True
    writer = server.writer()
    _recorded(writer, files)
    writer.flush()
    (entry,) = (server.folder / "unsent").glob("*/*/*/entry.json")
    half = entry.parent.with_name("being-made-0")
    half.mkdir()
    (half / "entry.json").write_text('{"run_id": ')
    assert server.waiting == 1
    assert json.loads(entry.read_text())["start"]["params"] == {"seed": "0"}
    server.line.is_cut = False
    server.writer().send_left()
    assert server.content() == [WHOLE]


def test_what_waits_for_a_record_is_done_when_the_server_has_it(server: Server, files: Path) -> None:
    """A lease on a cell is given up then, lest another driver sees a record that still says `running`."""
    seen: list[tuple[int, bool]] = []

    def look() -> None:
        seen.append((server.waiting, server.content() == [WHOLE]))

    server.line.is_cut = True
    writer = server.writer(retry_s=0.01)
    writer.when_sent(_recorded(writer, files), look)
    assert seen == []
    server.line.is_cut = False
    while not seen:
        threading.Event().wait(0.01)
    assert seen == [(0, True)]
    writer.flush()
    writer.when_sent("a run that nothing waits of", look)
    assert len(seen) == 2


def test_what_a_server_refuses_is_raised_and_stays(server: Server, files: Path) -> None:
    writer = server.writer()
    run_id = writer.begin(START)
    writer.add(run_id, Addition(figures=[Figure("no?", 1.0, 0, 1)], files=files, status="FINISHED"))
    with pytest.raises(MlflowException, match=r"no\?"):
        writer.flush()
    assert server.waiting == 1


def _http_error(status: int) -> HTTPError:
    response = Response()
    response.status_code = status
    return HTTPError(response=response)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NoConnection(), True),
        (_http_error(503), True),
        (_http_error(429), True),
        (_http_error(403), False),
        (MlflowException("API request to http://x failed with exception refused"), True),
        (MlflowException("busy", error_code=TEMPORARILY_UNAVAILABLE), True),
        (MlflowException("no", error_code=PERMISSION_DENIED), False),
        (MlflowException("no", error_code=INVALID_PARAMETER_VALUE), False),
        (ValueError(), False),
        (FileNotFoundError(), False),
    ],
)
def test_only_what_asking_again_may_help_is_an_outage(error: Exception, *, expected: bool) -> None:
    assert is_outage(error) is expected


def test_two_runs_that_name_a_data_set_at_the_same_moment_are_both_recorded(
    client: MlflowClient, tmp_path: Path
) -> None:
    """The other one's is there between the look and the insertion of this one, which the data base refuses."""
    experiment = client.create_experiment("a race", tmp_path.as_uri())
    other = client.create_run(experiment).info.run_id
    engine = client._tracking_client.store.engine
    raced: list[str] = []

    def in_between(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO datasets") and not raced:
            raced.append(statement)
            client.log_inputs(other, datasets=inputs_of(START.data))

    sqlalchemy.event.listen(engine, "before_cursor_execute", in_between)
    try:
        writer = ServerWriter(client, "http://x", Outbox(tmp_path, "http://x"), lambda _: experiment)
        run_id = writer.begin(START)
        writer.add(run_id, Addition(status="FINISHED", at=2_000))
        writer.flush()
    finally:
        sqlalchemy.event.remove(engine, "before_cursor_execute", in_between)
    assert raced
    for run in (other, run_id):
        (named,) = client.get_run(run).inputs.dataset_inputs
        assert named.dataset.name == "digits"


# --- a server of its own, which is killed and started again -----------------------------------------------


@pytest.mark.slow
def test_a_server_that_is_killed_in_mid_run_has_every_record_soon_after_it_is_back(
    tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    todo = cells(protocols(["class-incremental"]), contenders(["replay"]), 4)
    server = TrackingServer(tmp_path)
    try:
        server.start()
        store = Store(server.uri)
        before = [store.begin(cell, experiment="runs", environment={}) for cell in todo[:2]]
        store.end(before[0], Ending(status=Status.DONE), files=files)
        store.flush()
        server.kill()
        store.end(before[1], Ending(status=Status.DONE), files=files)
        for cell in todo[2:]:
            run_id = store.begin(cell, experiment="runs", environment={})
            store.end(run_id, Ending(status=Status.DONE), files=files)
        assert store.unsent == 3
        server.start()
        until = time.monotonic() + 60
        while store.unsent:
            assert time.monotonic() < until
            time.sleep(0.1)
        records = store.records("runs")
        assert [record.status for record in records] == [Status.DONE] * 4
        assert {record.key for record in records} == {cell.key for cell in todo}
        assert len(store.search("", "runs")) == 4, "nothing is there twice"
        assert all(store.file(record, "predictions.npz").read_bytes() == b"content" for record in records)
    finally:
        server.kill()
