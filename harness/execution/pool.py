"""A pool of Ray workers that take tasks (cells, or packs of them) one after another and are replaced when
they die.

Every worker has its stated cores and threads. Whatever is lost (a worker at work, one that is still loading,
a node, a local Ray itself) is begun again, and the task that ran there ends as lost, which says that it may
be tried once more. In a cluster that was joined, workers sit on the nodes that may work (`nodes`), as many as
these have room for; nodes may join and leave meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.cell.sealing import Episode
from harness.contracts import Status
from harness.errors import UserError
from harness.execution.away import Carried, packed, sweep, unpack
from harness.execution.cluster import Watch, on_one_machine, start, stop
from harness.execution.environment import of_this_machine
from harness.execution.facts import Question
from harness.execution.machine import Machine
from harness.execution.nodes import Nodes, on
from harness.execution.shipping import Sent
from harness.execution.worker import Worker, tail
from harness.processes.cell import PROGRESS_S
from harness.processes.mapped import Mapped
from harness.processes.messages import Episodes, Event, Heartbeat, Outcome, Task

_log = logging.getLogger(__name__)

_SILENT_S = 60.0
"""Seconds after which a worker that says nothing is taken for lost; one that is well says something every
`worker.HEARTBEAT_S`.
"""
_LOADING_S = 240.0
_MOST_FAILURES = 4
"""How many workers in a row may die while they load, and how often a local Ray may, before the run ends."""
_LOOK_S = 1.0
"""How often the nodes of a cluster are looked at."""
_SETTLE_S = 45.0
"""How long a worker of a cluster that cannot be reached keeps its task: so late may Ray notice that its node is
no more.
"""
_GATHER_S = 5e-5
"""How long the driver waits, for each worker, after one has said something: what several say at once costs one look at
all, which takes about as long.
"""
_PROGRESS_PER_S = 128
"""How often all workers together say how far they are, at most: a message costs the driver a third of a millisecond."""
_CLEAR_S = 5.0
"""How long nodes may take to remove what workers have left there."""
_LONGEST_TICK_S = 1.0
"""What a look counts for at most, so that a driver that was stopped for an hour takes nobody for lost."""


@dataclass(slots=True, kw_only=True)
class _Seat:
    """A place for one worker: the actor that sits there, and what it runs. node: where, in a cluster that was
    joined.  stream: what it says of its task.  silent_s: since its last word.
    died: of what, where it is still to be seen whether its node did.
    brought: what was sent with its task, by file and when that was written.
    """

    node: str
    worker: Any
    arriving: Any
    task: Task | None = None
    stream: Any = None
    pid: int = 0
    silent_s: float = 0.0
    died: Exception | None = None
    brought: dict[tuple[Path, int], Any] = field(default_factory=dict)

    @property
    def is_free(self) -> bool:
        """Whether its worker is ready and runs nothing."""
        return self.arriving is None and self.task is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A task left the pool."""

    task: Task
    outcome: Outcome


class Pool:
    """The workers of one run; a context manager that stops them all."""

    def __init__(self, machine: Machine, question: Question) -> None:
        """Start Ray as `start` does and seat the workers; the nodes of a cluster are asked `question` first."""
        self.machine, self.question = machine, question
        self._mapped: dict[str, Mapped] = {}
        self._failures: Counter[str] = Counter()
        self._restarts = 0
        self._looked = time.monotonic()
        self._open()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for path in list(self._mapped):
            self.withdraw(path)
        self._clear_away()
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
        return self._free is not None

    @property
    def environment(self) -> dict[str, Any]:
        """What a record says of the machine of the worker that takes the next task."""
        there = self._nodes.environment(self._free.node) if self._nodes and self._free else None
        return there or self._here

    @property
    def _free(self) -> _Seat | None:
        return next((seat for seat in self._seats if seat.is_free and self._may_work(seat.node)), None)

    def _may_work(self, node: str) -> bool:
        """Whether a node was not left out since workers sat down there."""
        return self._nodes is None or not self._nodes.is_refused(node)

    def submit(self, task: Task, episodes: Sequence[Episodes]) -> None:
        """Give `task` to the first worker that is ready; `episodes` of every cell in it."""
        seat = self._free
        assert seat is not None
        seat.task, seat.silent_s = task, 0.0
        brought = [] if self._sees_store(seat.node) else self._packed(seat, task)
        sent = self._sent(seat.node)
        seat.stream = seat.worker.run.options(num_returns="streaming").remote(
            sent.readdressed(task) if sent else task,
            episodes,
            brought,
            max(PROGRESS_S, len(self._seats) / _PROGRESS_PER_S),
        )

    def wait(self, seconds: float) -> list[Event | Ended]:
        """Wait up to `seconds` until something is heard; return it, in the order in which every worker said
        it.

        Raises:
            UserError: workers, or Ray itself, die again and again, or no node of a cluster is left to work.
        """
        there = self._come(seconds)
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, _LONGEST_TICK_S), now
        if self._watch and (trouble := self._watch.trouble(passed)):
            return self._start_over(trouble)
        heard: list[Event | Ended] = []
        for seat in list(self._seats):
            self._seat_arrival(seat, passed, is_there=seat.arriving in there)
            heard += self._heard(seat, passed, is_there=seat.stream in there)
        return heard + self._followed(passed)

    def _come(self, seconds: float) -> set[Any]:
        """Wait up to `seconds` for the first of what is waited for; return what of it is there."""
        waiting = [what for seat in self._seats for what in (seat.arriving, seat.stream) if what is not None]
        waiting += self._nodes.waiting if self._nodes else []
        if not waiting:
            time.sleep(seconds)
            return set()
        if not self.ray.wait(waiting, timeout=seconds)[0]:
            return set()
        time.sleep(_GATHER_S * len(waiting))
        return set(self.ray.wait(waiting, num_returns=len(waiting), timeout=0)[0])

    def _sees_store(self, node: str) -> bool:
        """Whether workers on this node see the folder of the store."""
        return self._nodes is None or self._nodes.sees_store(node)

    def _sent(self, node: str) -> Sent | None:
        """Return the code that a node was sent; None where it has its own."""
        return self._nodes.sent(node) if self._nodes else None

    def _runtime_env(self, node: str) -> dict[str, Any] | None:
        sent = self._sent(node)
        return sent.runtime_env if sent else None

    @property
    def _run(self) -> str:
        """What the folders of this run's workers are called by, on nodes that do not see that of the store."""
        return self.question.mark.name if self.question.mark else ""

    def _packed(self, seat: _Seat, task: Task) -> list[Carried]:
        """Return references to what the cells of a task continue from; what another worker was sent is sent to no
        node twice.
        """
        sent = {file: reference for each in self._seats for file, reference in each.brought.items()}
        seat.brought = {}

        def stored(path: Path) -> Any:
            file = path, path.stat().st_mtime_ns
            seat.brought[file] = sent[file] if file in sent else self.ray.put(path.read_bytes())
            return seat.brought[file]

        return [carried for job in task.jobs if (carried := packed(job, {}, read=stored)) is not None]

    def _keep(self, task: Task, carried: Carried) -> None:
        """Keep what a cell has written on a node that does not see the folder of the store."""
        try:
            unpack(task, carried)
        except OSError as error:
            _log.warning(
                "a stage of a cell cannot be kept (%s): where its node is lost, it is learned again", error
            )

    def _clear_away(self) -> None:
        """End the workers on nodes that do not see the folder of the store, and have these removed theirs."""
        if self.question.mark:
            self.question.mark.unlink(missing_ok=True)
        away = [seat for seat in self._seats if not self._sees_store(seat.node)]
        if not away:
            return
        for seat in away:
            self._dismiss(seat)
        if self._nodes and not self._nodes.has_head:
            return
        clear: Any = self.ray.remote(sweep)
        asked = [
            clear.options(
                num_cpus=0, max_retries=0, scheduling_strategy=on(node), runtime_env=self._runtime_env(node)
            ).remote(self._run, patience_s=_CLEAR_S)
            for node in {seat.node for seat in away}
        ]
        self.ray.wait(asked, num_returns=len(asked), timeout=2 * _CLEAR_S)

    def _open(self) -> None:
        self.own = start(self.machine)
        import ray

        self.ray = ray
        self._one_machine = on_one_machine(self.machine)
        self._watch = Watch() if self.own and self.machine.address is None else None
        if self.machine.address and self.question.mark:
            self.question.mark.parent.mkdir(parents=True, exist_ok=True)
            self.question.mark.touch()
        self._nodes = Nodes(self.machine, self.question) if self.machine.address else None
        self._here = of_this_machine()
        self._since_look_s = 0.0
        self._seats = [] if self._nodes else [self._new_seat() for _ in range(self.machine.processes)]

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

    def _followed(self, passed: float) -> list[Event | Ended]:
        """Follow a cluster: what ran on nodes that have left is lost, and workers sit down where there is room."""
        if self._nodes is None:
            return []
        self._since_look_s += passed
        if self._since_look_s < _LOOK_S and not self._nodes.has_news:
            return []
        self._since_look_s = 0.0
        names = {seat.node: self._nodes.name(seat.node) for seat in self._seats}
        self._nodes.look()
        lost: list[Event | Ended] = []
        for node, name in names.items():
            if self._nodes.environment(node) is None:
                lost += self._left(node, f"node {name} has left the cluster")
        for seat in [seat for seat in self._seats if seat.is_free and not self._may_work(seat.node)]:
            self._dismiss(seat)
            self._seats.remove(seat)
        self._seats += [
            self._new_seat(node) for node in self._nodes.free([seat.node for seat in self._seats])
        ]
        return lost

    def _left(self, node: str, reason: str) -> list[Event | Ended]:
        """Clear the seats of a node that is no more; return the ends of what ran there."""
        seats = [seat for seat in self._seats if seat.node == node]
        self._seats = [seat for seat in self._seats if seat.node != node]
        tasks = [seat.task for seat in seats if seat.task is not None]
        cells = sum(len(task.jobs) for task in tasks)
        runs = f": {cells} {'cell runs' if cells == 1 else 'cells run'} again elsewhere" if cells else ""
        _log.warning("%s%s", reason, runs)
        for seat in seats:
            self._dismiss(seat)
        return [_lost(task, reason, elsewhere=True) for task in tasks]

    def _heard(self, seat: _Seat, passed: float, *, is_there: bool) -> Iterator[Event | Ended]:
        """Take in what a worker said, where something is there; where it can say nothing any more, it is replaced."""
        seat.silent_s += passed
        while is_there and seat.task is not None:
            seat.silent_s = 0.0
            try:
                message = self.ray.get(next(seat.stream))
            except (self.ray.exceptions.RayError, StopIteration) as error:
                seat.died, seat.stream = error, None
                break
            if isinstance(message, Outcome):
                yield Ended(task=seat.task, outcome=self._judged(seat.node, message))
                seat.task = seat.stream = None
                seat.brought = {}
            elif isinstance(message, Carried):
                self._keep(seat.task, message)
            elif not isinstance(message, Heartbeat):
                yield message
            is_there = seat.stream is not None and self._is_there(seat.stream)
        if seat.died is not None:
            if not self._may_have_left(seat):
                is_memory = isinstance(seat.died, self.ray.exceptions.OutOfMemoryError)
                yield self._replace(seat, _words(seat.died), out_of_memory=is_memory)
        elif seat.task is not None and seat.silent_s > _SILENT_S:
            yield self._replace(seat, f"its worker said nothing for {_SILENT_S:g} s")

    def _judged(self, node: str, outcome: Outcome) -> Outcome:
        """Leave out a node on which nothing can be written any more: what it ran runs again elsewhere."""
        if not outcome.no_disk or self._nodes is None:
            return outcome
        self._nodes.refuse(node, f"{outcome.no_disk}: make room or mend it; its cells run again elsewhere")
        return replace(outcome, lost=True, elsewhere=True)

    def _may_have_left(self, seat: _Seat) -> bool:
        """Whether the node of a worker that died is gone, or it is still to be seen."""
        if self._nodes is None:
            return False
        is_unsure = isinstance(seat.died, self.ray.exceptions.ActorUnavailableError)
        return (is_unsure and seat.silent_s <= _SETTLE_S) or not self._nodes.is_there(seat.node)

    def _replace(self, seat: _Seat, reason: str, *, out_of_memory: bool = False) -> Ended:
        """Have another worker in the place of one; return the end of what it ran."""
        assert seat.task is not None
        self._seat_anew(seat)
        return _lost(seat.task, reason, out_of_memory=out_of_memory)

    def _seat_anew(self, seat: _Seat) -> None:
        self._dismiss(seat)
        self._seats[self._seats.index(seat)] = self._new_seat(seat.node)

    def _seat_arrival(self, seat: _Seat, passed: float, *, is_there: bool) -> None:
        """Notice that a worker is ready; one that died while it loaded, or that takes too long on this
        machine, is replaced.
        """
        if seat.arriving is None:
            return
        reason = (
            f"they load for {_LOADING_S:g} s" if self._watch and seat.silent_s + passed > _LOADING_S else ""
        )
        if is_there:
            try:
                seat.pid, seat.arriving, seat.silent_s = self.ray.get(seat.arriving), None, 0.0
            except self.ray.exceptions.RayError as error:
                reason = _words(error)
            else:
                self._failures[seat.node] = 0
        if not reason or (self._nodes and not self._nodes.is_there(seat.node)):
            return
        self._failures[seat.node] += 1
        is_enough = self._failures[seat.node] >= _MOST_FAILURES * self._on(seat.node)
        if is_enough and self._nodes is None:
            raise UserError(f"workers do not start: {reason}; see `owb doctor`")
        if is_enough and self._nodes:
            self._nodes.refuse(seat.node, f"workers do not start there: {reason}")
            self._dismiss(seat)
            self._seats.remove(seat)
        else:
            self._seat_anew(seat)

    def _on(self, node: str) -> int:
        """Return how many workers sit on a node, or on this machine."""
        return sum(seat.node == node for seat in self._seats)

    def _new_seat(self, node: str = "") -> _Seat:
        need = self.machine
        further = {kind: amount for kind, amount in need.needed.items() if kind not in ("CPU", "GPU")}
        actor: Any = self.ray.remote(Worker).options(
            num_cpus=need.threads,
            num_gpus=need.gpus,
            memory=further.pop("memory", None),
            resources=further,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=on(node) if node else "DEFAULT",
            runtime_env=self._runtime_env(node),
        )
        away = "" if self._sees_store(node) else self._run
        worker = actor.remote(need.threads, path=sys.path, away=away)
        return _Seat(node=node, worker=worker, arriving=worker.ready.remote())

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
