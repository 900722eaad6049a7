"""What a local store writes is what MLflow's own client writes, in one transaction at each end of a run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from harness.contracts import Scores, Status
from harness.protocol.cells import Cell, cells, contenders, protocols
from harness.store.entries import Figure, Start, batches
from harness.store.mlflow_store import Store
from harness.store.record import Ending, params_of
from harness.store.sqlite_writer import SqliteWriter

SCORES = Scores(
    final={"average_accuracy": 0.5, "forgetting": -0.25},
    per_stage={"seen_accuracy": [1.0, math.nan, 0.5]},
    probes={"seen_accuracy": [(1, 20, 0.75)]},
)
ENDING = Ending(status=Status.DONE, digest="d", seconds=2.0, learn_s=1.5, reason="why")


@pytest.fixture
def cell() -> Cell:
    """Return a cell that is not learned."""
    return cells(protocols(["class-incremental"]), contenders(["replay"]), 1)[0]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a store that has one run."""
    made = Store(str(tmp_path / "store"))
    made.open_run("runs", name="another", tags={})
    return made


def _commits(store: Store) -> int:
    """Return how often the data base was written: sqlite counts it in bytes 24 to 27 of the file."""
    return int.from_bytes(store.database.read_bytes()[24:28], "big")


def _content(store: Store, run_id: str) -> dict[str, Any]:
    run = store.client.get_run(run_id)
    history = {
        name: sorted(
            (point.step, str(point.value)) for point in store.client.get_metric_history(run_id, name)
        )
        for name in run.data.metrics
    }
    inputs = [
        (
            each.dataset.name,
            each.dataset.digest,
            each.dataset.source,
            [(tag.key, tag.value) for tag in each.tags],
        )
        for each in run.inputs.dataset_inputs
    ]
    times = run.info.start_time <= run.info.end_time
    of_info = (run.info.run_name, run.info.user_id, run.info.status, run.info.lifecycle_stage, times)
    newest = {name: str(value) for name, value in run.data.metrics.items()}
    return {
        "info": of_info,
        "tags": run.data.tags,
        "params": run.data.params,
        "newest": newest,
        "history": history,
        "inputs": inputs,
    }


def _by_client(store: Store, cell: Cell, tags: dict[str, str]) -> str:
    """Record a cell by calls of MLflow's client; return the id of the run."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    client = store.client
    experiment = client.get_experiment_by_name("runs")
    run = client.create_run(
        experiment.experiment_id,  # type: ignore[union-attr]
        run_name=f"{cell.contender.label} | {cell.protocol.label} | seed {cell.seed}",
        tags={**tags, "owb.status": "running"},
    )
    client.log_batch(run.info.run_id, params=[Param(*each) for each in params_of(cell).items()])
    for name, digest in cell.protocol.content["data"].items():
        source = json.dumps({"tags": {"mlflow.source.type": "LOCAL", "mlflow.source.name": name}})
        known = Dataset(name=name, digest=digest[:36], source_type="code", source=source)
        client.log_inputs(
            run.info.run_id, datasets=[DatasetInput(known, [InputTag("mlflow.data.context", "training")])]
        )
    rows = [("average_accuracy", 0.5, 0), ("forgetting", -0.25, 0), ("cost/seconds", 2.0, 0)]
    rows += [("cost/learn_seconds", 1.5, 0), ("probe/seen_accuracy/stage-1", 0.75, 20)]
    rows += [("stage/seen_accuracy", value, at) for at, value in enumerate((1.0, math.nan, 0.5))]
    for at, (name, value, step) in enumerate(rows):
        client.log_batch(run.info.run_id, metrics=[Metric(name, value, 1_000 + at, step)])
    client.log_batch(
        run.info.run_id,
        tags=[RunTag("owb.digest", "d"), RunTag("owb.reason", "why"), RunTag("owb.status", "done")],
    )
    client.set_terminated(run.info.run_id, "FINISHED")
    return str(run.info.run_id)


def test_a_run_holds_what_mlflows_client_would_have_written(store: Store, cell: Cell) -> None:
    ours = store.begin(cell, experiment="runs", environment={"os": "x"})
    tags = store.client.get_run(ours).data.tags
    store.end(ours, ENDING, scores=SCORES, stages=(0, 1, 2))
    theirs = _by_client(store, cell, tags)
    assert _content(store, ours) == _content(store, theirs)
    assert json.loads(store.file_of_run(ours, "cell.json").read_text())["environment"] == {"os": "x"}


def test_a_run_begins_goes_on_and_ends_in_one_transaction_each(store: Store, cell: Cell) -> None:
    before = _commits(store)
    run_id = store.begin(cell, experiment="runs", environment={})
    assert _commits(store) == before + 1
    store.add_stages(run_id, SCORES, (0, 1))
    assert _commits(store) == before + 2
    store.end(run_id, ENDING, scores=SCORES, stages=(2,))
    assert _commits(store) == before + 3


def test_a_run_that_is_refused_in_part_is_not_there_at_all(store: Store) -> None:
    """MLflow takes 100 parameters in a call, so that the wrong name is in the second."""
    many = {f"p{at:03}": str(at) for at in range(150)}
    experiment = store.client.get_experiment_by_name("runs").experiment_id  # type: ignore[union-attr]
    writer = SqliteWriter(store.uri, store.folder / "artifacts")
    with pytest.raises(MlflowException, match=r"wrong\?"):
        writer.begin(
            Start(experiment="runs", name="refused", tags={}, params={**many, "wrong?": ""}), experiment
        )
    run_id, _ = writer.begin(Start(experiment="runs", name="taken", tags={}, params=many), experiment)
    runs = store.client.search_runs([experiment])
    assert {run.info.run_name for run in runs} == {"another", "taken"}
    assert store.client.get_run(run_id).data.params == many


@pytest.mark.parametrize(
    ("params", "figures", "tags"), [(0, 0, 0), (0, 0, 3), (101, 0, 0), (250, 2000, 7), (3, 801, 0)]
)
def test_batches_hold_everything_once_within_mlflows_limits(params: int, figures: int, tags: int) -> None:
    every = list(
        batches(
            params={f"p{at}": "v" for at in range(params)},
            figures=[Figure("f", float(at), at, 0) for at in range(figures)],
            tags={f"t{at}": "v" for at in range(tags)},
        )
    )
    assert [metric.step for batch in every for metric in batch.metrics] == list(range(figures))
    assert [param.key for batch in every for param in batch.params] == [f"p{at}" for at in range(params)]
    assert [tag.key for batch in every for tag in batch.tags] == [f"t{at}" for at in range(tags)]
    assert not any(batch.tags for batch in every[:-1])
    assert all(len(batch.params) <= 100 and sum(map(len, batch)) <= 1000 for batch in every)
    assert len(every) == max(-(-params // 100), -(-figures // 800), bool(tags))
