"""Whether the driver's memory grows with the number of cells: trivial cells, 20 and 500, each in a process of
its own.

Run: python benchmarks/driver_memory.py
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from harness.contracts import Status
from harness.execution.execute import Limits, Update, execute, plan
from harness.execution.machine import Machine
from harness.protocol.cells import cells, contenders, protocols
from harness.store.mlflow_store import Store

TRIVIAL = Path(__file__).with_name("trivial.py")
EARLY = 20


def run(count: int) -> None:
    """Run `count` cells in this process; print the time, the largest memory, and the memory when the 20th and
    the last cell ended.
    """
    resident: list[float] = []

    def listen(update: Update) -> None:
        if update.status is Status.DONE:
            resident.append(psutil.Process().memory_info().rss / 2**20)

    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        todo = cells(protocols([f"{TRIVIAL}:Coin"]), contenders([f"{TRIVIAL}:Heads"]), count)
        started = time.perf_counter()
        execute(
            plan(todo, store),
            store,
            experiment="memory",
            machine=Machine(workers=2),
            limits=Limits(),
            listen=listen,
        )
        seconds = time.perf_counter() - started
    assert len(resident) == count
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{count:>4} cells: driver's largest memory {largest:.0f} MiB, {seconds:.0f} s; "
        f"resident after {EARLY} cells {resident[EARLY - 1]:.1f} MiB, after {count} {resident[-1]:.1f} MiB"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(int(sys.argv[1]))
    else:
        for size in (20, 500):
            subprocess.run([sys.executable, __file__, str(size)], check=True)
