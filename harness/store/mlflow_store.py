"""The record: one MLflow run per cell. The only module that talks to MLflow.

By default the store is a folder with an sqlite data base and an artifact tree; any tracking server works by
URI. A cell's predictions are stored before its status says `done`, so a half-written record is never read as
a result; pictures follow when somebody looks (`results.cell_pictures`). A folder is written by `sqlite_writer`,
a server by `server_writer`, which keeps on the disk what a server does not take.
`mlflow ui --backend-store-uri sqlite:///owb-store/mlflow.db` shows everything. A folder may be moved and
copied (`artifact_places`), and a data base that is busy is waited for (`busy`).
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from harness.contracts import Scores, Status, StoredPrediction
from harness.errors import UserError, unknown
from harness.places import settle_home
from harness.protocol.cells import Cell
from harness.store import artifact_places, driver_id, sqlite_reader
from harness.store.busy import PATIENCE_S, look, opened, patiently
from harness.store.entries import Addition, Start, ending, figures_of
from harness.store.outbox import Outbox
from harness.store.predictions import digest, looks_whole, read_answers, stamp_of
from harness.store.provenance import provenance
from harness.store.record import FINAL, ORPHANED, SCHEMA, Ending, Record, newest_by_key, params_of, record_of
from harness.store.run_files import put_files
from harness.store.server_writer import ServerWriter
from harness.store.sqlite_writer import SqliteWriter
from harness.store.tracking import (
    Waiting,
    database_of,
    experiment_of,
    first_line,
    make,
    uri_of,
    with_store_errors,
)

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

P = ParamSpec("P")
T = TypeVar("T")
PREDICTIONS = "predictions.npz"
TRAINING_VIEW = {"mlflow.experimentKind": "custom_model_development"}
"""What makes MLflow's page open an experiment on its runs, not on traces of language models."""
_PAGE = 1000
_REMOTE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # MLflow's seven take minutes; what a server misses is kept and sent
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


class Store:
    """A place for records. Opening it does not write; the data base is made at the first `begin`.

    A local store is a folder; the URI of an sqlite file is that file in its folder. Methods raise `UserError`
    where its data base was busy for longer than they wait.
    """

    def __init__(
        self, where: str = "owb-store", *, patience_s: float = PATIENCE_S, sends: bool = True
    ) -> None:
        """Take a folder, or the URI of a tracking server or data base, how long a busy data base is waited for, in
        seconds, and whether records that wait for the server are sent at the first use.
        """
        settle_home()
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # it logs what it raises, with a traceback
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        for name, value in _REMOTE.items():
            os.environ.setdefault(name, value)
        local = database_of(where)
        self.is_local = local is not None
        self.database = (local or Path("owb-store", "mlflow.db")).absolute()
        self.folder = self.database.parent
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{where} is a file; a store is a folder or the URI of a tracking server")
        self.uri = uri_of(self.database) if self.is_local else where
        self.patience_s, self.sends = patience_s, sends
        self._client: MlflowClient | None = None
        self._experiments: dict[str, str] = {}
        self._places: dict[str, str] = {}  # of the files of runs that are open
        self._server: ServerWriter | None = None
        self._sqlite: SqliteWriter | None = None

    @property
    def exists(self) -> bool:
        """Whether there is anything to read."""
        return not self.is_local or (self.database.is_file() and self.database.stat().st_size > 0)

    @property
    def client(self) -> MlflowClient:
        """The MLflow client, opened at first use. Its calls wait while the data base is busy.

        Raises:
            UserError: the store cannot be opened.
        """
        if self._client is None:
            import logging

            logging.getLogger("alembic").setLevel(logging.WARNING)
            try:
                from mlflow.tracking import MlflowClient

                if self.is_local:
                    make(self.database)
                client = self._waits(lambda: MlflowClient(tracking_uri=self.uri))()
                waiting = cast("MlflowClient", Waiting(client, self._waits))
                waiting.search_experiments(max_results=1)
            except UserError:
                raise
            except Exception as error:
                raise UserError(f"cannot open store {self.uri}: {first_line(error)}") from error
            self._client = waiting
            if self.sends and self.unsent:
                with_store_errors(self._to_server().send_left)()
        return self._client

    def _waits(self, action: Callable[P, T], *, writes: bool = False) -> Callable[P, T]:
        """Return an action that first looks whether the data base is busy, since MLflow would wait for it
        without a word.
        """

        def once(*args: P.args, **options: P.kwargs) -> T:
            if self.is_local and self.exists:
                look(self.database, to_write=writes)
            return action(*args, **options)

        held = self.database if self.is_local else self.uri
        return lambda *args, **options: patiently(lambda: once(*args, **options), held, self.patience_s)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Give a connection to the data base of a local store; say in one sentence why it cannot be read."""
        try:
            with sqlite_reader.reading(self.database, self.patience_s) as base:
                yield base
        except sqlite3.Error as error:
            raise UserError(f"cannot open store {self.uri}: {first_line(error)}") from error

    def check_room(self, needed_mib: float = 200) -> None:
        """Refuse to begin a run that the disk has no room for.

        Raises:
            UserError: less than `needed_mib` MiB are free where the store is.
        """
        there = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        free_mib = shutil.disk_usage(there).free / 2**20
        if free_mib < needed_mib:
            raise UserError(
                f"only {free_mib:.0f} MiB are free in {there}, a run needs {needed_mib:.0f}: make room, or "
                "choose another --store"
            )

    # --- writing --------------------------------------------------------------------------------------------

    @with_store_errors
    def begin(self, cell: Cell, *, experiment: str, environment: Mapping[str, Any], parent: str = "") -> str:
        """Open a run with status `running`, below the run `parent` where one is said, and return its id. Where the
        environment differs from what the key names (`mixed`), the run says so.
        """
        tags = {
            **provenance(),
            "owb.schema": SCHEMA,
            "owb.key": cell.key,
            "owb.protocol": cell.protocol.hash,
            "owb.scenario": cell.protocol.label,
            "owb.strategy": cell.contender.label,
            "owb.seed": str(cell.seed),
            "owb.code": cell.contender.code,
            "owb.status": Status.RUNNING.value,
            "owb.driver": driver_id.this_driver(),
        }
        tags |= {"mlflow.parentRunId": parent} if parent else {}
        tags |= {"owb.mixed": environment["mixed"][:5000]} if "mixed" in environment else {}
        content = {"protocol": cell.protocol.content, "environment": dict(environment)}
        return self._begin(
            Start(
                experiment=experiment,
                name=f"{cell.contender.label} | {cell.protocol.label} | seed {cell.seed}",
                tags=tags,
                params=params_of(cell),
                data=dict(cell.protocol.content["data"]),
                texts={"cell.json": json.dumps(content, indent=2)},
            )
        )

    @with_store_errors
    def open_run(self, experiment: str, *, name: str, tags: Mapping[str, str]) -> str:
        """Make a run in an experiment, which is made where it is not there, and return its id."""
        return self._begin(Start(experiment=experiment, name=name, tags=dict(tags)))

    def _begin(self, start: Start) -> str:
        if not self.is_local:
            return self._to_server().begin(start)
        experiment = self._experiment(start.experiment)
        run_id, place = self._waiting_for_it(lambda: self._to_sqlite().begin(start, experiment))
        self._places[run_id] = place
        self._add(run_id, Addition(texts=start.texts))
        return run_id

    @with_store_errors
    def close_run(
        self,
        run_id: str,
        *,
        status: Status,
        tags: Mapping[str, str],
        figures: Sequence[tuple[str, float, int]] = (),
        files: Path | None = None,
    ) -> None:
        """Store files, then figures, then tags and the status."""
        said = {**tags, "owb.status": status.value}
        self._add(
            run_id, Addition(figures=figures_of(figures), tags=said, files=files, status=ending(status))
        )
        self._places.pop(run_id, None)

    @with_store_errors
    def add_stages(self, run_id: str, scores: Scores, stages: Sequence[int]) -> None:
        """Add what is known after these stages, so that curves grow while the cell runs."""
        self.log(run_id, _after(stages, scores))

    @with_store_errors
    def add_probes(self, run_id: str, curves: Mapping[str, Sequence[tuple[int, int, float]]]) -> None:
        """Add curves of probes to a run, open or ended."""
        self.log(run_id, _probes(curves))

    @with_store_errors
    def end(
        self,
        run_id: str,
        ending: Ending,
        *,
        scores: Scores | None = None,
        files: Path | None = None,
        stages: Sequence[int] = (),
    ) -> None:
        """Store files and figures first, also those after `stages`, then the status."""
        figures = dict(scores.final) if scores else {}
        figures |= {
            "cost/seconds": ending.seconds,
            "cost/learn_seconds": ending.learn_s,
            "cost/probe_seconds": ending.probe_s,
            "cost/predict_seconds": ending.predict_s,
            "cost/peak_mib": ending.peak_mib,
        }
        rows = [(name, value, 0) for name, value in figures.items() if not math.isnan(value)]
        rows += _after(stages, scores) if scores else []
        tags = {
            "owb.digest": ending.digest,
            "owb.reason": ending.reason[:5000],
            "owb.together": str(ending.together) if ending.together > 1 else "",
            "owb.session": ending.session,
            "owb.file": stamp_of(files / PREDICTIONS) if files and (files / PREDICTIONS).is_file() else "",
        }
        said = {name: value for name, value in tags.items() if value}
        self.close_run(run_id, status=ending.status, tags=said, figures=rows, files=files)

    @with_store_errors
    def add_files(self, run_id: str, folder: Path) -> None:
        """Store the files of `folder` with a run, open or ended."""
        self._add(run_id, Addition(files=folder))

    @with_store_errors
    def add_text(self, run_id: str, name: str, text: str) -> None:
        """Store a text as a file of a run, of a server's one that is open."""
        self._add(run_id, Addition(texts={name: text}))

    @with_store_errors
    def log(self, run_id: str, rows: Sequence[tuple[str, float, int]]) -> None:
        """Store figures: name, value, stage or step."""
        self._add(run_id, Addition(figures=figures_of(rows)))

    def _add(self, run_id: str, addition: Addition) -> None:
        """Store what is added to a run, its files first."""
        if not self.is_local:
            self._to_server().add(run_id, addition)
            return
        if addition.texts or addition.files:
            put_files(
                self._places.get(run_id) or self._place_of(run_id), self.uri, addition.texts, addition.files
            )
        if addition.figures or addition.tags or addition.status:
            self._waiting_for_it(lambda: self._to_sqlite().add(run_id, addition))

    def _to_sqlite(self) -> SqliteWriter:
        if self._sqlite is None:
            _ = self.client  # which makes the data base
            self._sqlite = SqliteWriter(self.uri, self.folder / artifact_places.FOLDER)
        return self._sqlite

    def _to_server(self) -> ServerWriter:
        if self._server is None:
            self._server = ServerWriter(
                self.client, self.uri, Outbox(self.folder, self.uri), self._experiment
            )
        return self._server

    def _waiting_for_it(self, action: Callable[[], T]) -> T:
        """Return what writes to the data base return, which is waited for while it is busy."""
        return patiently(action, self.database, self.patience_s)

    def _place_of(self, run_id: str) -> str:
        here = self._files_here(run_id)
        return here.as_uri() if here else str(self.client.get_run(run_id).info.artifact_uri)

    @with_store_errors
    def flush(self) -> None:
        """Wait until a server has everything; what it does not take stays on the disk, and the log says so."""
        if self._server:
            self._server.flush()

    def when_sent(self, run_id: str, action: Callable[[], object]) -> None:
        """Call `action` when others see the end of a run: now, where the store is not a server's."""
        if self._server:
            self._server.when_sent(run_id, action)
        else:
            action()

    def settled(self, records: Mapping[str, Record]) -> dict[str, Record]:
        """Flush; return the records with the ids that their runs have now, empty of one that is not sent."""
        self.flush()
        known = self._server.run_of if self._server else str
        return {key: replace(record, run_id=known(record.run_id)) for key, record in records.items()}

    @property
    def unsent(self) -> int:
        """How many records wait on this machine for a server that did not answer."""
        return 0 if self.is_local else len(Outbox(self.folder, self.uri))

    def running(self, *, protocol: str = "", key: str = "") -> list[Record]:
        """Return the records of a protocol, or a cell, that say `running`."""
        said = {"status": Status.RUNNING.value, "protocol": protocol, "key": key}
        condition = " and ".join(f"tags.`owb.{name}` = '{value}'" for name, value in said.items() if value)
        return [record_of(_row(run)) for run in self._search(condition)]

    def recent(self, since: float) -> list[Record]:
        """Return the newest record of every cell that goes on, or ended at `since` seconds since 1970 or later, by
        the clock of its driver; oldest first.
        """
        found = sorted(self._records(since=since * 1000), key=lambda record: record.started)
        return list(newest_by_key(found).values())

    def mark_orphan_failed(self, run_id: str) -> None:
        """Mark a record as failed that still says `running`, though nobody works on its cell."""
        if self.client.get_run(run_id).data.tags.get("owb.status") == Status.RUNNING:
            self.end(run_id, Ending(status=Status.FAILED, reason=ORPHANED))
            if self._server:
                self._server.wait()

    @with_store_errors
    def rename_experiment(self, name: str, new: str) -> None:
        """Give an experiment another name.

        Raises:
            UserError: no such experiment, or one that has the new name.
        """
        experiment = self._experiment_id(name)
        if experiment is None:
            raise unknown("experiment", name, self.experiments(), "owb show")
        if self._experiment_id(new) is not None:
            raise UserError(f"there is an experiment {new!r} already")
        self.client.rename_experiment(experiment, new)
        self._experiments.clear()

    @with_store_errors
    def forget_experiment(self, name: str) -> None:
        """Delete an experiment, its runs and their files; its name is free again.

        Raises:
            UserError: no such experiment.
        """
        experiment = self._experiment_id(name)
        if experiment is None:
            raise unknown("experiment", name, self.experiments(), "owb show")
        runs = [run.info.run_id for run in self._search("", [experiment])]
        self.rename_experiment(name, f"{name} (forgotten {experiment})")
        self.client.delete_experiment(experiment)
        self._remove_files(runs)

    @with_store_errors
    def forget_runs(self, condition: str) -> int:
        """Delete the runs that match MLflow's condition, and their files; return how many there were."""
        runs = [run.info.run_id for run in self._search(condition)]
        for run_id in runs:
            self.client.delete_run(run_id)
        self._remove_files(runs)
        return len(runs)

    def _remove_files(self, runs: Iterable[str]) -> None:
        """Remove the files of runs of a local store, also of those that are deleted."""
        for folder in filter(None, map(self._files_here, runs)):
            shutil.rmtree(folder.parent, ignore_errors=True)

    # --- reading --------------------------------------------------------------------------------------------

    def finished(self, protocol_hashes: Iterable[str]) -> dict[str, Record]:
        """Return the newest record of every key under these protocols, where its end would be the same again:
        see `FINAL`.
        """
        wanted = sorted(set(protocol_hashes))
        newest = newest_by_key(self._records(protocols=wanted)) if wanted else {}
        return {key: record for key, record in newest.items() if record.status in FINAL}

    def newest(self, key: str) -> Record | None:
        """Return the newest record of a cell, None where there is none."""
        return newest_by_key(self._records(key=key)).get(key)

    def records(self, experiment: str = "") -> list[Record]:
        """Return the newest record of every cell of an experiment, of all experiments if none is named,
        oldest first.

        Raises:
            UserError: no such experiment.
        """
        found = self._experiment_id(experiment) if experiment else ""
        if found is None:
            raise unknown("experiment", experiment, self.experiments(), "owb show")
        return list(newest_by_key(self._records(experiment=found)).values())

    def experiments(self) -> list[str]:
        """Return the names of all experiments of ours."""
        if not self.exists:
            return []
        if self.is_local:
            with self._reading() as base:
                return sqlite_reader.experiments(base)
        found = self.client.search_experiments(filter_string="tags.`owb` = 'experiment'", max_results=_PAGE)
        return sorted(experiment.name for experiment in found)

    def by_key(self, prefix: str) -> Record:
        """Return the newest record whose cell key begins with `prefix`.

        Raises:
            UserError: no such record, or cells with different keys.
        """
        records = newest_by_key(self._records(key="".join(letter for letter in prefix if letter.isalnum())))
        if len(records) != 1:
            raise self._no_one_cell(prefix, len(records))
        return next(iter(records.values()))

    def _no_one_cell(self, prefix: str, found: int) -> UserError:
        if found or all(letter in "0123456789abcdef" for letter in prefix):
            return UserError(f"{found or 'no'} cells begin with {prefix!r}; see: owb show EXPERIMENT")
        if not self.experiments():
            return UserError(f"there is no {prefix!r}: nothing is recorded in {self.uri} yet; try: owb demo")
        return unknown("experiment or key", prefix, self.experiments(), "owb show")

    def answers(self, record: Record) -> list[StoredPrediction]:
        """Return the stored predictions of a record; raise as `predictions`."""
        return read_answers(self.predictions(record))

    def predictions(self, record: Record) -> Path:
        """Return a local path to the predictions of a record, which are those that were recorded.

        Raises:
            UserError: they are gone or damaged.
        """
        try:
            path = self.file(record, PREDICTIONS)
            is_whole = (
                stamp_of(path) == record.stamp
                if record.stamp
                else digest(read_answers(path)) == record.digest
            )
        except UserError:
            is_whole = False
        if not is_whole:
            raise UserError(
                f"the predictions of {record.scenario} | {record.strategy} | seed {record.seed} are gone or damaged: "
                "run the cell anew with owb run --again"
            )
        return path

    def lost(self, records: Iterable[Record]) -> set[str]:
        """Return the keys of done records whose predictions are gone, or are seen at a glance to be damaged
        (`answers.looks_whole`).

        What a server keeps is not looked at.
        """
        done = [record for record in records if record.status is Status.DONE and record.stamp]
        if not self.is_local or not done:
            return set()
        with self._reading() as base:
            folders = [artifact_places.folder_of_run(base, self.folder, record.run_id) for record in done]
        both = zip(done, folders, strict=True)
        return {
            record.key
            for record, folder in both
            if folder and not looks_whole(folder / PREDICTIONS, record.stamp)
        }

    def stages(self, record: Record) -> dict[str, dict[int, float]]:
        """Return the figures after every stage: by name, then by stage."""
        (found,) = self.stages_of([record])
        return found

    def stages_of(self, records: Sequence[Record]) -> list[dict[str, dict[int, float]]]:
        """Return of every record the figures after every stage; nothing of one that has no run."""
        return self._curves_of(records, "stage/")

    def probes_of(self, records: Sequence[Record]) -> list[dict[str, list[tuple[int, int, float]]]]:
        """Return of every record the curves of the probes that were asked for, by name: rows of stage, step, value."""
        found = []
        for named in self._curves_of(records, "probe/"):
            curves: dict[str, list[tuple[int, int, float]]] = {}
            for name, values in named.items():
                whole, _, stage = name.rpartition("/stage-")
                figure, is_of_probe, items = whole.rpartition("/")
                if is_of_probe:  # the others are of the scenario
                    rows = [(int(stage), step, value) for step, value in values.items()]
                    curves.setdefault(f"{figure}@{items}", []).extend(rows)
            found.append({name: sorted(rows, key=lambda row: row[:2]) for name, rows in curves.items()})
        return found

    def _curves_of(self, records: Sequence[Record], prefix: str) -> list[dict[str, dict[int, float]]]:
        runs = [record.run_id for record in records]
        if not self.is_local:
            return [self._curves(run, prefix) if run else {} for run in runs]
        if not self.exists:
            return [{} for _ in runs]
        with self._reading() as base:
            found = sqlite_reader.curves(base, runs, prefix)
        return [found.get(run, {}) for run in runs]

    def _curves(self, run_id: str, prefix: str) -> dict[str, dict[int, float]]:
        """Return the same of one run by MLflow's own way."""
        found = {}
        for name in self.client.get_run(run_id).data.metrics:
            if name.startswith(prefix):
                history = self.client.get_metric_history(run_id, name)
                found[name.removeprefix(prefix)] = {metric.step: float(metric.value) for metric in history}
        return found

    def file(self, record: Record, name: str) -> Path:
        """Return a local path to one of the record's files.

        Raises:
            UserError: the file is not there.
        """
        from mlflow.exceptions import MlflowException

        try:
            return self.file_of_run(record.run_id, name)
        except (MlflowException, OSError) as error:
            raise UserError(
                f"{record.scenario} | {record.strategy} | seed {record.seed} has no file {name!r}: {first_line(error)}"
            ) from None

    def file_of_run(self, run_id: str, name: str) -> Path:
        """Return a local path to one of a run's files; raise what MLflow raises, or `OSError`."""
        here = self._files_here(run_id)
        if here is None:
            return Path(self.client.download_artifacts(run_id, name))
        if not (here / name).exists():
            raise FileNotFoundError(f"there is no {here / name}")
        return here / name

    def search(self, condition: str, experiment: str) -> list[Run]:
        """Return the runs of an experiment that match, oldest first; none where there is no such experiment."""
        found = self.client.get_experiment_by_name(experiment)
        return self._search(condition, [found.experiment_id]) if found else []

    def _files_here(self, run_id: str) -> Path | None:
        """Return the folder of a run's files in a local store; None where MLflow alone knows."""
        if not self.is_local:
            return None
        with self._reading() as base:
            return artifact_places.folder_of_run(base, self.folder, run_id)

    def _experiment(self, name: str) -> str:
        """Return the id of an experiment that is written to, which is made where it is not there."""
        if name not in self._experiments:
            client = self.client
            if self.is_local:
                self._waits(self._settle, writes=True)()
            place = artifact_places.folder_of_new(self.folder, name).as_uri() if self.is_local else None
            tags = {"owb": "experiment", **TRAINING_VIEW}
            self._experiments[name] = experiment_of(client, name, place, tags)
        return self._experiments[name]

    def _settle(self) -> None:
        with closing(opened(self.database)) as base:
            artifact_places.settle(base, self.folder)

    def _experiment_id(self, name: str) -> str | None:
        """Return the id of an experiment, None where there is none of this name."""
        if not self.exists:
            return None
        if self.is_local:
            with self._reading() as base:
                return sqlite_reader.experiment_id(base, name)
        found = self.client.get_experiment_by_name(name)
        return found.experiment_id if found else None

    def _records(self, **wanted: Any) -> list[Record]:
        """Return what `sqlite_reader.rows` says, from any store."""
        if not self.exists:
            return []
        if not self.is_local:
            return [record_of(row) for row in self.searched(**wanted)]
        with self._reading() as base:
            return [record_of(row) for row in sqlite_reader.rows(base, **wanted)]

    def searched(
        self,
        *,
        experiment: str = "",
        key: str = "",
        protocols: Sequence[str] = (),
        since: float | None = None,
    ) -> Iterator[sqlite_reader.Row]:
        """Return what `sqlite_reader.rows` returns, by MLflow's search; by protocol where several are said, and by
        whether they have ended where `since` is.
        """
        experiments = [experiment] if experiment else None
        times = (
            [""]
            if since is None
            else [f"attributes.end_time >= {since:.0f}", "attributes.status = 'RUNNING'"]
        )
        for protocol, time in product(protocols or ("",), times):
            patterns = {"= '{}'": {"protocol": protocol}, "LIKE '{}%'": {"schema": "", "key": key}}
            conditions = [
                f"tags.`owb.{name}` {how.format(value)}"
                for how, values in patterns.items()
                for name, value in values.items()
                if value or how.startswith("LIKE")
            ]
            conditions += [time] if time else []
            yield from map(_row, self._search(" and ".join(conditions), experiments))

    def _search(self, condition: str, experiments: list[str] | None = None) -> list[Run]:
        """Return matching runs, oldest first."""
        if experiments is None:
            experiments = [found.experiment_id for found in self.client.search_experiments(max_results=_PAGE)]
        runs: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                experiments,
                condition,
                max_results=_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            runs += page
            token = page.token
            if not token:
                return runs


def _after(stages: Sequence[int], scores: Scores) -> list[tuple[str, float, int]]:
    """Return the figures after these stages, and those of the probes in them: name, value, stage or step."""
    ended = [
        (f"stage/{name}", values[k], k)
        for k in stages
        for name, values in scores.per_stage.items()
        if len(values) > k
    ]
    return ended + _probes(
        {name: [row for row in rows if row[0] in stages] for name, rows in scores.probes.items()}
    )


def _probes(curves: Mapping[str, Sequence[tuple[int, int, float]]]) -> list[tuple[str, float, int]]:
    """Return curves as figures. MLflow takes no @ in a name, so that `probe/nc1@train` is probe/nc1/train there."""
    return [
        (f"probe/{name.removeprefix('probe/').replace('@', '/')}/stage-{stage}", value, step)
        for name, rows in curves.items()
        for stage, step, value in rows
    ]


def _row(run: Run) -> sqlite_reader.Row:
    info, data = run.info, run.data
    return sqlite_reader.Row(
        info.run_id, info.start_time, info.end_time, data.tags, data.params, data.metrics
    )


__all__ = ["PREDICTIONS", "Store"]
