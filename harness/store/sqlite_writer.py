"""Runs of a local store, written by MLflow's own methods: one transaction when a run begins, one for whatever is
added to it.

Each of these methods opens sessions of its own, up to four in a call, and commits every one, which waits for the
disk. Here they all join one transaction (SQLAlchemy's "joining a session into an external transaction"), so that
a run is there with its parameters and data sets or not at all, and the disk is waited for once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.store.entries import Addition, Start, batches, inputs_of, tags_of

if TYPE_CHECKING:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy.orm import Session

_USER = "mlflow.user"
_BUSY_MS = 1000


class SqliteWriter:
    """Writes runs into the data base of a local store, which is there."""

    def __init__(self, uri: str, artifacts: Path) -> None:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        self._tables: Any = SqlAlchemyStore(uri, artifacts.as_uri())  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()

    def begin(self, start: Start, experiment_id: str) -> tuple[str, str]:
        """Make a run; return its id and the place of its files."""
        with self._lock, one_transaction(self._tables):
            run = self._tables.create_run(
                experiment_id, start.tags.get(_USER, "unknown"), start.at, tags_of(start.tags), start.name
            )
            run_id = str(run.info.run_id)
            for batch in batches(params=start.params):
                self._tables.log_batch(run_id, *batch)
            if start.data:
                self._tables.log_inputs(run_id, inputs_of(start.data))
        return run_id, str(run.info.artifact_uri)

    def add(self, run_id: str, addition: Addition) -> None:
        """Add figures and tags to a run, and end it where that is said; its files are no matter of the data
        base.
        """
        from mlflow.entities import RunStatus

        with self._lock, one_transaction(self._tables):
            for batch in batches(figures=addition.figures, tags=addition.tags):
                self._tables.log_batch(run_id, *batch)
            if addition.status:
                status = RunStatus.from_string(addition.status)
                self._tables.update_run_info(run_id, status, addition.at, None)


@contextmanager
def one_transaction(tables: SqlAlchemyStore) -> Iterator[None]:
    """Put what MLflow's methods write meanwhile into one transaction, undone where anything raises. It has the
    right to write from the start.

    Raises:
        MlflowException: whatever the data base refuses.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.orm import Session

    own = tables.ManagedSessionMaker
    try:
        with tables.engine.connect() as connection, connection.begin():
            for words in (f"PRAGMA busy_timeout = {_BUSY_MS}", "PRAGMA foreign_keys = ON", "BEGIN IMMEDIATE"):
                connection.exec_driver_sql(words)
            session = Session(
                bind=connection, join_transaction_mode="create_savepoint", expire_on_commit=False
            )
            tables.ManagedSessionMaker = _maker(session)
            with session:
                yield
                session.commit()
    except SQLAlchemyError as error:
        raise MlflowException(str(error)) from error
    finally:
        tables.ManagedSessionMaker = own


def _maker(session: Session) -> Callable[..., Any]:
    """Return what MLflow's methods ask for a session, which is always this one."""

    @contextmanager
    def same(**_: object) -> Iterator[Session]:
        yield session
        session.flush()

    return same


__all__ = ["SqliteWriter", "one_transaction"]
