"""Stored predictions: one npz per cell, small integers where they suffice, read without unpickling.

Names inside: `000.ids`, `000.classes` for the answer after stage 0; `000@120.classes` for the probe at step 120 of that stage.
The digest is taken over the arrays, not over the file, whose bytes depend on the compressor.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness import fingerprint
from harness.contracts import Answer
from harness.errors import UserError

Arrays = dict[str, np.ndarray[Any, Any]]


def digest(answers: Iterable[Answer]) -> str:
    """Return the digest of all answers of a cell."""
    return fingerprint.of_arrays(_flat(answers))


def write_answers(path: Path, answers: Sequence[Answer]) -> None:
    """Write all answers of a cell, whole."""
    small = {name: _small(array) for name, array in _flat(answers).items()}
    temporary = path.with_suffix(f".tmp{os.getpid()}")
    with temporary.open("wb") as file:
        np.savez_compressed(file, **small)  # type: ignore[arg-type]
    temporary.replace(path)


def read_answers(path: Path) -> list[Answer]:
    """Return the answers in order of stage and step.

    Raises:
        UserError: not a file that `write_answers` wrote.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        moments = sorted({name.partition(".")[0] for name in arrays}, key=_moment_order)
        return [_answer(moment, arrays) for moment in moments]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot read predictions in {path.name}: {error}") from None


def _answer(moment: str, arrays: Arrays) -> Answer:
    stage, _, step = moment.partition("@")
    fields = {name.partition(".")[2]: _wide(array) for name, array in arrays.items() if name.partition(".")[0] == moment}
    ids = fields.pop("ids")
    return Answer(stage=int(stage), step=int(step) if step else None, ids=ids, arrays=fields)


def _flat(answers: Iterable[Answer]) -> Arrays:
    flat: Arrays = {}
    for answer in answers:
        moment = f"{answer.stage:03d}" + ("" if answer.step is None else f"@{answer.step}")
        flat[f"{moment}.ids"] = answer.ids
        flat |= {f"{moment}.{name}": array for name, array in answer.arrays.items()}
    return flat


def _moment_order(moment: str) -> tuple[int, float]:
    stage, _, step = moment.partition("@")
    return int(stage), float(step) if step else float("inf")


def _small(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype != np.int64 or not array.size:
        return array
    fitting = np.promote_types(np.min_scalar_type(array.min()), np.min_scalar_type(array.max()))
    return array.astype(fitting) if fitting.kind in "iu" else array


def _wide(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.astype(np.int64) if array.dtype.kind in "iu" else array
