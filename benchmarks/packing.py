"""How well cells fill the workers: sum of cell times / (workers x wall time after start-up), through the real
pool and store.

Run: python benchmarks/packing.py
"""

from __future__ import annotations

import tempfile
import time

from harness.execution.execute import Limits, Update, execute, plan
from harness.execution.machine import Machine
from harness.protocol.cells import cells, contenders, protocols
from harness.store.mlflow_store import Store

WORKERS, CELLS = 2, 16
SCENARIO = "class-incremental[dataset=mnist5k,epochs=50]"


def main() -> None:
    """Run the cells and print the share of time that workers spent in cells."""
    moments: list[float] = []

    def listen(update: Update) -> None:
        moments.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        todo = cells(protocols([SCENARIO]), contenders(["replay"]), CELLS)
        started = time.perf_counter()
        run = plan(todo, store)
        records = execute(
            run, store, experiment="packing", machine=Machine(workers=WORKERS), limits=Limits(), listen=listen
        )
    inside = [record.seconds for record in records]
    wall = moments[-1] - moments[0]
    print(
        f"{len(records)} cells of {min(inside):.1f} to {max(inside):.1f} s ({SCENARIO} | replay) on {WORKERS} workers"
    )
    print(f"start-up {moments[0] - started:.1f} s, then {wall:.1f} s for {sum(inside):.1f} s of cells")
    print(f"packing: {sum(inside) / (WORKERS * wall):.3f}")


if __name__ == "__main__":
    main()
