"""A study: an ablation, a sweep or a search as one object of the store, with the cells that answer it.

In MLflow it is a run of its own with the mean of every configuration, and the cells that ran for it are its
children. A cell that was there before keeps the parent that it ran for; the study names all its cells by key, so
its report can be drawn again from the store alone, and `cells.csv` has the run of each.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, Literal

from harness.contracts import Status
from harness.errors import UserError
from harness.protocol import fingerprint
from harness.protocol.cells import Cell
from harness.results.ranking import by_protocol
from harness.selection import configured
from harness.store.mlflow_store import Store
from harness.store.record import Record

Kind = Literal["ablation", "sweep", "search"]
CONTENT = "study.json"
CELLS = "cells.csv"
_TAG = "owb.study"


@dataclass(frozen=True, kw_only=True)
class Study:
    """What was asked: `definition` is JSON-ready and, with the records of the cells, all that a report needs."""

    kind: Kind
    title: str
    definition: Mapping[str, Any]

    @cached_property
    def key(self) -> str:
        """Content address: the same question has the same key on every machine."""
        return fingerprint.of_value([self.kind, dict(self.definition)])


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredStudy:
    """A study as the store has it. cells: their keys, in the order that the report expects. started: seconds
    since 1970.
    """

    study: Study
    run_id: str
    experiment: str
    started: float
    cells: Sequence[str]


def keep(store: Store, study: Study, cells: Sequence[Cell], experiment: str) -> str:
    """Return the id of the study's run in this experiment, made where it is not there yet.

    Raises:
        UserError: the store cannot be written.
    """
    known = _runs(store, condition_of(study), experiment)
    if known:
        return str(known[-1].info.run_id)
    run_id = store.open_run(
        experiment,
        name=study.title,
        tags={_TAG: study.key, "owb.kind": study.kind, "owb.status": Status.RUNNING},
    )
    content = {
        "kind": study.kind,
        "title": study.title,
        "definition": dict(study.definition),
        "cells": [cell.key for cell in cells],
    }
    store.add_text(run_id, CONTENT, json.dumps(content, indent=2))
    return run_id


def end(store: Store, run_id: str, records: Sequence[Record]) -> None:
    """Say how the cells of a study ended, `done` where all have an end, else `failed`, and what they came to."""
    counts = Counter(str(record.status) for record in records)
    is_done = set(counts) <= {Status.DONE, Status.CACHED, Status.SKIPPED, Status.DIVERGED}
    figures, best = _means(records)
    tags = {"owb.cells": ", ".join(f"{count} {status}" for status, count in sorted(counts.items())), **best}
    store.add_text(run_id, CELLS, _cells_csv(records))
    store.close_run(run_id, status=Status.DONE if is_done else Status.FAILED, tags=tags, figures=figures)
    store.flush()


def _means(records: Sequence[Record]) -> tuple[list[tuple[str, float, int]], dict[str, str]]:
    """Return the mean over seeds of the primary metric of every configuration, as MLflow's name, value and step
    (the place of the configuration, from 0) with the best of them; and which that is, as tags.
    """
    figures: list[tuple[str, float, int]] = []
    tags = {}
    every = by_protocol(records)
    for own in every.values():
        primary = configured("scenario", own[0].scenario).metrics[0]
        by_strategy: dict[str, list[float]] = {record.strategy: [] for record in own}
        for record in own:
            if primary.name in record.metrics:
                by_strategy[record.strategy].append(record.metrics[primary.name])
        means = {label: fmean(found) for label, found in by_strategy.items() if found}
        if not means:
            continue
        on = "" if len(every) == 1 else f"/{re.sub(r'[^A-Za-z0-9_.: -]', ' ', own[0].scenario).strip()}"
        figures += [
            (f"mean/{primary.name}{on}", means[label], place)
            for place, label in enumerate(by_strategy)
            if label in means
        ]
        best = (max if primary.better == "higher" else min)(means, key=means.__getitem__)
        figures.append((f"best/{primary.name}{on}", means[best], 0))
        tags[f"owb.best{on}"] = best
    return figures, tags


def _cells_csv(records: Sequence[Record]) -> str:
    """Return a row per cell: the MLflow run that has it, wherever that hangs, and its figures."""
    names = list(dict.fromkeys(name for record in records for name in record.metrics))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["run_id", "scenario", "strategy", "seed", "status", *names])
    for record in records:
        figures = [record.metrics.get(name, "") for name in names]
        table.writerow(
            [record.run_id, record.scenario, record.strategy, record.seed, record.status, *figures]
        )
    return text.getvalue()


def condition_of(study: Study) -> str:
    """Return MLflow's condition for the runs of a study."""
    return f"tags.`{_TAG}` = '{study.key}'"


def studies(store: Store, experiment: str) -> list[StoredStudy]:
    """Return the studies of an experiment, oldest first."""
    return [_kept(store, run, experiment) for run in _runs(store, f"tags.`{_TAG}` LIKE '%'", experiment)]


def study_by_key(store: Store, prefix: str) -> StoredStudy | None:
    """Return the newest study whose key begins with `prefix`, None where there is none.

    Raises:
        UserError: several studies begin so.
    """
    safe = "".join(letter for letter in prefix if letter.isalnum())
    found = {}
    for experiment in store.experiments():
        for run in _runs(store, f"tags.`{_TAG}` LIKE '{safe}%'", experiment):
            found[run.data.tags[_TAG]] = (run, experiment)
    if len(found) > 1:
        raise UserError(f"{len(found)} studies begin with {prefix!r}: say more of the key")
    return next((_kept(store, run, experiment) for run, experiment in found.values()), None)


def records_of(store: Store, kept: StoredStudy) -> list[Record]:
    """Return the newest record of every cell of a study, in its order.

    Raises:
        UserError: cells that have not run.
    """
    known = {record.key: record for record in store.records()}
    missing = [key for key in kept.cells if key not in known]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(kept.cells)} cells of {kept.study.title!r} have not run: give its command again"
        )
    return [known[key] for key in kept.cells]


def _runs(store: Store, condition: str, experiment: str) -> list[Any]:
    """Return MLflow's runs of an experiment that match, oldest first."""
    return store.search(condition, experiment) if store.exists else []


def _kept(store: Store, run: Any, experiment: str) -> StoredStudy:
    content = json.loads(store.file_of_run(run.info.run_id, CONTENT).read_text(encoding="utf-8"))
    study = Study(kind=content["kind"], title=content["title"], definition=content["definition"])
    return StoredStudy(
        study=study,
        run_id=str(run.info.run_id),
        experiment=experiment,
        started=run.info.start_time / 1000,
        cells=tuple(content["cells"]),
    )


__all__ = [
    "Kind",
    "StoredStudy",
    "Study",
    "condition_of",
    "end",
    "keep",
    "records_of",
    "studies",
    "study_by_key",
]
