"""The drivers of a store and the cells each of them has: where this is written down, and how a cell is claimed.

A store in a folder has a data base of its own for it, `leases.db`: the key of a cell is unique there, so that
inserting it is the compare-and-set. It is not flushed to the disk at every change, since none of it outlives a
machine that goes down.

A tracking server, or a data base behind MLflow, has one run for each driver in an experiment of their own, with
a tag for every cell. MLflow cannot compare and set, so a claim is written first and then all drivers are read:
who sees nobody else has the cell, who sees another withdraws. Had two drivers A and B both seen nobody, A would
have read before B wrote, B before A wrote, and each wrote before it read: a circle. All that this needs is that
the server reads what it has committed. Of two that see each other, the one with the smaller name reads again
until the other has withdrawn, or must have won.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness.errors import UserError
from harness.store.busy import opened, patiently
from harness.store.report import Report, read_report
from harness.store.sqlite_reader import reading
from harness.store.tracking import experiment_of, first_line, is_outage

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

FILE = "leases.db"
EXPERIMENT = "openworld-bench: drivers at work"
_TABLES = (
    "CREATE TABLE IF NOT EXISTS drivers (number INTEGER PRIMARY KEY AUTOINCREMENT, process TEXT, host TEXT, "
    "pid INTEGER, since REAL, alone INTEGER, beat INTEGER)",
    "CREATE TABLE IF NOT EXISTS leases (key TEXT PRIMARY KEY, driver INTEGER) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS reports (driver INTEGER PRIMARY KEY, said TEXT)",
)
_LEASE, _REPORT = "owb.lease.", "owb.report"
_MOST_DRIVERS = 1000
_MOST_TAGS = 100  # that MLflow takes in one call
_READ_AGAIN_S = (0.01, 0.03, 0.1, 0.3)


class OutOfReach(Exception):
    """The server that has the roster does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A process that works on a store.

    name: in the roster, given when it is entered.  process: as in `driver_id`.  since: seconds of its own clock.
    alone: it needs the store for itself.  beat: grows while it lives.  keys: of the cells that it has.
    report: what it said last of its work.
    """

    process: str
    host: str
    pid: int
    since: float
    alone: bool = False
    name: str = ""
    beat: int = 0
    keys: frozenset[str] = frozenset()
    report: Report | None = None

    def __str__(self) -> str:
        return f"{self.host}, process {self.pid}, since {time.strftime('%H:%M', time.localtime(self.since))}"


@dataclass(frozen=True, slots=True)
class Sight:
    """What was read at one moment: the drivers by name, and how many were ever entered, None where nobody counts."""

    drivers: dict[str, Driver]
    entered: int | None

    def rivals(self, name: str, key: str) -> list[str]:
        """Return the drivers but `name` that have, or claim, a cell."""
        return [other for other, driver in self.drivers.items() if other != name and key in driver.keys]


class Roster(Protocol):
    """Where the drivers of a store are written down. Every method is safe in several threads and processes, and may
    raise `OutOfReach`.
    """

    def enter(self, driver: Driver) -> str:
        """Write down a driver without cells; return its name."""

    def beat(self, name: str, beat: int, report: str = "") -> None:
        """Say that a driver lives, and where it is said, its report; nothing happens to one that was struck."""

    def claim(self, name: str, keys: Collection[str]) -> tuple[set[str], Sight]:
        """Give a driver the cells that no other has; return which ones, none to one that was struck, and what was
        read after that.
        """

    def release(self, name: str, keys: Collection[str]) -> None:
        """Take cells from a driver."""

    def strike(self, name: str, beat: int | None = None) -> bool:
        """Take a driver out with all its cells, for good; with `beat`, where that is still its last one. Say whether
        it is out.
        """

    def read(self) -> Sight:
        """Return all that is written down at one moment."""


class FolderRoster:
    """The roster of a store in a folder: an sqlite file there."""

    def __init__(self, folder: Path, patience_s: float) -> None:
        """Make the file where there is none.

        Raises:
            UserError: it cannot be written.
        """
        self.database, self.patience_s = folder / FILE, patience_s
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.database.touch()
        except OSError as error:
            raise UserError(f"cannot write to the store {folder}: {error.strerror or error}") from None
        with self._alone() as base:
            for table in _TABLES:
                base.execute(table)

    def enter(self, driver: Driver) -> str:  # noqa: D102  (Roster)
        row = (driver.process, driver.host, driver.pid, driver.since, driver.alone, driver.beat)
        with self._alone() as base:
            return str(base.execute("INSERT INTO drivers VALUES (NULL, ?, ?, ?, ?, ?, ?)", row).lastrowid)

    def beat(self, name: str, beat: int, report: str = "") -> None:  # noqa: D102
        with self._alone() as base:
            base.execute("UPDATE drivers SET beat = ? WHERE number = ?", (beat, int(name)))
            if report:
                base.execute(
                    "INSERT OR REPLACE INTO reports SELECT number, ? FROM drivers WHERE number = ?",
                    (report, int(name)),
                )

    def claim(self, name: str, keys: Collection[str]) -> tuple[set[str], Sight]:  # noqa: D102
        with self._alone() as base:
            for key in keys:
                base.execute(
                    "INSERT OR IGNORE INTO leases SELECT ?, number FROM drivers WHERE number = ?",
                    (key, int(name)),
                )
            sight = _read(base)
        own = sight.drivers.get(name)
        return set(own.keys) & set(keys) if own else set(), sight

    def release(self, name: str, keys: Collection[str]) -> None:  # noqa: D102
        with self._alone() as base:
            base.executemany(
                "DELETE FROM leases WHERE key = ? AND driver = ?", [(key, int(name)) for key in keys]
            )

    def strike(self, name: str, beat: int | None = None) -> bool:  # noqa: D102
        with self._alone() as base:
            number = int(name)
            base.execute("DELETE FROM drivers WHERE number = ? AND beat = ifnull(?, beat)", (number, beat))
            if base.execute("SELECT 1 FROM drivers WHERE number = ?", (number,)).fetchone():
                return False
            for table in ("leases", "reports"):
                base.execute(f"DELETE FROM {table} WHERE driver = ?", (number,))  # noqa: S608
            return True

    def read(self) -> Sight:  # noqa: D102
        with self._alone() as base:
            return _read(base)

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection]:
        """Give the data base in a transaction that has it alone."""
        try:
            with closing(patiently(self._begun, self.database, self.patience_s)) as base, base:
                yield base
        except sqlite3.OperationalError as error:
            raise UserError(f"cannot write to the store {self.database.parent}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"cannot use {self.database}: {error}; remove it while no run is at work on the store"
            ) from error

    def _begun(self) -> sqlite3.Connection:
        base = opened(self.database)
        try:
            base.execute("PRAGMA synchronous = OFF")
            base.execute("BEGIN IMMEDIATE")
        except BaseException:
            base.close()
            raise
        return base


def _read(base: sqlite3.Connection) -> Sight:
    rows = base.execute("SELECT number, process, host, pid, since, alone, beat FROM drivers").fetchall()
    keys: dict[int, set[str]] = {}
    for key, number in base.execute("SELECT key, driver FROM leases"):
        keys.setdefault(number, set()).add(key)
    reports = dict(base.execute("SELECT driver, said FROM reports"))
    (entered,) = base.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = 'drivers'").fetchone()
    drivers = {
        str(number): Driver(
            name=str(number),
            process=process,
            host=host,
            pid=pid,
            since=since,
            alone=bool(alone),
            beat=beat,
            keys=frozenset(keys.get(number, ())),
            report=read_report(reports.get(number)),
        )
        for number, process, host, pid, since, alone, beat in rows
    }
    return Sight(drivers, entered or 0)


class RunRoster:
    """The roster of a store behind MLflow's interface: a run for each driver. Who is struck is a deleted run."""

    def __init__(self, client: MlflowClient, *, pause: Callable[[float], None] = time.sleep) -> None:
        """Make the experiment where there is none; `pause` waits for seconds."""
        self.client, self.pause = client, pause
        self.experiment = experiment_of(client, EXPERIMENT)

    def enter(self, driver: Driver) -> str:  # noqa: D102
        tags = {
            "owb.driver": driver.process,
            "owb.host": driver.host,
            "owb.pid": str(driver.pid),
            "owb.since": str(driver.since),
            "owb.alone": "yes" if driver.alone else "",
            "owb.beat": str(driver.beat),
        }
        with _reached():
            run = self.client.create_run(self.experiment, run_name=str(driver), tags=tags)
        return str(run.info.run_id)

    def beat(self, name: str, beat: int, report: str = "") -> None:  # noqa: D102
        from mlflow.entities import RunTag

        said = {"owb.beat": str(beat), _REPORT: report}
        with self._unless_struck(name):
            self.client.log_batch(name, tags=[RunTag(key, value) for key, value in said.items() if value])

    def claim(self, name: str, keys: Collection[str]) -> tuple[set[str], Sight]:  # noqa: D102
        with self._unless_struck(name):
            self._write(name, sorted(keys))
        mine: set[str] = set()
        undecided = set(keys)
        for seconds in (*_READ_AGAIN_S, 0.0):
            sight = self.read()
            if name not in sight.drivers:
                return set(), sight
            rivals = {key: sight.rivals(name, key) for key in undecided}
            mine |= {key for key, others in rivals.items() if not others}
            undecided = {key for key, others in rivals.items() if others and name < min(others)}
            if not undecided:
                break
            self.pause(seconds)
        self.release(name, set(keys) - mine)
        return mine, sight

    def release(self, name: str, keys: Collection[str]) -> None:  # noqa: D102
        with self._unless_struck(name):
            for key in sorted(keys):
                self.client.delete_tag(name, f"{_LEASE}{key}")

    def strike(self, name: str, beat: int | None = None) -> bool:  # noqa: D102  (MLflow cannot compare)
        with self._unless_struck(name):
            self.client.delete_run(name)
        return True

    def read(self) -> Sight:  # noqa: D102
        return _read_runs(self.client, self.experiment)

    @contextmanager
    def _unless_struck(self, name: str) -> Iterator[None]:
        """Let a change come to nothing where the driver's run has been deleted, by which MLflow refuses it."""
        from mlflow.exceptions import MlflowException

        with _reached():
            try:
                yield
            except MlflowException:
                if name in self.read().drivers:
                    raise

    def _write(self, name: str, keys: Sequence[str]) -> None:
        from mlflow.entities import RunTag

        for start in range(0, len(keys), _MOST_TAGS):
            tags = [RunTag(f"{_LEASE}{key}", "claimed") for key in keys[start : start + _MOST_TAGS]]
            self.client.log_batch(name, tags=tags)


def _read_runs(client: MlflowClient, experiment: str) -> Sight:
    with _reached():
        runs = client.search_runs([experiment], max_results=_MOST_DRIVERS)
    return Sight({run.info.run_id: _driver(run) for run in runs if "owb.beat" in run.data.tags}, None)


def seen_in_folder(folder: Path, patience_s: float) -> Sight:
    """Return who is on the roster of a store in a folder. Nothing is written, and no file is made.

    Raises:
        UserError: it cannot be read.
    """
    database = folder / FILE
    if not database.is_file():
        return Sight({}, None)
    try:
        with reading(database, patience_s) as base:
            there = {name for (name,) in base.execute("SELECT name FROM sqlite_master")}
            return _read(base) if {"drivers", "leases", "reports"} <= there else Sight({}, None)
    except sqlite3.Error as error:
        raise UserError(f"cannot read {database}: {error}") from error


def seen_in_mlflow(client: MlflowClient) -> Sight:
    """Return who is on the roster of a store behind MLflow's interface, where nothing is made for it.

    Raises:
        OutOfReach: the server does not answer.
    """
    with _reached():
        found = client.get_experiment_by_name(EXPERIMENT)
    return _read_runs(client, found.experiment_id) if found else Sight({}, None)


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if is_outage(error):
            raise OutOfReach(first_line(error)) from error
        raise


def _driver(run: Run) -> Driver:
    tags = run.data.tags
    return Driver(
        name=run.info.run_id,
        process=tags["owb.driver"],
        host=tags["owb.host"],
        pid=int(tags["owb.pid"]),
        since=float(tags["owb.since"]),
        alone=bool(tags.get("owb.alone")),
        beat=int(tags["owb.beat"]),
        keys=frozenset(name.removeprefix(_LEASE) for name in tags if name.startswith(_LEASE)),
        report=read_report(tags.get(_REPORT)),
    )


__all__ = [
    "Driver",
    "FolderRoster",
    "OutOfReach",
    "Roster",
    "RunRoster",
    "Sight",
    "seen_in_folder",
    "seen_in_mlflow",
]
