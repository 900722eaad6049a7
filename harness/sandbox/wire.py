"""What goes between the gate and the sandbox: frames of a JSON header and an archive of arrays, read without
unpickling.

A frame is 4 + 8 bytes of lengths (big-endian), the header, the archive. Stages and queries go in, answers
come out.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from harness.cell.run import CellSettings
from harness.cell.sealing import Episode
from harness.contracts import (
    AnyArray,
    Inputs,
    IntArray,
    NoiseInfo,
    Query,
    Rule,
    Stage,
    StoredPrediction,
    TrainingBudget,
    Validation,
)
from harness.sandbox.arrays import npz_problems

_LENGTHS = struct.Struct(">IQ")
_LARGEST_HEADER = 4 << 20


class BadFrame(Exception):
    """What came is no frame: cut short, too large, or not arrays."""


class Frame(NamedTuple):
    """One message."""

    header: dict[str, Any]
    arrays: dict[str, AnyArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the sandbox is told: nothing of the truth, of the seed, or of what the scenario is called.

    source: text of the strategy's file, None for one that is installed.  settings: of a cell.  interrupted:
    whether a cell is begun again after its first stage, as if it had been killed.
    scenario, reveal: for conformance and digests alone, which deal by themselves and are for trusted code: a
    scenario's selection, and whether labels are handed over.  exact: whether `params` must be all that the
    strategy has.
    seeds: of a digest, those that are run one after another in one process.
    """

    kind: Literal["cell", "conformance", "digest"]
    strategy: str
    source: str | None
    params: Mapping[str, Any]
    threads: int = 1
    settings: CellSettings | None = None
    interrupted: bool = False
    scenario: str = ""
    reveal: bool = False
    exact: bool = True
    seeds: tuple[int, ...] = ()

    def header(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return asdict(self)

    @classmethod
    def of(cls, header: dict[str, Any]) -> Task:
        """Return what `header()` gave, after it has been JSON."""
        settings = header["settings"] and _settings_of(header["settings"])
        return cls(**{**header, "settings": settings, "seeds": tuple(header["seeds"])})


@dataclass(frozen=True, slots=True)
class Stored:
    """The items of what was a loader, in memory."""

    array: AnyArray

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *item shape)."""
        return self.array.shape

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: IntArray) -> AnyArray:
        items: AnyArray = self.array[index]
        return items

    def subset(self, rows: IntArray) -> Stored:
        """Return the items at `rows`."""
        return Stored(self.array[rows])


def packed(header: Mapping[str, Any], arrays: Mapping[str, AnyArray] | None = None) -> bytes:
    """Return a frame as bytes."""
    text = json.dumps(header).encode()
    body = io.BytesIO()
    if arrays:
        np.savez(body, **arrays)  # type: ignore[arg-type]
    return _LENGTHS.pack(len(text), body.tell()) + text + body.getvalue()


def unpacked(read: Callable[[int], bytes], *, largest: int) -> Frame:
    """Return the next frame. `read` gives exactly as many bytes as asked.

    Raises:
        BadFrame: see there.
    """
    header_size, body_size = _LENGTHS.unpack(read(_LENGTHS.size))
    if header_size > _LARGEST_HEADER or body_size > largest:
        raise BadFrame(f"a message of {(header_size + body_size) >> 20} MiB")
    try:
        header = json.loads(read(header_size))
    except (ValueError, RecursionError, MemoryError):
        raise BadFrame("a message that is not JSON") from None
    if not isinstance(header, dict):
        raise BadFrame("a message without a header")
    body = io.BytesIO(read(body_size))
    if not body_size:
        return Frame(header, {})
    if problem := next(npz_problems(body, largest=largest), ""):
        raise BadFrame(problem)
    body.seek(0)
    with np.load(body, allow_pickle=False) as content:
        return Frame(header, {name: content[name] for name in content.files})


def episode_frame(episode: Episode, *, query_is_known: bool) -> bytes:
    """Return a stage with its query; a query that was sent before is not sent again."""
    stage, query = episode
    arrays: dict[str, AnyArray] = {"stage.ids": stage.ids, "stage.labels": stage.labels}
    header: dict[str, Any] = {
        "kind": "episode",
        "index": stage.index,
        "named_classes": stage.named_classes,
        "new_classes": stage.new_classes,
        "task_access": stage.task_access,
        "told": None if stage.noise_info is None else stage.noise_info.rate,
        "query_is_known": query_is_known,
    }
    loaders = _put(arrays, "stage.inputs", stage.inputs)
    if stage.noise_info is not None and stage.noise_info.matrix is not None:
        arrays["told.matrix"] = stage.noise_info.matrix
    if (held := stage.validation) is not None:
        arrays |= {"validation.ids": held.ids, "validation.labels": held.labels}
        loaders += _put(arrays, "validation.inputs", held.inputs)
    if not query_is_known:
        arrays["query.ids"] = query.ids
        loaders += _put(arrays, "query.inputs", query.inputs)
        if query.tasks is not None:
            arrays["query.tasks"] = query.tasks
    return packed({**header, "loaders": loaders}, arrays)


def episode_of(frame: Frame, query: Query | None) -> Episode:
    """Return the episode of a frame; `query` is the one sent before. Arrays are read-only, as a worker gets
    them.
    """
    header, arrays = frame
    for array in arrays.values():
        array.flags.writeable = False

    def inputs(name: str) -> Inputs:
        return Stored(arrays[name]) if name in header["loaders"] else arrays[name]

    validation = None
    if "validation.ids" in arrays:
        validation = Validation(
            ids=arrays["validation.ids"],
            inputs=inputs("validation.inputs"),
            labels=arrays["validation.labels"],
        )
    told = (
        None if header["told"] is None else NoiseInfo(rate=header["told"], matrix=arrays.get("told.matrix"))
    )
    stage = Stage(
        index=header["index"],
        ids=arrays["stage.ids"],
        inputs=inputs("stage.inputs"),
        labels=arrays["stage.labels"],
        named_classes=header["named_classes"],
        new_classes=header["new_classes"],
        task_access=header["task_access"],
        validation=validation,
        noise_info=told,
    )
    if not header["query_is_known"]:
        query = Query(ids=arrays["query.ids"], inputs=inputs("query.inputs"), tasks=arrays.get("query.tasks"))
    assert query is not None
    return Episode(stage, query)


def answers_frame(answers: Sequence[StoredPrediction]) -> bytes:
    """Return the answers of one stage."""
    moments = [{"stage": answer.stage, "step": answer.step} for answer in answers]
    arrays = {f"{place}.ids": answer.ids for place, answer in enumerate(answers)}
    arrays |= {
        f"{place}.{name}": array
        for place, answer in enumerate(answers)
        for name, array in answer.arrays.items()
    }
    return packed({"kind": "answers", "moments": moments}, arrays)


def answers_of(frame: Frame) -> list[StoredPrediction]:
    """Return the answers of a frame.

    Raises:
        BadFrame: not answers.
    """
    try:
        found = []
        for place, moment in enumerate(frame.header["moments"]):
            own = {
                name.partition(".")[2]: array
                for name, array in frame.arrays.items()
                if name.partition(".")[0] == str(place)
            }
            step = None if moment["step"] is None else int(moment["step"])
            found.append(
                StoredPrediction(stage=int(moment["stage"]), step=step, ids=own.pop("ids"), arrays=own)
            )
    except (KeyError, TypeError, ValueError):
        raise BadFrame("answers that are none") from None
    return found


def _settings_of(said: Mapping[str, Any]) -> CellSettings:
    """Return what `asdict` took apart, after it has been JSON."""
    rules = {name: Rule(**{**rule, "axes": tuple(rule["axes"])}) for name, rule in said["rules"].items()}
    tuples = {name: tuple(value) for name, value in said.items() if isinstance(value, list)}
    return CellSettings(**{**said, **tuples, "budget": TrainingBudget(**said["budget"]), "rules": rules})


def _put(arrays: dict[str, AnyArray], name: str, inputs: Inputs) -> list[str]:
    """Add inputs to `arrays`; return the name where they were a loader."""
    if isinstance(inputs, np.ndarray):
        arrays[name] = inputs
        return []
    arrays[name] = inputs[np.arange(len(inputs))]
    return [name]


__all__ = [
    "BadFrame",
    "Frame",
    "Stored",
    "Task",
    "answers_frame",
    "answers_of",
    "episode_frame",
    "episode_of",
    "packed",
    "unpacked",
]
