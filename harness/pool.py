"""A pool of Ray workers that take tasks (cells, or packs of them) one after another and are replaced when they die.

Ray is started here and nowhere else; `address` joins a cluster instead of starting a local one, and a Ray that this process has running
already is used and left running. Every worker has its stated cores and threads.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.contracts import Status
from harness.errors import UserError
from harness.messages import Episodes, Event, Outcome, Task
from harness.processes.mapped import Mapped
from harness.sealing import Episode
from harness.worker import Mailbox, Worker, tail

_OBJECT_STORE_MIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a run may use. `gpus` is a worker's share."""

    workers: int = 2
    threads: int = 1
    gpus: float = 0.0
    address: str | None = None
    object_store_mib: int = _OBJECT_STORE_MIB


@dataclass(slots=True, kw_only=True)
class _Seat:
    """A place for one worker: the actor that sits there, and what it runs."""

    worker: Any
    arriving: Any
    task: Task | None = None
    busy: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A task left the pool."""

    task: Task
    outcome: Outcome


def start(resources: Resources) -> bool:
    """Start Ray or join the cluster at the address; return False, and do nothing, where this process has Ray running already.

    Raises:
        UserError: Ray does not start or the address does not answer.
    """
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"})
    os.environ.setdefault("OMP_NUM_THREADS", str(resources.threads))
    import ray

    if resources.address is None and ray.is_initialized():
        return False
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if resources.address:
        options["address"] = resources.address
    else:
        options |= {"address": "local", "num_cpus": resources.workers * resources.threads, "include_dashboard": False,
                    "object_store_memory": resources.object_store_mib * 2**20}  # fmt: skip
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UserError(f"cannot start Ray ({resources.address or 'local'}): {str(error).strip().splitlines()[0]}") from error
    return True


def on_one_machine(resources: Resources) -> bool:
    """Return whether all workers will run where this process does, so that they can map the same files. Ray has to run already."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return resources.address is None and sum(node["Alive"] for node in nodes) == 1


class Pool:
    """The workers of one run and their mailbox; a context manager that stops them all."""

    def __init__(self, resources: Resources) -> None:
        """Start Ray as `start` does and seat the workers."""
        self.own = start(resources)
        import ray

        self.ray = ray
        self.resources = resources
        self._mailbox: Any = ray.remote(Mailbox).options(num_cpus=0).remote()
        self._one_machine = on_one_machine(resources)
        self._mapped: dict[str, Mapped] = {}
        self._seats = [self._new_seat() for _ in range(resources.workers)]

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for path in list(self._mapped):
            self.withdraw(path)
        if self.own:
            self.ray.shutdown()
        else:
            for actor in (*(seat.worker for seat in self._seats), self._mailbox):
                self.ray.kill(actor)

    def publish(self, episodes: Sequence[Episode]) -> Episodes:
        """Put episodes where workers reach them, a query that several stages share only once, until they are withdrawn."""
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
        self._seat_arrivals()
        return any(seat.arriving is None and seat.task is None for seat in self._seats)

    def submit(self, task: Task, episodes: Sequence[Episodes]) -> None:
        """Give `task` to a worker that is ready; `episodes` of every cell in it."""
        seat = next(seat for seat in self._seats if seat.arriving is None and seat.task is None)
        seat.task = task
        seat.busy = seat.worker.run.remote(task, episodes, self._mailbox)

    def wait(self, seconds: float) -> list[Ended]:
        """Wait up to `seconds` for tasks to end or workers to arrive; dead workers are replaced."""
        waiting = [seat.busy for seat in self._seats if seat.busy is not None]
        waiting += [seat.arriving for seat in self._seats if seat.arriving is not None]
        self.ray.wait(waiting, timeout=seconds)
        done, _ = self.ray.wait(waiting, num_returns=len(waiting), timeout=0)
        self._seat_arrivals()
        return [self._collect(seat) for seat in self._seats if seat.busy is not None and seat.busy in done]

    def events(self) -> list[Event]:
        """Return what workers reported since the last call."""
        events: list[Event] = self.ray.get(self._mailbox.drain.remote())
        return events

    def _collect(self, seat: _Seat) -> Ended:
        task, busy = seat.task, seat.busy
        assert task is not None
        try:
            outcome: Outcome = self.ray.get(busy)
            seat.task = seat.busy = None
        except self.ray.exceptions.RayError as error:
            ran_out = isinstance(error, self.ray.exceptions.OutOfMemoryError)
            outcome = Outcome(status=Status.OUT_OF_MEMORY if ran_out else Status.FAILED, reason=_words(error), seconds=float("nan"),
                              log_tail=tail(task.keep / "log.txt"), lost=not ran_out)  # fmt: skip
            self.ray.kill(seat.worker)
            self._seats[self._seats.index(seat)] = self._new_seat()
        return Ended(task=task, outcome=outcome)

    def _new_seat(self) -> _Seat:
        need = self.resources
        actor: Any = self.ray.remote(Worker).options(num_cpus=need.threads, num_gpus=need.gpus, max_restarts=0, max_task_retries=0)
        worker = actor.remote(need.threads, path=sys.path)
        return _Seat(worker=worker, arriving=worker.ready.remote())

    def _seat_arrivals(self) -> None:
        for seat in self._seats:
            if seat.arriving is not None and self.ray.wait([seat.arriving], timeout=0)[0]:
                self.ray.get(seat.arriving)
                seat.arriving = None


def _words(error: Exception) -> str:
    """Say what became of a worker: it died, or its own work failed."""
    cause = getattr(error, "cause", None)
    return f"its worker failed ({type(cause).__name__}: {cause})" if isinstance(cause, Exception) else "its worker died"


def job_folder(root: Path, key: str) -> Path:
    """Return the folder that keeps a cell's state between stages, made if need be."""
    folder = root / key
    folder.mkdir(parents=True, exist_ok=True)
    return folder
