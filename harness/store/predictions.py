"""Stored predictions: one npz per cell, small integers where they suffice, read without unpickling.

Moments (a stage's end, or a probe in it) that asked for the same items are stored together: `0.gaps` between
ids once, and of every field an array `0.classes` (items, moments, ...) beside `0.classes.at` (moments, 2) of
stage and step, -1 for the end; moments of another shape or number format have an array of their own
(`0.scores~10`, `0.scores~10~float32`). An item's history lies in one stretch, so probes that hardly change
cost next to nothing. The digest is taken over the answers, not over the file.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.contracts import Prediction, StoredPrediction, rules_of
from harness.errors import UserError
from harness.protocol import fingerprint

Arrays = dict[str, np.ndarray[Any, Any]]
_END = -1
_BY_ITEM = {name for name, rule in rules_of(Prediction).items() if not rule.of_learner}
"""Fields whose arrays have a row for every id, whatever the scenario; of others the whole shape is said."""
READ_AT_A_GLANCE = 256 << 10
"""Bytes: 97 % of the files of our boards are smaller, and 10,000 of them are read in half a second."""


def digest(answers: Iterable[StoredPrediction]) -> str:
    """Return the digest of all answers of a cell."""
    flat: Arrays = {}
    for answer in answers:
        moment = f"{answer.stage:03d}" + ("" if answer.step is None else f"@{answer.step}")
        flat[f"{moment}.ids"] = answer.ids
        flat |= {f"{moment}.{name}": array for name, array in answer.arrays.items()}
    return fingerprint.of_arrays(flat)


def write_answers(path: Path, answers: Sequence[StoredPrediction]) -> None:
    """Write all answers of a cell, whole."""
    temporary = path.with_suffix(f".tmp{os.getpid()}")
    with temporary.open("wb") as file:
        np.savez_compressed(file, **_stacked(answers))  # type: ignore[arg-type]
    temporary.replace(path)


def read_answers(path: Path) -> list[StoredPrediction]:
    """Return the answers in order of stage and step; files of version 0.2, which kept every moment apart, are
    read as well.

    Raises:
        UserError: not a file of predictions.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        answers = _unstacked(arrays) if "0.gaps" in arrays else _moment_by_moment(arrays)
    except (
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(f"cannot read predictions in {path.name}: {error}") from None
    return sorted(
        answers, key=lambda answer: (answer.stage, float("inf") if answer.step is None else answer.step)
    )


def stamp_of(path: Path) -> str:
    """Return size and SHA-256 of a file of predictions, by which it is known later; raise `UserError` where
    it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return f"{path.stat().st_size} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise UserError(f"cannot read predictions in {path.name}: {error.strerror or error}") from None


def looks_whole(path: Path, stamp: str) -> bool:
    """Say whether a file of predictions has the size of its stamp, and where it is small the digest as well."""
    try:
        size = path.stat().st_size
        return size == int(stamp.partition(" ")[0]) and (size > READ_AT_A_GLANCE or stamp_of(path) == stamp)
    except (OSError, UserError):
        return False


def _stacked(answers: Sequence[StoredPrediction]) -> Arrays:
    groups: dict[bytes, list[StoredPrediction]] = {}
    for answer in answers:
        groups.setdefault(answer.ids.tobytes(), []).append(answer)
    arrays: Arrays = {}
    for group, together in enumerate(groups.values()):
        arrays[f"{group}.gaps"] = _small(
            np.diff(together[0].ids, prepend=0)
        )  # ids ascend, so these are small
        for name in sorted({name for answer in together for name in answer.arrays}):
            given = [(answer, answer.arrays[name]) for answer in together if name in answer.arrays]
            formats = {array.dtype.name for _, array in given}
            for shape, kind in sorted({(array.shape, array.dtype.name) for _, array in given}):
                # a head that grows answers more scores at every stage
                own = [
                    (answer, array)
                    for answer, array in given
                    if (array.shape, array.dtype.name) == (shape, kind)
                ]
                said = (*shape[name in _BY_ITEM :], *([kind] if len(formats) > 1 else []))
                field = f"{group}.{name}" + "".join(f"~{each}" for each in said)
                arrays[field] = _small(np.stack([array for _, array in own], axis=1))
                moments = [(answer.stage, _END if answer.step is None else answer.step) for answer, _ in own]
                arrays[f"{field}.at"] = np.array(moments, dtype=np.int64)
    return arrays


def _unstacked(arrays: Arrays) -> list[StoredPrediction]:
    answers: dict[tuple[int, int], StoredPrediction] = {}
    for field, moments in arrays.items():
        if not field.endswith(".at"):
            continue
        group, name, _ = field.split(".")
        ids = np.cumsum(_wide(arrays[f"{group}.gaps"]))
        values = arrays[f"{group}.{name}"]
        for place, (stage, step) in enumerate(moments.tolist()):
            answer = answers.setdefault(
                (stage, step),
                StoredPrediction(stage=stage, step=None if step == _END else step, ids=ids, arrays={}),
            )
            fields: Any = answer.arrays
            fields[name.partition("~")[0]] = _wide(np.ascontiguousarray(values[:, place]))
    return list(answers.values())


def _moment_by_moment(arrays: Arrays) -> list[StoredPrediction]:
    answers = []
    for moment in {name.partition(".")[0] for name in arrays}:
        stage, _, step = moment.partition("@")
        fields = {
            name.partition(".")[2]: _wide(array)
            for name, array in arrays.items()
            if name.partition(".")[0] == moment
        }
        answers.append(
            StoredPrediction(
                stage=int(stage), step=int(step) if step else None, ids=fields.pop("ids"), arrays=fields
            )
        )
    return answers


def _small(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype != np.int64 or not array.size:
        return array
    fitting = np.promote_types(np.min_scalar_type(array.min()), np.min_scalar_type(array.max()))
    return array.astype(fitting) if fitting.kind in "iu" else array


def _wide(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.astype(np.int64) if array.dtype.kind in "iu" else array
