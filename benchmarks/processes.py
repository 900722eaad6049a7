"""What a process per cell costs: how soon a cell begins, what a timeout delays, what a large stage costs, and
trivial cells a second.

Run: OMP_NUM_THREADS=1 python benchmarks/processes.py [OWB OF ANOTHER CHECKOUT]

With the `owb` of another checkout, runs of trivial cells alternate between the two, each into a store of its
own.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from trivial import Coin

from harness.cell.run import CellSettings
from harness.cell.sealing import Episode
from harness.contracts import Query, Stage, Status
from harness.execution.worker import Worker
from harness.processes.mapped import Mapped
from harness.processes.messages import Job, Outcome
from harness.processes.parent import OFTEN
from harness.processes.workshop import Workshop, open_workshop

TRIVIAL = Path(__file__).parent / "trivial.py"
CELLS, ROUNDS, STARTS = 500, 3, 64
SETTINGS = CellSettings(root_seed=0, budget=Coin().budget())


def episode(size: int) -> Episode:
    """Return one stage of ten items that together have `size` bytes."""
    inputs = np.zeros((10, max(1, size // 40)), np.float32)
    stage = Stage(
        index=0, ids=np.arange(10), inputs=inputs, labels=np.arange(10) % 2, named_classes=2, new_classes=2
    )
    return Episode(stage, Query(ids=np.arange(10), inputs=np.zeros((10, 1), np.float32)))


def run(
    workshop: Workshop, mapped: Mapped, *, timeout_s: float = 60.0, **params: Any
) -> tuple[float, Outcome]:
    """Run one cell; return the seconds from its order to the first line of its strategy, and how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        mark = Path(folder) / "mark"
        job = Job(
            key="cell",
            strategy=f"{TRIVIAL}:Clock",
            source=TRIVIAL.read_text(),
            params={"mark": str(mark), **params},
            settings=SETTINGS,
            keep=Path(folder),
            shared=(),
            timeout_s=timeout_s,
            memory_mib=16384,
        )
        ordered = time.monotonic()
        *_, outcome = Worker(1, workshop=workshop).run(job, [mapped.path])
        assert isinstance(outcome, Outcome)
        if outcome.status not in (Status.DONE, Status.TIMEOUT):
            raise SystemExit(outcome.reason)
        return float(mark.read_text()) - ordered, outcome


def starts() -> None:
    """Print how soon cells begin, forked and begun anew."""
    small = Mapped([episode(40)])
    for name, forks, count in (("forked", True, STARTS), ("begun anew", False, 5)):
        workshop = open_workshop(1, forks=forks)
        workshop.wait_ready()
        run(workshop, small)
        first, whole = [], []
        for _ in range(count):
            started = time.monotonic()
            first.append(run(workshop, small)[0])
            whole.append(time.monotonic() - started)
        print(
            f"from order to strategy, {name:<10} {1000 * statistics.median(first):7.1f} ms "
            f"(median of {count}; {1000 * min(first):.1f} to {1000 * max(first):.1f})",
            flush=True,
        )
        if forks:
            print(
                f"a cell that does nothing, from order to end: {1000 * statistics.median(whole[: OFTEN - 2]):.1f} ms, "
                f"{1000 * statistics.median(whole[OFTEN:]):.1f} ms in large pages (medians of {OFTEN - 2} "
                f"and {count - OFTEN})",
                flush=True,
            )
            late = []
            for _ in range(5):
                started = time.monotonic()
                run(workshop, small, timeout_s=1.0, sleep=30.0)
                run(workshop, small)
                late.append(time.monotonic() - started - 1.0)
            print(
                f"from a limit to the end of the next cell {1000 * statistics.median(late):7.1f} ms "
                f"(median of 5; at most {1000 * max(late):.1f})",
                flush=True,
            )
        workshop.close()


def large() -> None:
    """Print what a stage of 1 GiB adds to a cell that reads all of it."""
    workshop = open_workshop(1)
    workshop.wait_ready()
    for size in (1 << 20, 1 << 30):
        mapped = Mapped([episode(size)])
        run(workshop, mapped, touch=True)
        started = time.monotonic()
        first, outcome = run(workshop, mapped, touch=True, sleep=0.5)
        print(
            f"a stage of {size >> 20:>4} MiB: begins after {1000 * first:.1f} ms, "
            f"{time.monotonic() - started - 0.5:.2f} s in all, "
            f"{outcome.peak_mib:.0f} MiB of its own",
            flush=True,
        )
        mapped.close()
    workshop.close()


def trivial(owb: Path) -> float:
    """Return the seconds that a run of trivial cells takes, start included."""
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "trivial.yaml"
        suite.write_text(
            f"name: trivial\nscenarios: ['{TRIVIAL}:Coin']\nstrategies: ['{TRIVIAL}:Heads']\nseeds: {CELLS}\n"
        )
        started = time.perf_counter()
        subprocess.run(
            [owb, "run", suite, "--workers", "2", "--store", Path(folder) / "store", "--json"],
            capture_output=True,
            check=True,
            cwd=folder,
        )
        return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    starts()
    large()
    checkouts = {
        "this checkout": Path(sys.executable).parent / "owb",
        **({"the other": Path(sys.argv[1])} if sys.argv[1:] else {}),
    }
    taken: dict[str, list[float]] = {name: [] for name in checkouts}
    for _ in range(ROUNDS):
        for name, owb in checkouts.items():
            taken[name].append(trivial(owb))
    for name, seconds in taken.items():
        print(
            f"{CELLS} trivial cells on two workers, {name}: {statistics.median(seconds):.1f} s "
            f"({min(seconds):.1f} to {max(seconds):.1f})"
        )
    if len(taken) == 2:
        ratios = [other / here for here, other in zip(*taken.values(), strict=True)]
        print(
            f"cells a second, this / other: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
