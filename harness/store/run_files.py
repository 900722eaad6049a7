"""Files of a run, put where MLflow says that they lie: in a folder, or wherever a server keeps them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse


def put_files(place: str, uri: str, texts: Mapping[str, str], folder: Path | None) -> None:
    """Store texts, by the names of their files, and the files of a folder. `uri` is that of the store.

    Raises:
        OSError, MlflowException: they cannot be written.
    """
    if place.startswith("file:"):
        _copy(Path(unquote(urlparse(place).path)), texts, folder)
    elif texts or folder:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        # not by MLflow's client, which would hold on to a repository object per run
        repository: Any = get_artifact_repository(place, tracking_uri=uri)
        if texts:
            with tempfile.TemporaryDirectory() as written:
                _copy(Path(written), texts, None)
                repository.log_artifacts(written)
        if folder:
            repository.log_artifacts(str(folder))


def _copy(place: Path, texts: Mapping[str, str], folder: Path | None) -> None:
    """Write texts, and copy the files of a folder without their permissions."""
    place.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (place / name).write_text(text, encoding="utf-8")
    for path in (found for found in (folder.rglob("*") if folder else ()) if found.is_file()):
        target = place / path.relative_to(folder or place)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


__all__ = ["put_files"]
