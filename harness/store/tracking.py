"""The data base below MLflow: which file or server a store means, how it is made, and how its client waits while
it is busy.
"""

from __future__ import annotations

import functools
import re
import shutil
import sqlite3
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import unquote

from filelock import FileLock

from harness.errors import UserError
from harness.places import written

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

P = ParamSpec("P")
T = TypeVar("T")


def with_store_errors(action: Callable[P, T]) -> Callable[P, T]:
    """Say in one sentence why the store could not be written."""

    @functools.wraps(action)
    def wrapped(*args: P.args, **options: P.kwargs) -> T:
        from mlflow.exceptions import MlflowException

        try:
            return action(*args, **options)
        except (MlflowException, sqlite3.Error, OSError) as error:
            raise UserError(f"cannot write to the store: {first_line(error)}") from error

    return wrapped


class Waiting:
    """An MLflow client whose calls wait while the data base is busy. Each is one transaction, or may be given
    twice.
    """

    def __init__(self, client: MlflowClient, waits: Callable[..., Callable[..., Any]]) -> None:
        self._client, self._waits = client, waits

    def __getattr__(self, name: str) -> Any:
        return self._waits(
            getattr(self._client, name),
            writes=name.startswith(("create_", "log_", "set_", "delete_", "rename_")),
        )


def database_of(where: str) -> Path | None:
    """Return the data base of a local store, which is said by its folder or by the URI of the file; None of
    any other store.
    """
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", where):
        return written(where) / "mlflow.db"
    if not where.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    named = make_url(where).database or ":memory:"
    path = written(unquote(named.removeprefix("file:")) if named.startswith("file:") else named)
    return None if named == ":memory:" else path


def uri_of(database: Path) -> str:
    """Return the URI by which MLflow finds an sqlite file, whatever is in its path."""
    if not set(str(database)) & set("?%"):
        return f"sqlite:///{database}"
    from sqlalchemy.engine import URL

    return str(URL.create("sqlite+pysqlite", database=database.as_uri(), query={"uri": "true"}))


def make(database: Path) -> None:
    """Make a data base where there is none, whole: one that a killed process left half made could not be
    mended. It has no experiment: MLflow's own, `Default`, is deleted.
    """
    if _is_there(database):
        return
    from mlflow.tracking import MlflowClient

    being_made = database.parent / "being-made"
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.parent / "being-made.lock"):
        if not _is_there(database):
            shutil.rmtree(being_made, ignore_errors=True)
            being_made.mkdir()
            client = MlflowClient(tracking_uri=uri_of(being_made / "mlflow.db"))
            for experiment in client.search_experiments():
                client.delete_experiment(experiment.experiment_id)
            (being_made / "mlflow.db").replace(database)
            shutil.rmtree(being_made, ignore_errors=True)


def experiment_of(
    client: MlflowClient, name: str, place: str | None = None, tags: dict[str, str] | None = None
) -> str:
    """Return the id of an experiment; where it is not there, it is made, unless another driver does at this moment."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, place, tags=tags)
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _is_there(database: Path) -> bool:
    return database.is_file() and database.stat().st_size > 0


def is_outage(error: BaseException) -> bool:
    """Say whether an error means that the server does not answer, or not now, so that asking again may help."""
    from mlflow.exceptions import MlflowException
    from requests import HTTPError, RequestException

    if isinstance(error, HTTPError) and error.response is not None:
        code = error.response.status_code
    elif isinstance(error, MlflowException):
        code = int(error.get_http_status_code())  # type: ignore[no-untyped-call]
    else:
        return isinstance(error, RequestException)
    return code >= HTTPStatus.INTERNAL_SERVER_ERROR or code == HTTPStatus.TOO_MANY_REQUESTS


def first_line(error: BaseException) -> str:
    """Return what went wrong: the data base's own words, or why the line to a server failed, where that is behind
    it, else the first line.
    """
    said = _of_the_database(error) or _of_the_line(error) or str(error) or type(error).__name__
    return said.strip().splitlines()[0]


def _of_the_database(error: BaseException | None) -> str:
    """Return what sqlite refused first: where a disk is full, taking back what was begun is refused as well. Empty
    where it refused nothing.
    """
    said = ""
    while error is not None:
        if isinstance(error, sqlite3.Error):
            said = str(error)
        error = error.__cause__ or error.__context__
    return said


def _of_the_line(error: BaseException) -> str:
    """Return why a server could not be reached, without the layers that say so; empty where that is not it."""
    behind: BaseException | None = error
    while behind is not None and not type(behind).__module__.startswith("requests."):
        behind = behind.__cause__ or behind.__context__
    if behind is None or not behind.args:
        return ""
    return str(getattr(behind.args[0], "reason", None) or behind)


__all__ = [
    "Waiting",
    "database_of",
    "experiment_of",
    "first_line",
    "is_outage",
    "make",
    "uri_of",
    "with_store_errors",
]
