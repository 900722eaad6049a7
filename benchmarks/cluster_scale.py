"""A simulation of 64 nodes of 8 workers: the real loop, pool, leases, plan and records; a cell is a sleep.

Run: OMP_NUM_THREADS=1 python benchmarks/cluster_scale.py [--nodes 64] [--workers 8] [--cells 100000] [--cell-s 30]

Ray and the clock are those of `tests/support/simulated_ray.py`, so that other programs on the machine make the
driver's work slower and change nothing else. What its calls of Ray are taken to cost is measured on a real one by
`--ray`.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from harness.contracts import Status
from harness.execution.execute import Limits, execute, plan
from harness.execution.machine import Machine
from harness.protocol.cells import cells, contenders, protocols
from harness.store.mlflow_store import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from simulated_ray import STATE, Simulation

TRIVIAL = Path(__file__).with_name("trivial.py")
SCENARIO = f"{TRIVIAL}:Coin"
STRATEGIES = 20
STRATEGY = f"{TRIVIAL}:Clock[sleep=[{','.join(map(str, range(STRATEGIES)))}]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a simulation came to. idle: share of the workers' time from the first cell's begin to the last one's, and
    to the last one's end.  core: share of a core that the driver took.
    """

    cells: int
    hours: float
    idle: float
    idle_to_the_end: float
    core: float
    ms_a_cell: float
    recording_ms: float
    ray_ms: float
    peak_mib: float


def simulate(simulation: Simulation, seeds: int, folder: Path) -> Found:
    """Run cells on a store in `folder`."""
    store = Store(str(folder))
    todo = cells(protocols([SCENARIO]), contenders([STRATEGY]), seeds)
    planned = plan(todo, store)
    machine = Machine(address="10.0.0.0:6379")
    with simulation:
        records = execute(planned, store, experiment="scale", machine=machine, limits=Limits(timeout_s=1e6))
        wall, work = simulation.clock.monotonic(), simulation.clock.work_s
    assert {record.status for record in records} == {Status.DONE}, records[0].reason
    first, last = simulation.begun[0], simulation.begun[-1]
    until = sum(min(end, last) - at for at, end in zip(simulation.begun, simulation.ended, strict=True))
    workers = simulation.size * simulation.workers
    return Found(
        cells=len(todo),
        hours=wall / 3600,
        idle=1 - until / (workers * (last - first)),
        idle_to_the_end=1 - simulation.busy_s / (workers * (max(simulation.ended) - first)),
        core=work / wall,
        ms_a_cell=1000 * work / len(todo),
        recording_ms=1000 * simulation.recording_s / len(todo),
        ray_ms=1000 * simulation.clock.charged_s / len(todo),
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


class Sleeper:
    """An actor of a real Ray that stands for as many as are wanted."""

    async def run(self, messages: int, each_s: float) -> AsyncIterator[int]:
        """Say something again and again."""
        for number in range(messages):
            await asyncio.sleep(each_s)
            yield number


def ray_costs(workers: int) -> None:
    """Print what calls of a real Ray cost this process, in ms of the processor."""
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    actor: Any = ray.remote(Sleeper).options(num_cpus=0, max_concurrency=workers + 8).remote()

    def run(messages: int, each_s: float) -> Any:
        return actor.run.options(num_returns="streaming").remote(messages, each_s)

    def cost(calls: int, call: Callable[[], object]) -> float:
        before = time.process_time()
        for _ in range(calls):
            call()
        return 1000 * (time.process_time() - before) / calls

    silent: list[Any] = []
    print(f"remote {cost(workers, lambda: silent.append(run(1, 1e6))):.4f} ms")
    time.sleep(3)
    one = cost(500, lambda: ray.wait(silent[:1], timeout=0))
    every = cost(500, lambda: ray.wait(silent, num_returns=workers, timeout=0))
    print(f"wait   {one:.4f} ms for one, {every:.4f} ms for {workers}: {every / workers:.4f} ms each")
    talker = run(2000, 0.002)
    print(f"next and get {cost(2000, lambda: ray.get(next(talker))):.4f} ms")
    print(f"put    {cost(500, lambda: ray.put(STATE)):.4f} ms")


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=64)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--cell-s", type=float, default=30.0)
    parser.add_argument("--quiet", action="store_true", help="cells that say nothing between their stages")
    parser.add_argument(
        "--ray", action="store_true", help="measure what calls of a real Ray cost, and no more"
    )
    asked = parser.parse_args()
    if asked.ray:
        ray_costs(asked.nodes * asked.workers)
        return
    simulation = Simulation(asked.nodes, asked.workers, asked.cell_s, progress=not asked.quiet)
    with tempfile.TemporaryDirectory(prefix="owb-scale-") as folder:
        found = simulate(simulation, max(1, asked.cells // STRATEGIES), Path(folder))
    print(
        f"{asked.nodes} nodes x {asked.workers} workers, {found.cells} cells of {asked.cell_s:g} s: "
        f"{found.hours:.2f} h simulated\n"
        f"  idle workers {found.idle:.1%} until the last cell began, {found.idle_to_the_end:.1%} to the end\n"
        f"  driver {found.core:.1%} of a core: {found.ms_a_cell:.1f} ms a cell, of which recording "
        f"{found.recording_ms:.1f}, Ray {found.ray_ms:.1f}; largest memory {found.peak_mib:.0f} MiB"
    )


if __name__ == "__main__":
    main()
