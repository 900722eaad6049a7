"""What a record costs: MLflow's client called once for everything, the least that its client can do, and ours, in
turns on one data base; then ours over a tracking server.

Run: python benchmarks/records.py [URI ...]; each URI is a tracking server that answers, such as http://127.0.0.1:5000.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness.contracts import Scores, Status
from harness.protocol.cells import Cell, cells, contenders, protocols
from harness.store.mlflow_store import Store
from harness.store.record import Ending, params_of

ROUNDS, RECORDS = 100, 100
STAGES = [0.9, 0.8, 0.7, 0.6, 0.5]
FIGURES = {"average_accuracy": 0.5, "forgetting": 0.1}
COST = {"seconds": 2.0, "learn_s": 1.5, "probe_s": 0.0, "predict_s": 0.5, "peak_mib": 300.0}
Way = Callable[[Cell], None]


def files_of(folder: Path) -> Path:
    """Write what a cell leaves: its log and its predictions; return their folder."""
    folder.mkdir(exist_ok=True)
    (folder / "log.txt").write_text("learned\n")
    (folder / "predictions.npz").write_bytes(bytes(4000))
    return folder


def recorded(store: Store, cell: Cell, files: Path) -> None:
    """Record a cell as a run of the harness does."""
    run_id = store.begin(cell, experiment="records", environment={"os": "any"})
    store.end(
        run_id,
        Ending(status=Status.DONE, digest="d", **COST),
        scores=Scores(final=FIGURES, per_stage={"seen_accuracy": STAGES}),
        files=files_of(files),
        stages=tuple(range(len(STAGES))),
    )


def by_client(store: Store, files: Path, *, least: bool) -> Way:
    """Return what records a cell by calls of MLflow's client: one after the other, or the `least` that there are,
    which leave out data sets and files.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

    client = MlflowClient(store.uri)
    experiment = client.get_experiment_by_name("records").experiment_id

    def record(cell: Cell) -> None:
        begun = {f"owb.{at}": "value" for at in range(14)}
        params = [Param(*each) for each in params_of(cell).items()]
        figures = [*FIGURES.items(), *COST.items()]
        metrics = [Metric(name, value, 1, 0) for name, value in figures]
        metrics += [Metric("stage/seen_accuracy", value, 1, at) for at, value in enumerate(STAGES)]
        tags = [RunTag("owb.digest", "d"), RunTag("owb.status", "done"), RunTag("owb.file", "stamp")]
        run_id = client.create_run(experiment, run_name="a cell", tags=begun).info.run_id
        if least:
            client.log_batch(run_id, metrics=metrics, params=params, tags=tags)
        else:
            client.log_batch(run_id, params=params)
            known = Dataset(name="digits", digest="0" * 36, source_type="code", source="{}")
            client.log_inputs(run_id, [DatasetInput(known, [InputTag("mlflow.data.context", "training")])])
            client.log_dict(run_id, json.loads("{}"), "cell.json")
            client.log_artifacts(run_id, str(files_of(files)))
            client.log_batch(run_id, metrics=metrics, tags=tags)
        client.set_terminated(run_id, "FINISHED")

    return record


def in_turns(ways: dict[str, Way], todo: list[Cell]) -> dict[str, tuple[float, float]]:
    """Return the median milliseconds of every way, on the clock and of the processor, cell by cell in turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for cell in todo:
        for name, way in ways.items():
            began = time.perf_counter(), time.process_time()
            way(cell)
            found[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return {
        name: (1e3 * statistics.median(clock), 1e3 * statistics.median(own))
        for name, rows in found.items()
        for clock, own in [tuple(zip(*rows[5:], strict=True))]
    }


def whole(store: Store, todo: list[Cell], files: Path) -> float:
    """Return the milliseconds a record when many are recorded, until the store has all of them."""
    began = time.perf_counter()
    for cell in todo:
        recorded(store, cell, files)
    store.flush()
    return 1e3 * (time.perf_counter() - began) / len(todo)


def main(uris: list[str]) -> None:
    """Measure and print."""
    todo = cells(protocols(["class-incremental"]), contenders(["replay"]), ROUNDS)
    with tempfile.TemporaryDirectory() as there:
        files, store = Path(there, "files"), Store(str(Path(there, "store")))
        recorded(store, todo[0], files)
        ways: dict[str, Way] = {
            "MLflow's client, a call for everything": by_client(store, files, least=False),
            "create_run, log_batch, set_terminated": by_client(store, files, least=True),
            "ours": lambda cell: recorded(store, cell, files),
        }
        found = in_turns(ways, todo)
        first = next(iter(found.values()))
        for name, (clock, own) in found.items():
            print(f"{name:<40} {clock:5.1f} ms, processor {own:5.1f} ms, ratio {clock / first[0]:.2f}")
        servers = {uri: Store(uri) for uri in uris}
        for uri, server in servers.items():
            recorded(server, todo[0], files)
            server.flush()
            pairs = [
                (whole(store, part, files), whole(server, part, files))
                for part in (todo[at : at + 20] for at in range(0, RECORDS, 20))
            ]
            ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(f"{uri}: {theirs:.1f} ms a record, sqlite {ours:.1f} ms, ratio {theirs / ours:.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
