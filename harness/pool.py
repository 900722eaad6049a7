"""A pool of Ray workers that take tasks (cells, or packs of them) one after another and are replaced when they die.

Ray is started here and nowhere else; `address` joins a cluster instead of starting a local one, and a Ray that this process has running
already is used and left running. Every worker has its stated cores and threads; every node with workers has one monitor.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.contracts import Status
from harness.errors import UserError
from harness.messages import Episodes, Event, Outcome, Task
from harness.sealing import Episode
from harness.worker import Monitor, Worker, tail

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
    monitor: Any = None
    task: Task | None = None
    busy: Any = None
    arriving: Any = field(default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A task left the pool. `lost` says that its worker died of something other than a limit, so that a retry can help."""

    task: Task
    outcome: Outcome
    peak_mib: float
    lost: bool = False


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


class Pool:
    """Workers and monitors of one run; a context manager that stops them all."""

    def __init__(self, resources: Resources) -> None:
        """Start Ray as `start` does and seat the workers."""
        self.own = start(resources)
        import ray

        self.ray = ray
        self.resources = resources
        self._monitors: dict[str, Any] = {}
        self._seats = [self._new_seat() for _ in range(resources.workers)]

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        if self.own:
            self.ray.shutdown()
        else:
            for actor in (*(seat.worker for seat in self._seats), *self._monitors.values()):
                self.ray.kill(actor)

    def publish(self, episodes: Sequence[Episode]) -> Episodes:
        """Put episodes into the object store, a query that several stages share only once; freed when the references are dropped."""
        queries = {id(episode.query): episode.query for episode in episodes}
        stored = {identity: self.ray.put(query) for identity, query in queries.items()}
        return [(self.ray.put(episode.stage), stored[id(episode.query)]) for episode in episodes]

    @property
    def has_room(self) -> bool:
        """Whether a worker is ready for a task."""
        self._seat_arrivals(0)
        return any(seat.monitor is not None and seat.task is None for seat in self._seats)

    def submit(self, task: Task, episodes: Sequence[Episodes]) -> None:
        """Give `task` to a worker that is ready; `episodes` of every cell in it."""
        seat = next(seat for seat in self._seats if seat.monitor is not None and seat.task is None)
        seat.task = task
        seat.busy = seat.worker.run.remote(task, episodes, seat.monitor)

    def wait(self, seconds: float) -> list[Ended]:
        """Wait up to `seconds` for tasks to end or workers to arrive; dead workers are replaced."""
        waiting = [seat.busy for seat in self._seats if seat.busy is not None]
        waiting += [seat.arriving for seat in self._seats if seat.arriving is not None]
        self.ray.wait(waiting, timeout=seconds)
        done, _ = self.ray.wait(waiting, num_returns=len(waiting), timeout=0)
        self._seat_arrivals(0)
        return [self._collect(seat) for seat in self._seats if seat.busy is not None and seat.busy in done]

    def events(self) -> list[Event]:
        """Return what workers reported since the last call."""
        return [event for monitor in self._monitors.values() for event in self.ray.get(monitor.drain.remote())]

    def _collect(self, seat: _Seat) -> Ended:
        task, monitor, busy = seat.task, seat.monitor, seat.busy
        assert task is not None
        try:
            outcome, lost = self.ray.get(busy), False
            seat.task = seat.busy = None
        except self.ray.exceptions.RayError as error:
            verdict = self.ray.get(monitor.verdict.remote(task.key))
            lost = verdict is None and not isinstance(error, self.ray.exceptions.OutOfMemoryError)
            status, reason = verdict or (Status.FAILED if lost else Status.OUT_OF_MEMORY, "its worker process died")
            outcome = Outcome(status=status, reason=reason, seconds=float("nan"), log_tail=tail(task.keep / "log.txt"))
            self._seats[self._seats.index(seat)] = self._new_seat()
        return Ended(task=task, outcome=outcome, peak_mib=self.ray.get(monitor.peak_mib.remote(task.key)), lost=lost)

    def _new_seat(self) -> _Seat:
        need = self.resources
        actor: Any = self.ray.remote(Worker).options(num_cpus=need.threads, num_gpus=need.gpus, max_restarts=0, max_task_retries=0)
        worker = actor.remote(need.threads)
        return _Seat(worker=worker, arriving=worker.node.remote())

    def _seat_arrivals(self, seconds: float) -> None:
        for seat in self._seats:
            if seat.arriving is not None and self.ray.wait([seat.arriving], timeout=seconds)[0]:
                seat.monitor = self._monitor(self.ray.get(seat.arriving))
                seat.arriving = None

    def _monitor(self, node: str) -> Any:
        if node not in self._monitors:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
            self._monitors[node] = self.ray.remote(Monitor).options(num_cpus=0, scheduling_strategy=there).remote()
        return self._monitors[node]


def job_folder(root: Path, key: str) -> Path:
    """Return the folder that keeps a cell's state between stages, made if need be."""
    folder = root / key
    folder.mkdir(parents=True, exist_ok=True)
    return folder
