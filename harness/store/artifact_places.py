"""Where the files of a local store lie: in `artifacts`, beside its data base, wherever the store's folder is
now.

MLflow writes absolute places into the data base, so that a store which is moved would be half a store, and a
copy would write into its original. Only their ends count here, which begin below the store: the folder of an
experiment. `settle` brings the places in the data base up to date for MLflow's own page.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import unquote

FOLDER = "artifacts"
_UNSAFE = '<>:"/\\|?*%\0'
_OURS = (
    "SELECT experiments.experiment_id, name, artifact_location FROM experiments JOIN experiment_tags AS ours"
    " ON ours.experiment_id = experiments.experiment_id AND ours.key = 'owb'"
)


def folder_of_new(store: Path, experiment: str) -> Path:
    """Return where an experiment that is made now has its files: one folder below the store, whatever its
    name is.
    """
    name = experiment.translate({ord(letter): f"%{ord(letter):02X}" for letter in _UNSAFE})
    return store / FOLDER / (f"%2E{name[1:]}" if name.startswith(".") else name)


def folder_of_run(base: sqlite3.Connection, store: Path, run_id: str) -> Path | None:
    """Return where the files of a run lie, None where its experiment was not made by us and has a place of
    its own.
    """
    of_run = " WHERE experiments.experiment_id = (SELECT experiment_id FROM runs WHERE run_uuid = ?)"
    for _, name, location in base.execute(_OURS + of_run, (run_id,)):
        folder = _folder(store, name, location)
        return folder / run_id / FOLDER if folder else None
    return None


def settle(base: sqlite3.Connection, store: Path) -> None:
    """Bring the places of experiments and runs in the data base up to date, all or none; `base` has no
    transaction.
    """
    if not _moved(base, store):
        return
    base.execute("BEGIN IMMEDIATE")
    for experiment, before, now in _moved(base, store):
        base.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (now, experiment)
        )
        of_runs = "UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?) WHERE experiment_id = ?"
        base.execute(of_runs, (f"{before}/", f"{now}/", experiment))
    base.execute("COMMIT")


def _moved(base: sqlite3.Connection, store: Path) -> list[tuple[int, str, str]]:
    """Return the experiments of ours that were made elsewhere: id, place in the data base, place now."""
    every = [
        (experiment, location, _folder(store, name, location))
        for experiment, name, location in base.execute(_OURS)
    ]
    return [
        (experiment, location, folder.as_uri())
        for experiment, location, folder in every
        if folder and folder.as_uri() != location
    ]


def _folder(store: Path, name: str, location: str) -> Path | None:
    """Return the folder of an experiment, which it keeps where MLflow renames it; None where it does not lie
    below a store.
    """
    _, is_below, own = location.rpartition(f"/{FOLDER}/")
    own = unquote(own)
    return (
        store / FOLDER / own
        if location.startswith("file:") and is_below and ("/" not in own or own == name)
        else None
    )


__all__ = ["folder_of_new", "folder_of_run", "settle"]
