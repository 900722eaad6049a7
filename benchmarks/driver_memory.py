"""Whether the driver's memory grows with the number of cells: its largest resident size after 20 and after 500 trivial cells.

Run: python benchmarks/driver_memory.py
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.execute import Limits, execute, plan
from harness.pool import Resources
from harness.protocol import cells, contenders, protocols
from harness.record import Store

TRIVIAL = Path(__file__).with_name("trivial.py")


def run(count: int) -> None:
    """Run `count` cells in this process and print the time and the largest memory."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        todo = cells(protocols([f"{TRIVIAL}:Coin"]), contenders([f"{TRIVIAL}:Heads"]), count)
        started = time.perf_counter()
        records = execute(plan(todo, store), store, experiment="memory", resources=Resources(workers=2), limits=Limits())
        seconds = time.perf_counter() - started
    assert {record.status for record in records} == {"done"}
    print(f"{count:>4} cells: driver's largest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, {seconds:.0f} s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(int(sys.argv[1]))
    else:
        for size in (20, 500):
            subprocess.run([sys.executable, __file__, str(size)], check=True)
