"""A Ray of many nodes that is a fake, and a clock on which an hour of it takes as long as the driver's work in it.

A worker that is given a cell says what a real one would, at the times at which it would. The clock advances by
the processor time of the driver, all its threads together, and by what its calls of Ray would cost; and it jumps
to the next event whenever the driver has nothing to do. Waiting for the disk takes no time.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import ray

import harness.execution.execute as execution
from harness.cell.run import StageResult
from harness.contracts import Status, StoredPrediction
from harness.execution import nodes, others, pool
from harness.execution.away import Carried
from harness.execution.facts import facts
from harness.execution.worker import HEARTBEAT_S, Worker
from harness.processes.messages import Heartbeat, Job, Outcome, Progressed, StageEnded, Started
from harness.store import leases

SPREAD = 0.2
"""By how much of it the time of a cell may be longer or shorter."""
STATE = bytes(20_000)
CALL_MS = {"put": 0.1, "remote": 0.1, "wait": 0.02, "get": 0.25, "kill": 0.1}
WAIT_MS_EACH = 0.0008
"""What calls of Ray cost the driver in processor time, and what `wait` costs more for each of those waited for."""


class Clock:
    """The time of the simulation: processor time of this process, less what the simulation takes, and jumps. Stands in
    for the module `time`.
    """

    def __init__(self) -> None:
        self.jumped = self._own = self.charged_s = 0.0
        self._from, self._outside, self._main = time.process_time(), 0.0, threading.get_ident()
        self._depth = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def monotonic(self) -> float:
        """Return the seconds since the start."""
        return self.work_s + self.jumped

    @property
    def work_s(self) -> float:
        """Seconds of the processor that the driver took."""
        own = self._own
        if self._depth and threading.get_ident() == self._main:
            own += time.thread_time() - self._outside
        return time.process_time() - self._from - own + self.charged_s

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.jumped += seconds

    def priced(self, call: Callable[..., Any], ms: float, ms_each: float = 0.0) -> Callable[..., Any]:
        """Return a call, of the thread that made this clock, that takes a given time, more for each of the first word
        of it.
        """

        def called(*words: Any, **options: Any) -> Any:
            self.charged_s += (ms + (ms_each * len(words[0]) if ms_each else 0.0)) / 1000
            if not self._depth:
                self._outside = time.thread_time()
            self._depth += 1
            try:
                return call(*words, **options)
            finally:
                self._depth -= 1
                if not self._depth:
                    self._own += time.thread_time() - self._outside

        return called


@dataclass(eq=False, slots=True)
class Reference:
    """What Ray gives for a value that is there from some moment on."""

    value: Any
    at: float = 0.0


@dataclass(eq=False, slots=True)
class Stream:
    """What a worker says of a task: messages with their times, the next one last."""

    messages: list[tuple[float, Any]]

    @property
    def at(self) -> float:
        """When there is something to take."""
        return self.messages[-1][0] if self.messages else 0.0

    def __next__(self) -> Reference:
        """Return the next message."""
        at, message = self.messages.pop()
        return Reference(message, at)


@dataclass
class Simulation:
    """The nodes, and what Ray's calls do with them. full: numbers of nodes whose disks are full."""

    size: int
    workers: int
    cell_s: float
    full: Collection[int] = ()
    progress: bool = True
    clock: Clock = field(default_factory=Clock)
    unwritten: int = 0
    recording_s: float = 0.0
    messages: int = 0
    progress_s: set[float] = field(default_factory=set)
    busy_s: float = 0.0
    begun: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    draw: random.Random = field(default_factory=lambda: random.Random(0))
    _here: dict[str, Any] = field(default_factory=dict)

    def there(self) -> list[dict[str, Any]]:
        """Return what Ray says of the nodes."""
        return [
            {
                "NodeID": f"{number:056x}",
                "NodeName": f"node-{number}",
                "NodeManagerAddress": f"10.0.0.{number}",
                "Resources": {"CPU": float(self.workers)},
            }
            for number in range(self.size)
        ]

    def remote(self, what: Any) -> Any:
        """Return a class of actors or a function, to be called on a node."""

        def options(**said: Any) -> Any:
            node = said["scheduling_strategy"].node_id
            if what is Worker:
                return SimpleNamespace(remote=lambda *_, **__: self._actor(node))
            return SimpleNamespace(remote=lambda *words, **_: Reference(self._done(what, words)))

        return SimpleNamespace(options=options)

    def _done(self, what: Callable[..., Any], words: tuple[Any, ...]) -> Any:
        if what is not facts:
            return None
        self._here = self._here or facts(*words)
        return {**self._here, "sees_store": False}

    def _actor(self, node: str) -> Any:
        ready = SimpleNamespace(remote=lambda: Reference(0, self.clock.monotonic()))
        run = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=partial(self._run, node)))
        return SimpleNamespace(ready=ready, run=run)

    def _run(self, node: str, job: Job, episodes: Sequence[Any], _: Any, progress_s: float = 0.5) -> Stream:
        """Return what a worker will say of a cell."""
        self.progress_s.add(progress_s)
        now = self.clock.monotonic()
        if int(node, 16) in self.full:
            end = Outcome(
                status=Status.FAILED, reason="no", seconds=0.0, log_tail="", no_disk="its disk is full"
            )
            return Stream([(now, end)])
        seconds = self.cell_s * self.draw.uniform(1 - SPREAD, 1 + SPREAD)
        stages = episodes[0]
        said: list[tuple[float, Any]] = [(now, Started(key=job.key))]
        each = seconds / len(stages)
        for number, (_, query) in enumerate(stages):
            from_, to = now + number * each, now + (number + 1) * each
            quiet = progress_s if self.progress else HEARTBEAT_S
            for step in range(1, int(each / quiet) + 1):
                message = Progressed(key=job.key, stage=number, step=step, total=60, figures={"loss": 1.0})
                said.append((from_ + step * quiet, message if self.progress else Heartbeat()))
            if number + 1 < len(stages):
                states = {k: STATE for k, path in enumerate(job.shared) if path is not None and k == number}
                said.append((to, Carried(key=job.key, files={f"state-{number}.pt": STATE}, states=states)))
            ids = np.sort(query.value.ids)
            answer = StoredPrediction(
                stage=number, step=None, ids=ids, arrays={"classes": np.zeros(len(ids), dtype=np.int64)}
            )
            result = StageResult(stage=number, answers=(answer,), learn_s=each, predict_s=0.0)
            said.append((to, StageEnded(key=job.key, result=result)))
        said.append((now + seconds, Outcome(status=Status.DONE, reason="", seconds=seconds, log_tail="")))
        self.messages += len(said)
        self.busy_s += seconds
        self.begun.append(now)
        self.ended.append(now + seconds)
        return Stream(said[::-1])

    def wait(
        self, what: Sequence[Any], num_returns: int = 1, timeout: float = 0.0
    ) -> tuple[list[Any], list[Any]]:
        """Return which of these are there and which are not, after some time where none is. Where the driver has no
        record to write either, that time is jumped over.
        """
        until = self.clock.monotonic() + timeout
        while True:
            now = self.clock.monotonic()
            there = [each for each in what if each.at <= now][:num_returns]
            if there or now >= until:
                taken = set(map(id, there))
                return there, [each for each in what if id(each) not in taken]
            if self.unwritten:
                time.sleep(0.0002)
            else:
                self.clock.sleep(min(until, min(each.at for each in what)) - now + 1e-6)

    def recorder(self) -> type[ThreadPoolExecutor]:
        """Return the executor of the thread that records, which tells whether it has something to do."""
        simulation, lock = self, threading.Lock()

        def add(number: int) -> None:
            with lock:
                simulation.unwritten += number

        class Counting(ThreadPoolExecutor):
            def submit(self, action: Callable[..., Any], *words: Any, **options: Any) -> Future[Any]:
                def timed() -> Any:
                    before = time.thread_time()
                    try:
                        return action(*words, **options)
                    finally:
                        simulation.recording_s += time.thread_time() - before

                add(1)
                future = super().submit(timed)
                future.add_done_callback(lambda _: add(-1))
                return future

        return Counting

    def __enter__(self) -> None:
        """Have the harness run on this."""
        calls = {
            "remote": self.remote,
            "wait": self.wait,
            "get": lambda reference: reference.value,
            "put": Reference,
            "kill": lambda _: None,
        }
        self._stack = ExitStack()
        for name, call in calls.items():
            each = WAIT_MS_EACH if name == "wait" else 0.0
            priced = self.clock.priced(call, CALL_MS[name], each)
            self._stack.enter_context(mock.patch.object(ray, name, priced))
        for module in (execution, pool, nodes, others, leases):
            self._stack.enter_context(mock.patch.object(module, "time", self.clock))
        for module, name, stand_in in (
            (execution, "Pool", pool.Pool),
            (pool, "start", lambda _: True),
            (pool, "stop", lambda: None),
            (ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="")),
            (nodes, "wait_for_head", lambda *_: None),
            (nodes, "nodes_there", self.there),
            (execution, "ThreadPoolExecutor", self.recorder()),
        ):
            self._stack.enter_context(mock.patch.object(module, name, stand_in))

    def __exit__(self, *error: object) -> None:
        self._stack.close()
