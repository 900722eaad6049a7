"""What is written of a run: what it begins with, and what is added to it until it ends. Plain values, so that they
can be kept as JSON, and as the objects that MLflow takes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.contracts import Status

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric, Param, RunTag

FINISHED, FAILED = "FINISHED", "FAILED"
_DIGEST = 36  # letters; MLflow takes no more
_PARAMS, _FIGURES = 100, 800  # in a batch; MLflow takes 100 parameters, 100 tags, and 1,000 things in all


class Figure(NamedTuple):
    """A figure of a run. step: the stage, or the step of a probe. at: milliseconds since 1970."""

    name: str
    value: float
    step: int
    at: int


class Batch(NamedTuple):
    """What MLflow takes in one call of `log_batch`."""

    metrics: list[Metric]
    params: list[Param]
    tags: list[RunTag]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a run begins with. data: the digests of its data sets by name. texts: files by name. at: when, in
    milliseconds since 1970.
    """

    experiment: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    at: int = field(default_factory=lambda: now_ms())


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """What is added to a run. status: MLflow's, of a run that ends with it, `at` this millisecond since 1970;
    empty of one that goes on. texts: files by name. files: a folder whose files are added.
    """

    figures: Sequence[Figure] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    files: Path | None = None
    status: str = ""
    at: int = field(default_factory=lambda: now_ms())


def ending(status: Status) -> str:
    """Return MLflow's word for how a run ended."""
    return FINISHED if status is Status.DONE else FAILED


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)


def figures_of(rows: Sequence[tuple[str, float, int]]) -> list[Figure]:
    """Return rows of name, value and step as figures of this moment."""
    now = now_ms()
    return [Figure(name, float(value), step, now) for name, value, step in rows]


def tags_of(tags: Mapping[str, str]) -> list[RunTag]:
    """Return tags as MLflow takes them."""
    from mlflow.entities import RunTag

    return [RunTag(name, value) for name, value in tags.items()]


def inputs_of(data: Mapping[str, str]) -> list[DatasetInput]:
    """Return data sets as MLflow takes them, each by its name and the beginning of its digest."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    found = []
    for name, digest in data.items():
        source = json.dumps({"tags": {"mlflow.source.type": "LOCAL", "mlflow.source.name": name}})
        known = Dataset(name=name, digest=digest[:_DIGEST], source_type="code", source=source)
        found.append(DatasetInput(known, [InputTag("mlflow.data.context", "training")]))
    return found


def batches(
    *,
    params: Mapping[str, str] | None = None,
    figures: Sequence[Figure] = (),
    tags: Mapping[str, str] | None = None,
) -> Iterator[Batch]:
    """Give all this in as few batches as MLflow takes it in, none where there is nothing. The tags come with the
    last, and MLflow writes those of a batch after its figures.
    """
    from mlflow.entities import Metric, Param

    every = [Param(name, value) for name, value in (params or {}).items()]
    count = max(-(-len(every) // _PARAMS), -(-len(figures) // _FIGURES), 1 if tags else 0)
    for at in range(count):
        own = figures[at * _FIGURES : (at + 1) * _FIGURES]
        yield Batch(
            [Metric(figure.name, figure.value, figure.at, figure.step) for figure in own],
            every[at * _PARAMS : (at + 1) * _PARAMS],
            tags_of(tags or {}) if at == count - 1 else [],
        )


__all__ = [
    "Addition",
    "Batch",
    "Figure",
    "Start",
    "batches",
    "ending",
    "figures_of",
    "inputs_of",
    "now_ms",
    "tags_of",
]
