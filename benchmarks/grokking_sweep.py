"""A sweep of 64 settings of grokking x 3 seeds: learned in packs, and every cell alone, through the real pool
and store.

Run: python benchmarks/grokking_sweep.py [WORKERS] [SETTINGS], the first of the 64 where fewer are said
"""

from __future__ import annotations

import sys
import tempfile

from harness.execution.execute import Limits, execute, plan
from harness.execution.machine import Machine
from harness.protocol.cells import cells, contenders, protocols
from harness.store.mlflow_store import Store
from harness.store.record import Record

SCENARIO = "grokking[preset=ci,corruption=0.2,probe_every=50]"
SWEEP = "grok-adamw[weight_decay=[0,1,2,5,10,15,20,25],lr=[0.003,0.01,0.02,0.03],dropout=[0,0.3]]"


def main() -> None:
    """Print the seconds that workers spent in cells both ways, and their ratio."""
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    settings = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    todo = cells(protocols([SCENARIO]), contenders([SWEEP])[:settings], 3)
    seconds = {}
    for together in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            store = Store(folder)
            records = execute(
                plan(todo, store),
                store,
                experiment="sweep",
                machine=Machine(workers=workers, together=together),
                limits=Limits(),
            )
        seconds[together] = _spent(records)
        how = (
            f"in packs of up to {max(record.together for record in records)}"
            if together
            else "every cell alone"
        )
        print(f"{len(records)} cells {how}: {seconds[together]:.1f} s in {workers} workers", flush=True)
    print(f"packed: {seconds[False] / seconds[True]:.2f} x less work")


def _spent(records: list[Record]) -> float:
    failed = [record for record in records if record.status != "done"]
    if failed:
        raise SystemExit(f"{len(failed)} cells did not end well, the first: {failed[0].reason}")
    return sum(record.seconds for record in records)


if __name__ == "__main__":
    main()
