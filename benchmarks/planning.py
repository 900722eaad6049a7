"""What it costs to see that nothing is left to do: planning a fully cached re-run of 10,000 cells, 20
scenarios, 50 strategies, 10 seeds.

One record goes through the real store; the others are copies of its rows in the data base, each under the key
of its cell. Figures are seconds of the processor, so other programs on the machine hardly count, and the
largest memory. Each is taken in a process of its own: planning with all that belongs to it (protocols,
contenders, cells, keys, reading the store), and the whole command, which also ranks.

Run: python benchmarks/planning.py [OWB OF ANOTHER CHECKOUT]

With the `owb` of another checkout, the same is done there, in a store of its own.
"""

from __future__ import annotations

import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from harness.execution.machine import Machine

SCENARIOS, STRATEGIES, SEEDS, STAGES, ROUNDS = 20, 50, 10, 5, 3
SUITE = f"""\
name: planning
scenarios: [{", ".join(f"'class-incremental[dataset=digits,epochs={epochs}]'" for epochs in range(1, SCENARIOS + 1))}]
strategies: [fine-tune, joint, 'replay[memory=[{",".join(str(10 * number) for number in range(1, STRATEGIES - 1))}]]']
seeds: {SEEDS}
"""


def make(suite: Path, folder: str) -> None:
    """Fill a store with a record for every cell of the suite."""
    from harness.contracts import Scores, Status
    from harness.execution.environment import environment
    from harness.protocol.cells import cells, contenders, protocols, read_suite
    from harness.store.mlflow_store import Store
    from harness.store.record import Ending

    asked = read_suite(suite)
    every = cells(protocols(asked.scenarios), contenders(asked.strategies), asked.seeds)
    store = Store(folder)
    run_id = store.begin(every[0], experiment=asked.name, environment=environment(Machine()))
    names = [metric.name for metric in every[0].protocol.scenario.metrics]
    store.log(run_id, [(f"stage/{name}", 0.5, stage) for name in names for stage in range(STAGES)])
    ending = Ending(status=Status.DONE, digest=every[0].key, seconds=1.0, peak_mib=400.0)
    store.end(run_id, ending, scores=Scores(final=dict.fromkeys(names, 0.5)))
    with closing(sqlite3.connect(Path(folder) / "mlflow.db")) as base, base:
        for number, cell in enumerate(every[1:]):
            own = {
                "owb.key": cell.key,
                "owb.protocol": cell.protocol.hash,
                "owb.scenario": cell.protocol.label,
                "owb.strategy": cell.contender.label,
                "owb.seed": str(cell.seed),
                "mlflow.runName": str(cell),
            }
            copied = f"{number:032x}"
            for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
                columns = [row[1] for row in base.execute(f"PRAGMA table_info({table})")]
                taken = ", ".join("?" if column == "run_uuid" else column for column in columns)
                said = f"INSERT INTO {table} ({', '.join(columns)}) SELECT {taken} FROM {table} WHERE run_uuid = ?"
                base.execute(said, (copied, run_id))
            base.executemany(
                "UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ?",
                [(value, copied, key) for key, value in own.items()],
            )


def planning(suite: Path, folder: str) -> None:
    """Plan once in this process and print the seconds of the processor."""
    from harness.execution.execute import plan
    from harness.protocol.cells import cells, contenders, protocols, read_suite
    from harness.store.mlflow_store import Store

    asked = read_suite(suite)
    started = time.process_time()
    todo = cells(protocols(asked.scenarios), contenders(asked.strategies), asked.seeds)
    named, before = time.process_time(), _largest_mib()
    planned = plan(todo, Store(folder))
    left = len(planned.open), len(planned.packs)
    ended = time.process_time()
    if left != (0, 0):
        raise SystemExit(f"{left} of {len(todo)} cells and packs are open")
    print(f"{named - started:.2f} {ended - named:.2f} {before:.0f} {_largest_mib():.0f}")


def _largest_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(python: Path, suite: Path, folder: str) -> None:
    """Print what planning and the whole command cost with this interpreter."""
    rounds = [
        subprocess.run(
            [python, __file__, "planning", suite, folder],
            capture_output=True,
            check=True,
            text=True,
            cwd=suite.parent,
        )
        for _ in range(ROUNDS)
    ]
    figures = [map(float, done.stdout.split()) for done in rounds]
    cells, store, before, after = (statistics.median(column) for column in zip(*figures, strict=True))
    print(
        f"  planning         {cells + store:5.1f} s: {cells:.1f} s cells and keys, {store:.1f} s the store; "
        f"largest memory {before:.0f} MiB before the store, {after:.0f} after (medians of {ROUNDS})"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [python.with_name("owb"), "run", suite, "--store", folder, "--json"],
        capture_output=True,
        check=True,
        cwd=suite.parent,
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"  the whole command {used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime:.1f} s",
        flush=True,
    )


def main() -> None:
    """Make the stores and measure."""
    checkouts = {
        "this checkout": Path(sys.executable),
        **({"the other": Path(sys.argv[1]).with_name("python")} if sys.argv[1:] else {}),
    }
    with tempfile.TemporaryDirectory() as scratch:
        suite = Path(scratch, "planning.yaml")
        suite.write_text(SUITE, encoding="utf-8")
        for number, (name, python) in enumerate(checkouts.items()):
            store = str(Path(scratch, f"store-{number}"))
            subprocess.run([python, __file__, "make", suite, store], check=True, cwd=scratch)
            print(f"{name}, {SCENARIOS * STRATEGIES * SEEDS} cells, seconds of the processor:", flush=True)
            measured(python, suite, store)


if __name__ == "__main__":
    if sys.argv[1:2] in (["make"], ["planning"]):
        {"make": make, "planning": planning}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
    else:
        main()
