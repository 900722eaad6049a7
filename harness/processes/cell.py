"""What runs in the process of a cell (or of a pack of them): take the order, learn, answer stage by stage,
end.

`task` runs in a process forked by a warm parent; started by itself (`python -m
harness.processes.cell`), the module serves one task where there is no fork, and reads and writes
its standard streams.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cell.looks import Watcher
from harness.cell.run import Member, StageResult, run_cell, run_together
from harness.contracts import Status, Strategy
from harness.errors import Diverged, Unsuitable, UserError, in_one_line, shortage
from harness.processes.link import Gone, Link
from harness.processes.mapped import episodes
from harness.processes.messages import Job, Pack, Progressed, StageEnded, Task
from harness.processes.out_of_memory import what_to_try

PROGRESS_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a process is to do. mapped: files of every cell's episodes.  learn: what learns,
    `module:function`, called with the order and the link, yielding messages to be sent; `further`: what else
    it is told.  path: where modules are looked for.  progress_s: how long it says nothing of its progress after it
    did.
    """

    task: Task
    mapped: Sequence[str]
    threads: int
    path: Sequence[str]
    learn: str = "harness.processes.cell:learn"
    further: Any = None
    progress_s: float = PROGRESS_S


@dataclass(frozen=True, slots=True)
class End:
    """The last message of a task."""

    status: Status
    reason: str


def task(inward: int, outward: int) -> None:
    """Serve one task; what its strategy prints, and what libraries print, goes to the task's log."""
    link = Link(inward, outward)
    try:
        order: Order = link.receive()
    except Gone:
        return
    _prepare(order)
    link.send(_attempt(order, link))
    sys.stdout.flush()
    sys.stderr.flush()


def learn(order: Order, link: Link) -> Iterator[StageEnded]:
    """Learn the cell or the pack; yield a message for every stage."""
    results = _pack_results(order, link) if isinstance(order.task, Pack) else _cell_results(order, link)
    return (StageEnded(key=key, result=result) for key, result in results)


def strategy_of(job: Job) -> Strategy:
    """Return a fresh instance of a cell's strategy."""
    from harness.plugins import find

    strategy: Strategy = find("strategy", job.strategy, source=job.source).cls(**job.params)
    return strategy


def watcher_of(job: Job) -> Watcher | None:
    """Return what looks at a cell's learner for probes, None where nothing does."""
    return None if job.looks is None else Watcher(job.looks, root_seed=job.settings.root_seed)


def scratch_of(job: Job) -> Path:
    """Return the folder that a cell's strategy may write to: of this run alone, for a driver that was taken for
    dead may have left a worker that is not.
    """
    return job.keep / f"scratch-{job.settings.session}"


def throttled(key: str, link: Link, every_s: float = PROGRESS_S) -> Any:
    """Return a progress reporter that sends at most once in so many seconds and costs a clock reading otherwise."""
    last = 0.0

    def report(stage: int, step: int, total: int, figures: dict[str, float]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > every_s:
            last = now
            link.send(Progressed(key=key, stage=stage, step=step, total=total, figures=figures))

    return report


def _prepare(order: Order) -> None:
    """Make the process that of the task: log, search path, threads."""
    sys.path[:] = order.path
    sys.stdout.flush()
    log = os.open(order.task.keep / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (1, 2):
        os.dup2(log, standard)
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, errors="replace", closefd=False)  # noqa: SIM115

    import torch
    import torch._dynamo  # the first optimiser would load it

    torch.set_num_threads(order.threads)
    if order.threads > 1:
        from threadpoolctl import threadpool_limits

        threadpool_limits(order.threads, user_api="blas")


def _attempt(order: Order, link: Link) -> End:
    try:
        module, _, function = order.learn.partition(":")
        for message in getattr(importlib.import_module(module), function)(order, link):
            link.send(message)
    except Unsuitable as error:
        return End(Status.SKIPPED, str(error))
    except Diverged as error:
        return End(Status.DIVERGED, str(error))
    except UserError as error:
        traceback.print_exc()
        return End(Status.FAILED, str(error))
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        if where := shortage(error):
            said = str(error).partition("\n")[0].rstrip(".") or "allocation failed"
            return End(Status.OUT_OF_MEMORY, f"{said}; {what_to_try(order.task, where)}")
        from harness.processes.compiler import uncompiled

        return End(Status.FAILED, uncompiled(error) or in_one_line(error))
    return End(Status.DONE, "")


def _cell_results(order: Order, link: Link) -> Iterator[tuple[str, StageResult]]:
    (job,), (path,) = order.task.jobs, order.mapped
    results = run_cell(
        strategy_of(job),
        episodes(path),
        job.settings,
        scratch=scratch_of(job),
        keep=job.keep,
        shared=job.shared,
        on_progress=throttled(job.key, link, order.progress_s),
        watcher=watcher_of(job),
    )
    return ((job.key, result) for result in results)


def _pack_results(order: Order, link: Link) -> Iterator[tuple[str, StageResult]]:
    jobs = order.task.jobs
    members = [
        Member(
            strategy=strategy_of(job),
            episode=next(episodes(path)),
            settings=job.settings,
            scratch=scratch_of(job),
            keep=job.keep,
            on_progress=throttled(job.key, link, order.progress_s),
            watcher=watcher_of(job),
        )
        for job, path in zip(jobs, order.mapped, strict=True)
    ]
    return zip((job.key for job in jobs), run_together(members), strict=True)


def main() -> None:
    """Serve one task over the standard streams, which are then those of the task."""
    inward, outward = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    with contextlib.suppress(OSError):
        os.dup2(nothing, 0)
    task(inward, outward)
    os._exit(0)


if __name__ == "__main__":
    from harness.processes.cell import (
        main as served,
    )  # under its own name: what is sent names the classes of that module

    served()


__all__ = [
    "PROGRESS_S",
    "End",
    "Order",
    "learn",
    "scratch_of",
    "strategy_of",
    "task",
    "throttled",
    "watcher_of",
]
