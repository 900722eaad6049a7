"""Records read from the tables of a local store are those that MLflow's own search gives, in the same order."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pytest
from runs import BLOBS, Run, world

from harness.contracts import Status
from harness.execution.plan import plan
from harness.protocol.cells import cells, contenders, protocols
from harness.store import sqlite_reader
from harness.store.mlflow_store import Store
from harness.store.record import FINAL, record_of

STRATEGIES = [world(name) for name in ("Means", "Raises", "NotANumber", "Refuses")]


def _said(rows: Iterable[sqlite_reader.Row]) -> list[str]:
    """Return what the rows say, in words that are equal where they are, also what is not a number."""
    return [json.dumps(asdict(record_of(row)), sort_keys=True) for row in rows]


def test_tables_give_what_search_gives_and_plan_a_cached_run_without_mlflow(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tiny_run(STRATEGIES, seeds=2)
    tiny_run(STRATEGIES[1:2])  # once more
    store = Store(str(tmp_path / "store"))
    first, *_ = known
    (experiment,) = store.experiments()
    number = store.client.get_experiment_by_name(experiment).experiment_id  # type: ignore[union-attr]
    wanted = [
        {},
        {"experiment": number},
        {"experiment": "0"},
        {"key": first.key[:9]},
        {"key": "none"},
        {"protocols": ["none"]},
        {"protocols": [first.protocol_hash]},
        {"protocols": [first.protocol_hash, "none"], "experiment": "0"},
        {"since": 0},
        {"since": 1e15},
    ]
    counts = []
    for asked in wanted:
        with sqlite_reader.reading(store.database) as base:
            read = _said(sqlite_reader.rows(base, **asked))
        assert read == _said(store.searched(**asked))
        counts.append(len(read))
    assert counts == [9, 9, 0, 1, 0, 0, 9, 0, 9, 0]
    curves = store.stages_of(known)
    assert [len(curve["seen_accuracy"]) if curve else 0 for curve in curves] == [3, 1, 0, 0] * 2
    for record, curve in zip(known, curves, strict=True):
        history = store.client.get_metric_history(record.run_id, "stage/seen_accuracy")
        assert curve.get("seen_accuracy", {}) == {each.step: each.value for each in history}

    def refuse(_: Store) -> None:
        raise AssertionError("MLflow was opened")

    monkeypatch.setattr(Store, "client", property(refuse))
    store, todo = Store(str(tmp_path / "store")), cells(protocols([BLOBS]), contenders(STRATEGIES), 2)
    planned = plan(todo, store)
    assert {known.status for known in planned.cached.values()} == set(FINAL)
    assert [cell.contender.label for cell in planned.open] == [STRATEGIES[1]] * 2
    assert store.by_key(todo[0].key) == planned.cached[todo[0].key]
    assert len(store.answers(store.records("test")[0])) == 3


def test_of_two_ends_of_a_cell_the_newer_one_counts(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    tags = {
        "owb.schema": "1",
        "owb.key": "k",
        "owb.protocol": "p",
        "owb.scenario": "s",
        "owb.strategy": "t",
        "owb.seed": "0",
    }
    for status in (Status.DONE, Status.DONE, Status.DIVERGED):
        run_id = store.open_run("runs", name="a cell", tags={**tags, "owb.status": status})
        assert store.finished(["p", "q"])["k"].run_id == run_id
    assert store.finished([]) == store.finished(["q"]) == {}
    failed = store.open_run("runs", name="a cell", tags={**tags, "owb.status": Status.FAILED})
    assert store.finished(["p"]) == {}
    assert store.by_key("k").run_id == failed
