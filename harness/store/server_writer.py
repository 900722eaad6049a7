"""Runs of a tracking server: what they begin with is said at once, the rest is sent by a few threads from the disk.

A record that ended is put into the `outbox` first and removed when the server has all of it, so that a server that
does not answer costs no record and does not hold up the run: the log says so once, the server is asked every few
seconds, and whatever waits is sent when it answers, by this process or by the next command with this store.
Nothing is sent twice: a run that may have been made before the answer was lost is looked for, and MLflow takes the
same figures, tags and files again for the same.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from harness.store import outbox
from harness.store.entries import Addition, Start, batches, inputs_of
from harness.store.outbox import Entry, Outbox
from harness.store.run_files import put_files
from harness.store.tracking import first_line, is_outage

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

RETRY_S = 3.0
_SENDERS = 4
_UNSENT = "unsent-"
_WORDS = 200  # letters of a reason

_log = logging.getLogger(__name__)


class ServerWriter:
    """Writes runs to a tracking server. A run that is begun while the server does not answer has a name of its own
    until it is sent (`run_of`).
    """

    def __init__(
        self,
        client: MlflowClient,
        uri: str,
        box: Outbox,
        experiment: Callable[[str], str],
        retry_s: float = RETRY_S,
    ) -> None:
        """Take MLflow's client, where records wait, what returns the id of an experiment by its name, and after
        how many seconds a server that does not answer is asked again.
        """
        self._client, self._uri, self._box, self._experiment = client, uri, box, experiment
        self._retry_s = retry_s
        self._pool = ThreadPoolExecutor(_SENDERS, thread_name_prefix="send")
        self._sends: list[Future[None]] = []
        self._starts: dict[str, Start] = {}  # of runs whose parameters the server does not have yet
        self._unsaid: dict[str, Addition] = {}  # what it did not take of runs that go on
        self._made: dict[str, str] = {}  # runs by the names they had before
        self._places: dict[str, str] = {}  # of their files
        self._in_hand: set[Path] = set()
        self._folders: dict[str, Path] = {}  # of the entries of runs that ended, until `when_sent`
        self._actions: dict[Path, Callable[[], object]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._asking: threading.Thread | None = None  # as long as the server does not answer

    def begin(self, start: Start) -> str:
        """Make a run and return its id, or a name for it while the server does not answer."""
        run_id = f"{_UNSENT}{uuid4().hex}"
        if not self._asking:
            try:
                run_id = self._make(start)
            except Exception as error:
                self._note_outage(error)
        self._starts[run_id] = start
        return run_id

    def add(self, run_id: str, addition: Addition) -> None:
        """Add to a run. What is said of one that goes on is sent now, or with its end if the server does not
        answer; an end and files wait on the disk until they are sent.
        """
        self._raise_refusals()
        addition = _joined(self._unsaid.pop(run_id, None), addition)
        if addition.status or addition.files:
            entry = self._box.keep(self._made.get(run_id, run_id), self._starts.pop(run_id, None), addition)
            self._folders[run_id] = entry.folder
            self._submit(entry)
            return
        try:
            if self._asking or run_id.startswith(_UNSENT):
                self._unsaid[run_id] = addition
            else:
                self._say(run_id, addition)
        except Exception as error:
            self._unsaid[run_id] = addition
            self._note_outage(error)

    def when_sent(self, run_id: str, action: Callable[[], object]) -> None:
        """Call `action` when the server has the end of a run, now if it has."""
        with self._lock:
            folder = self._folders.pop(run_id, None)
            if is_waiting := folder is not None and folder.exists():
                self._actions[folder] = action
        if not is_waiting:
            action()

    def run_of(self, run_id: str) -> str:
        """Return the id of a run, by that or by the name it had before it was sent; empty where it was not."""
        known = self._made.get(run_id, run_id)
        return "" if known.startswith(_UNSENT) else known

    def flush(self) -> None:
        """Wait until every record is sent, or the server does not answer. Raises what it refused."""
        with self._lock:  # a thread that is made there has begun
            asking = self._asking
        if asking:
            self._stop.set()
            asking.join()
            self._stop.clear()
            self._asking = None
            with suppress(Exception):
                self._client.search_experiments(max_results=1)
                self._submit(*self._box.mine())
        self.wait()
        self._box.unlock()
        if waiting := len(self._box):
            _log.warning(
                "%s finished and not sent to %s, which does not answer: they wait in %s, and the next command with "
                "this store sends them",
                _records(waiting),
                self._uri,
                self._box.shared,
            )

    def wait(self) -> None:
        """Wait for what is being sent. Raises what the server refused."""
        wait(self._sends)
        self._raise_refusals()

    def send_left(self) -> None:
        """Send the records that earlier commands could not send.

        Raises:
            Exception: the server does not answer.
        """
        sent = 0
        with self._box.left() as entries:
            for entry in entries:
                try:
                    self._send(entry)
                    sent += 1
                except Exception as error:
                    if is_outage(error):
                        raise
                    _log.warning(
                        "%s refuses the record in %s: %s", self._uri, entry.folder, first_line(error)
                    )
        if sent:
            _log.warning("sent %s to %s that had waited for it", _records(sent), self._uri)

    def _submit(self, *entries: Entry) -> None:
        sends = [self._pool.submit(self._try, entry) for entry in entries]
        with self._lock:
            self._sends = [*self._sends, *sends]

    def _raise_refusals(self) -> None:
        """Raise what the server refused, once; the record stays where it waits."""
        with self._lock:
            ended = [send for send in self._sends if send.done()]
            self._sends = [send for send in self._sends if send not in ended]
        for send in ended:
            send.result()

    def _try(self, entry: Entry) -> None:
        """Send an entry unless somebody does, or has; it stays on the disk while the server does not answer."""
        with self._lock:
            if self._asking or entry.folder in self._in_hand or not entry.folder.exists():
                return
            self._in_hand.add(entry.folder)
        try:
            self._send(entry)
        except Exception as error:
            self._note_outage(error)
        finally:
            self._in_hand.discard(entry.folder)

    def _send(self, entry: Entry) -> None:
        """Send what an entry has, the tags with its status last; then remove it."""
        start, addition = entry.start, entry.addition
        run_id = self._made.get(entry.run_id, entry.run_id)
        if start and run_id.startswith(_UNSENT):
            run_id = self._found(start) or self._make(start)
            self._made[entry.run_id] = run_id
            entry = outbox.made(entry, run_id)
        texts = {**(start.texts if start else {}), **addition.texts}
        self._upload(run_id, texts, addition.files)
        if start and start.data:
            self._name_data(run_id, start.data)
        for batch in batches(
            params=start.params if start else {}, figures=addition.figures, tags=addition.tags
        ):
            self._client.log_batch(run_id, *batch)
        if addition.status:
            self._client.set_terminated(run_id, addition.status, addition.at)
            self._places.pop(run_id, None)
        with self._lock:
            outbox.done(entry)
            action = self._actions.pop(entry.folder, None)
        if action:
            action()

    def _name_data(self, run_id: str, data: Mapping[str, str]) -> None:
        """Say which data sets a run used. Of two runs that are the first of an experiment to name one, and do so at the
        same moment, a server refuses one, since it looks and then inserts; asked again, it finds the data set there.
        """
        from mlflow.exceptions import MlflowException

        for _ in data:
            try:
                self._client.log_inputs(run_id, datasets=inputs_of(data))
                return
            except MlflowException as error:
                if is_outage(error):
                    raise
        self._client.log_inputs(run_id, datasets=inputs_of(data))

    def _say(self, run_id: str, addition: Addition) -> None:
        """Send what is said of a run that goes on."""
        self._upload(run_id, addition.texts, None)
        for batch in batches(figures=addition.figures, tags=addition.tags):
            self._client.log_batch(run_id, *batch)

    def _upload(self, run_id: str, texts: Mapping[str, str], files: Path | None) -> None:
        if texts or files:
            place = self._places.get(run_id) or str(self._client.get_run(run_id).info.artifact_uri)
            put_files(place, self._uri, texts, files)

    def _make(self, start: Start) -> str:
        experiment = self._experiment(start.experiment)
        run = self._client.create_run(
            experiment, start_time=start.at, run_name=start.name, tags=dict(start.tags)
        )
        self._places[run.info.run_id] = run.info.artifact_uri
        return str(run.info.run_id)

    def _found(self, start: Start) -> str:
        """Return the run that was made of a start whose answer was lost; empty where there is none."""
        condition = f"attributes.start_time = {start.at}"
        for run in self._client.search_runs([self._experiment(start.experiment)], condition):
            if start.tags.items() <= run.data.tags.items():
                return str(run.info.run_id)
        return ""

    def _note_outage(self, error: Exception) -> None:
        """Say that the server does not answer, and ask it until it does; raise an error that is another."""
        if not is_outage(error):
            raise error
        with self._lock:
            if self._asking:
                return
            _log.warning(
                "%s does not answer: records wait in %s and are sent when it does (%s)",
                self._uri,
                self._box.shared,
                first_line(error)[:_WORDS],
            )
            self._asking = threading.Thread(target=self._ask, daemon=True)
            self._asking.start()

    def _ask(self) -> None:
        """Ask a server that does not answer until it does; then send what has waited."""
        while not self._stop.wait(self._retry_s):
            with suppress(Exception):
                self._client.search_experiments(max_results=1)
                self._asking = None
                waiting = self._box.mine()
                if waiting:
                    _log.warning("%s answers again: sending %s", self._uri, _records(len(waiting)))
                    self._submit(*waiting)
                return


def _records(count: int) -> str:
    return f"{count} record{'s' if count != 1 else ''}"


def _joined(before: Addition | None, addition: Addition) -> Addition:
    """Return an addition with what was to be added before it."""
    if before is None:
        return addition
    return replace(
        addition,
        figures=[*before.figures, *addition.figures],
        tags={**before.tags, **addition.tags},
        texts={**before.texts, **addition.texts},
    )


__all__ = ["ServerWriter"]
