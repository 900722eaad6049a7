"""The processes of a run: `Worker` runs cells one after another with torch kept warm; `Monitor` carries their events and enforces limits.

The monitor is a process of its own on every node, so that a limit holds even while a strategy keeps the interpreter lock: it reads the
memory of the worker (and of its children) ten times a second and kills what is over its limit in memory or time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from harness.compiling import uncompiled
from harness.contracts import Status, Strategy
from harness.messages import Episodes, Event, Job, Outcome, Pack, Progressed, StageEnded, Started, Task
from harness.out_of_memory import shortage, what_to_try
from harness.run import Member, StageResult, run_cell, run_together
from harness.sealing import Episode

_POLL_S = 0.1
_CHILDREN_S = 1.0  # finding children reads all of /proc, so it is done less often
_PROGRESS_S = 0.5


@dataclass(slots=True, kw_only=True)
class _Watch:
    key: str
    process: psutil.Process
    deadline: float
    timeout_s: float
    memory_mib: float
    advice: str
    peak_mib: float = 0.0
    children: list[psutil.Process] = field(default_factory=list)
    children_due: float = 0.0


@dataclass(slots=True)
class _Verdicts:
    reasons: dict[str, tuple[Status, str]] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)


class Monitor:
    """Actor: the mailbox from workers to the driver, and the enforcer of limits on its node."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.watches: dict[int, _Watch] = {}
        self.verdicts = _Verdicts()
        threading.Thread(target=self._patrol, daemon=True).start()

    def begin(self, task: Task, pid: int) -> None:
        """Watch the process `pid` while it runs `task`; the time limit counts from now."""
        self.events += [Started(key=job.key, pid=pid) for job in task.jobs]
        deadline = time.monotonic() + task.timeout_s
        self.watches[pid] = _Watch(key=task.key, process=psutil.Process(pid), deadline=deadline,
                                   timeout_s=task.timeout_s, memory_mib=task.memory_mib, advice=what_to_try(task, "host"))  # fmt: skip
        self.verdicts.reasons.pop(task.key, None)

    def end(self, pid: int) -> None:
        """Stop watching `pid`."""
        watch = self.watches.pop(pid, None)
        if watch:
            self.verdicts.peaks[watch.key] = watch.peak_mib

    def post(self, event: Event) -> None:
        """Take in an event for the driver."""
        self.events.append(event)

    def drain(self) -> list[Event]:
        """Return the events since the last call; of progress, only the newest of every cell."""
        events, self.events = self.events, []
        newest = {event.key: event for event in events if isinstance(event, Progressed)}
        return [event for event in events if not isinstance(event, Progressed) or newest[event.key] is event]

    def verdict(self, key: str) -> tuple[Status, str] | None:
        """Return why a task's worker was killed here, if it was, and forget it."""
        return self.verdicts.reasons.pop(key, None)

    def peak_mib(self, key: str) -> float:
        """Return the largest memory seen of a task's process and children, and forget it."""
        return self.verdicts.peaks.pop(key, float("nan"))

    def _patrol(self) -> None:
        while True:
            time.sleep(_POLL_S)
            for pid, watch in list(self.watches.items()):
                try:
                    self._look_at(watch)
                except psutil.NoSuchProcess:  # died by itself; the driver sees that and classifies it
                    self.end(pid)

    def _look_at(self, watch: _Watch) -> None:
        if time.monotonic() > watch.children_due:
            watch.children = watch.process.children(recursive=True)
            watch.children_due = time.monotonic() + _CHILDREN_S
        used = _private_mib([watch.process, *watch.children])
        watch.peak_mib = max(watch.peak_mib, used)
        if used > watch.memory_mib:
            self._kill(watch, Status.OUT_OF_MEMORY, f"used {used:.0f} MiB, the limit is {watch.memory_mib:.0f} MiB; {watch.advice}")
        elif time.monotonic() > watch.deadline:
            self._kill(watch, Status.TIMEOUT, f"over its time limit of {watch.timeout_s:g} s")

    def _kill(self, watch: _Watch, status: Status, reason: str) -> None:
        self.verdicts.reasons[watch.key] = (status, reason)
        for process in (*watch.process.children(recursive=True), watch.process):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        self.end(watch.process.pid)


class Worker:
    """Actor: runs cells one at a time, or a pack of them at once."""

    def __init__(self, threads: int) -> None:
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(threads))  # else every worker would compile on all cores

        import torch
        import torch._dynamo  # the first optimiser would load it, a second into the first cell

        self.threads = threads
        torch.set_num_threads(threads)

    def node(self) -> str:
        """Return the id of the node this worker lives on; answers once torch is loaded."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def run(self, task: Task, episodes: Sequence[Episodes], monitor: Any) -> Outcome:
        """Run one cell, every finished stage posted to `monitor` before the next begins; or a pack, posted when all is learned.

        Args:
            task: the cell or pack.
            episodes: of every cell; fetched one stage at a time.
            monitor: handle of this node's monitor.
        """
        import ray

        _reset_torch(self.threads)
        for job in task.jobs:
            _scratch(job).mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        ray.get(monitor.begin.remote(task, os.getpid()))
        log = (task.keep / "log.txt").open("a", encoding="utf-8", buffering=1)
        with log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            status, reason = self._attempt(task, episodes, monitor)
        seconds = time.perf_counter() - started
        ray.get(monitor.end.remote(os.getpid()))
        for job in task.jobs:
            shutil.rmtree(_scratch(job), ignore_errors=True)
        return Outcome(status=status, reason=reason, seconds=seconds, log_tail=tail(task.keep / "log.txt"))

    def _attempt(self, task: Task, episodes: Sequence[Episodes], monitor: Any) -> tuple[Status, str]:
        import ray

        from harness.errors import Diverged, Unsuitable, UserError

        try:
            results = _pack_results(task, episodes, monitor) if isinstance(task, Pack) else _cell_results(task, episodes[0], monitor)
            for key, result in results:
                ray.get(monitor.post.remote(StageEnded(key=key, result=result)))
        except Unsuitable as error:
            return Status.SKIPPED, str(error)
        except Diverged as error:
            return Status.DIVERGED, str(error)
        except UserError as error:
            traceback.print_exc()
            return Status.FAILED, str(error)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            if where := shortage(error):
                said = str(error).partition("\n")[0].rstrip(".") or "allocation failed"
                return Status.OUT_OF_MEMORY, f"{said}; {what_to_try(task, where)}"
            return Status.FAILED, uncompiled(error) or _sentence(error)
        return Status.DONE, ""


def tail(path: Path, lines: int = 200) -> str:
    """Return the last lines of a log, empty where there is none."""
    if not path.is_file():
        return ""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _cell_results(job: Job, episodes: Episodes, monitor: Any) -> Iterator[tuple[str, StageResult]]:
    results = run_cell(_strategy(job), _fetched(episodes), job.conditions, scratch=_scratch(job), keep=job.keep, shared=job.shared,
                       on_progress=_throttled(job.key, monitor))  # fmt: skip
    return ((job.key, result) for result in results)


def _pack_results(pack: Pack, episodes: Sequence[Episodes], monitor: Any) -> Iterator[tuple[str, StageResult]]:
    members = [
        Member(strategy=_strategy(job), episode=next(_fetched(own)), conditions=job.conditions, scratch=_scratch(job), keep=job.keep,
               on_progress=_throttled(job.key, monitor))
        for job, own in zip(pack.jobs, episodes, strict=True)
    ]  # fmt: skip
    return zip((job.key for job in pack.jobs), run_together(members), strict=True)


def _strategy(job: Job) -> Strategy:
    from harness.plugins import find

    strategy: Strategy = find("strategy", job.strategy, source=job.source).cls(**job.params)
    return strategy


def _scratch(job: Job) -> Path:
    return job.keep / "scratch"


def _fetched(episodes: Episodes) -> Iterator[Episode]:
    import ray

    for stage, query in episodes:
        yield Episode(*ray.get([stage, query]))


def _throttled(key: str, monitor: Any) -> Any:
    """Return a progress reporter that posts at most twice a second and costs a clock reading otherwise."""
    last = 0.0

    def report(stage: int, step: int, total: int, figures: dict[str, float]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > _PROGRESS_S:
            last = now
            monitor.post.remote(Progressed(key=key, stage=stage, step=step, total=total, figures=figures))

    return report


def _reset_torch(threads: int) -> None:
    """Undo what an earlier cell may have left behind in this process."""
    import torch

    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.use_deterministic_algorithms(False)


def _private_mib(processes: Sequence[psutil.Process]) -> float:
    """Return the memory of processes that is not shared with others (mapped files, the object store)."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            memory = process.memory_info()
            total += memory.rss - getattr(memory, "shared", 0)
    return total / 2**20


def _sentence(error: BaseException) -> str:
    """Say what went wrong and where, in one line."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"
