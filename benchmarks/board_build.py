"""What it costs to build the page of an experiment of 10,000 cells: 20 scenarios, 50 strategies, 10 seeds, 2
% failures.

The records are synthetic and go through the real store, which takes most of the time; the build runs in a
process of its own, and its seconds and largest memory are printed. With FOLDER the store is kept there and
used again.

Run: python benchmarks/board_build.py [CELLS] [FOLDER]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from harness.contracts import Scores, Status
from harness.execution.environment import environment
from harness.execution.machine import Machine
from harness.protocol.cells import Cell, cells, contenders, protocols
from harness.store.mlflow_store import Store
from harness.store.record import Ending

SCENARIOS, STRATEGIES, SEEDS = 20, 50, 10
NAME = "board-build"


def todo(count: int) -> list[Cell]:
    """Return about `count` cells: baselines with many settings on digits with many budgets."""
    scenarios = protocols(
        [f"class-incremental[dataset=digits,epochs={epochs}]" for epochs in range(1, SCENARIOS + 1)]
    )
    memories = ",".join(str(10 * (number + 1)) for number in range(STRATEGIES - 2))
    strategies = contenders(["fine-tune", "joint", f"replay[memory=[{memories}]]"])
    return cells(scenarios, strategies, max(2, round(count / (SCENARIOS * STRATEGIES))))


def record(every: list[Cell], store: Store) -> None:
    """Record every cell with figures that depend on strategy, scenario and seed."""
    rng = np.random.default_rng(0)
    said = environment(Machine())
    merit = {label: rng.uniform(0.3, 0.9) for label in {cell.contender.label: None for cell in every}}
    merit |= {"fine-tune": 0.2, "joint": 0.95}
    for cell in every:
        run_id = store.begin(cell, experiment=NAME, environment=said)
        accuracy = float(np.clip(merit[cell.contender.label] + rng.normal(0, 0.02), 0, 1))
        figures = {
            metric.name: accuracy if at == 0 else float(rng.uniform())
            for at, metric in enumerate(cell.protocol.scenario.metrics)
        }
        cost = {"seconds": float(rng.uniform(1, 60)), "peak_mib": float(rng.uniform(300, 600))}
        if rng.uniform() < 0.02:
            store.end(run_id, Ending(status=Status.TIMEOUT, reason="took longer than 60 s", **cost))
        else:
            store.end(
                run_id, Ending(status=Status.DONE, digest=cell.key, **cost), scores=Scores(final=figures)
            )


def build(store: Store, out: Path) -> None:
    """Build the page in a process of its own; print seconds, largest memory and the size of the page."""
    command = ["board", "build", "--store", str(store.folder), "--name", NAME, "--out", str(out)]
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "from harness.cli import main; main()", *command], check=True)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    largest, busy = used.ru_maxrss / 1024, used.ru_utime + used.ru_stime
    size = (out / NAME / "index.html").stat().st_size / 1e6
    print(
        f"build: {seconds:.1f} s ({busy:.1f} s of one core), largest memory {largest:.0f} MiB, page {size:.1f} MB"
    )


def main() -> None:
    """Make the records where they are not there yet, and build."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else SCENARIOS * STRATEGIES * SEEDS
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(str(Path(sys.argv[2]) if len(sys.argv) > 2 else Path(scratch, "store")))
        if NAME not in store.experiments():
            every = todo(count)
            started = time.perf_counter()
            record(every, store)
            print(f"{len(every)} records made in {time.perf_counter() - started:.0f} s")
        build(store, Path(scratch, "site"))


if __name__ == "__main__":
    main()
