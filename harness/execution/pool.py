"""A pool of Ray workers that take tasks (cells, or packs of them) one after another and are replaced when
they die.

Every worker has its stated cores and threads. Whatever is lost (a worker at work, one that is still loading,
a node, a local Ray itself) is begun again, and the task that ran there ends as lost, which says that it may
be tried once more.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cell.sealing import Episode
from harness.contracts import Status
from harness.errors import UserError
from harness.execution.cluster import Watch, on_one_machine, start, stop
from harness.execution.machine import Machine
from harness.execution.worker import Worker, tail
from harness.processes.mapped import Mapped
from harness.processes.messages import Episodes, Event, Heartbeat, Outcome, Task

_SILENT_S = 60.0
"""Seconds after which a worker that says nothing is taken for lost; one that is well says something every
`worker.HEARTBEAT_S`.
"""
_LOADING_S = 240.0
_MOST_FAILURES = 4
"""How many workers in a row may die while they load, and how often a local Ray may, before the run ends."""
_LONGEST_TICK_S = 1.0
"""What a look counts for at most, so that a driver that was stopped for an hour takes nobody for lost."""


@dataclass(slots=True, kw_only=True)
class _Seat:
    """A place for one worker: the actor that sits there, and what it runs. stream: what it says of that.
    silent_s: since its last word.
    """

    worker: Any
    arriving: Any
    task: Task | None = None
    stream: Any = None
    pid: int = 0
    silent_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A task left the pool."""

    task: Task
    outcome: Outcome


class Pool:
    """The workers of one run; a context manager that stops them all."""

    def __init__(self, machine: Machine) -> None:
        """Start Ray as `start` does and seat the workers."""
        self.machine = machine
        self._mapped: dict[str, Mapped] = {}
        self._failures = 0
        self._restarts = 0
        self._looked = time.monotonic()
        self._open()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for path in list(self._mapped):
            self.withdraw(path)
        if self.own:
            stop()
        else:
            for seat in self._seats:
                self._dismiss(seat)

    def publish(self, episodes: Sequence[Episode]) -> Episodes:
        """Put episodes where workers reach them, a query that several stages share only once, until they are
        withdrawn.
        """
        if self._one_machine:
            mapped = Mapped(episodes)
            self._mapped[mapped.path] = mapped
            return mapped.path
        queries = {id(episode.query): episode.query for episode in episodes}
        stored = {identity: self.ray.put(query) for identity, query in queries.items()}
        return [(self.ray.put(episode.stage), stored[id(episode.query)]) for episode in episodes]

    def withdraw(self, episodes: Episodes) -> None:
        """Let go of published episodes; references are let go of by dropping them."""
        if isinstance(episodes, str):
            self._mapped.pop(episodes).close()

    @property
    def has_room(self) -> bool:
        """Whether a worker is ready for a task."""
        return any(seat.arriving is None and seat.task is None for seat in self._seats)

    def submit(self, task: Task, episodes: Sequence[Episodes]) -> None:
        """Give `task` to a worker that is ready; `episodes` of every cell in it."""
        seat = next(seat for seat in self._seats if seat.arriving is None and seat.task is None)
        seat.task, seat.silent_s = task, 0.0
        seat.stream = seat.worker.run.options(num_returns="streaming").remote(task, episodes)

    def wait(self, seconds: float) -> list[Event | Ended]:
        """Wait up to `seconds` until something is heard; return it, in the order in which every worker said
        it.

        Raises:
            UserError: workers, or Ray itself, die again and again.
        """
        waiting = [what for seat in self._seats for what in (seat.arriving, seat.stream) if what is not None]
        if waiting:
            self.ray.wait(waiting, timeout=seconds)
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, _LONGEST_TICK_S), now
        if self._watch and (trouble := self._watch.trouble(passed)):
            return self._start_over(trouble)
        heard: list[Event | Ended] = []
        for place in range(len(self._seats)):
            self._seat_arrival(place, passed)
            heard += self._heard(place, passed)
        return heard

    def _open(self) -> None:
        self.own = start(self.machine)
        import ray

        self.ray = ray
        self._one_machine = on_one_machine(self.machine)
        self._watch = Watch() if self.own and self.machine.address is None else None
        self._seats = [self._new_seat() for _ in range(self.machine.processes)]

    def _start_over(self, trouble: str) -> list[Event | Ended]:
        """Start a local Ray again; what ran in the old one is lost."""
        lost: list[Event | Ended] = [
            _lost(seat.task, trouble, elsewhere=True) for seat in self._seats if seat.task is not None
        ]
        self._restarts += 1
        if self._restarts > _MOST_FAILURES:
            raise UserError(
                f"Ray died {self._restarts} times ({trouble}): see its logs in /tmp/ray/session_latest/logs"
            )
        for seat in self._seats:
            self._dismiss(seat)
        stop()
        self._open()
        return lost

    def _heard(self, place: int, passed: float) -> Iterator[Event | Ended]:
        """Take in what a worker said; where it can say nothing any more, it is replaced."""
        seat = self._seats[place]
        seat.silent_s += passed
        while seat.task is not None and self._is_there(seat.stream):
            seat.silent_s = 0.0
            try:
                message = self.ray.get(next(seat.stream))
            except (self.ray.exceptions.RayError, StopIteration) as error:
                yield self._replace(
                    place,
                    _words(error),
                    out_of_memory=isinstance(error, self.ray.exceptions.OutOfMemoryError),
                )
                return
            if isinstance(message, Outcome):
                yield Ended(task=seat.task, outcome=message)
                seat.task = seat.stream = None
            elif not isinstance(message, Heartbeat):
                yield message
        if seat.task is not None and seat.silent_s > _SILENT_S:
            yield self._replace(place, f"its worker said nothing for {_SILENT_S:g} s")

    def _replace(self, place: int, reason: str, *, out_of_memory: bool = False) -> Ended:
        """Have another worker in the place of one; return the end of what it ran."""
        seat = self._seats[place]
        assert seat.task is not None
        self._dismiss(seat)
        self._seats[place] = self._new_seat()
        return _lost(seat.task, reason, out_of_memory=out_of_memory)

    def _seat_arrival(self, place: int, passed: float) -> None:
        """Notice that a worker is ready; one that died while it loaded, or that takes too long on this
        machine, is replaced.
        """
        seat = self._seats[place]
        if seat.arriving is None:
            return
        reason = (
            f"they load for {_LOADING_S:g} s" if self._watch and seat.silent_s + passed > _LOADING_S else ""
        )
        if self._is_there(seat.arriving):
            try:
                seat.pid, seat.arriving, seat.silent_s = self.ray.get(seat.arriving), None, 0.0
            except self.ray.exceptions.RayError as error:
                reason = _words(error)
            else:
                self._failures = 0
        if not reason:
            return
        self._failures += 1
        if self._failures >= _MOST_FAILURES * len(self._seats):
            raise UserError(f"workers do not start: {reason}; see `owb doctor`")
        self._dismiss(seat)
        self._seats[place] = self._new_seat()

    def _new_seat(self) -> _Seat:
        need = self.machine
        actor: Any = self.ray.remote(Worker).options(
            num_cpus=need.threads, num_gpus=need.gpus, max_restarts=0, max_task_retries=0
        )
        worker = actor.remote(need.threads, path=sys.path)
        return _Seat(worker=worker, arriving=worker.ready.remote())

    def _dismiss(self, seat: _Seat) -> None:
        """End a worker, also one that is stopped, or whose Ray is no more."""
        with contextlib.suppress(Exception):
            self.ray.kill(seat.worker)
        if self._one_machine and seat.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(seat.pid, signal.SIGKILL)

    def _is_there(self, what: Any) -> bool:
        return bool(self.ray.wait([what], timeout=0)[0])


def _lost(task: Task, reason: str, *, out_of_memory: bool = False, elsewhere: bool = False) -> Ended:
    """Return the end of a task that cannot say itself how it ended."""
    status = Status.OUT_OF_MEMORY if out_of_memory else Status.FAILED
    outcome = Outcome(
        status=status,
        reason=reason,
        seconds=float("nan"),
        log_tail=tail(task.keep / "log.txt"),
        lost=not out_of_memory,
        elsewhere=elsewhere,
    )
    return Ended(task=task, outcome=outcome)


def _words(error: Exception) -> str:
    """Say what became of a worker: it died, or its own work failed."""
    cause = getattr(error, "cause", None)
    return (
        f"its worker failed ({type(cause).__name__}: {cause})"
        if isinstance(cause, Exception)
        else "its worker died"
    )


def job_folder(root: Path, key: str) -> Path:
    """Return the folder that keeps a cell's state between stages, made if need be."""
    folder = root / key
    folder.mkdir(parents=True, exist_ok=True)
    return folder
