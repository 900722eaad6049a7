"""Many cells: what is already there is cached, the rest runs on the pool, every end is scored and recorded.

The driver deals and scores; workers only see public stages. Recording happens on one thread of the driver, so the data base has one writer
and the workers never wait for it.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness import figures
from harness.answers import digest, write_answers
from harness.contracts import Answer, Precision, Scores, Status, Truth
from harness.errors import UserError
from harness.pool import Ended, Pool, Resources, job_folder
from harness.protocol import Cell
from harness.record import PREDICTIONS, Ending, Record, Store, environment
from harness.run import Conditions, learner_seed
from harness.sealing import build
from harness.worker import Job, Progressed, StageEnded, Started

_TICK_S = 0.25
_MAX_ATTEMPTS = 2
_MAX_WRITES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Hard limits of a cell."""

    timeout_s: float = 3600.0
    memory_mib: float = 4096.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Something a reader of the console wants to know about a cell."""

    cell: Cell
    status: Status
    reason: str = ""
    stage: int = 0
    step: int = 0
    total: int = 0
    figure: float | None = None
    seconds: float = float("nan")


Listener = Callable[[Update], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run would do: cells that are there already, and cells to run."""

    cached: dict[str, Record]
    cells: Sequence[Cell]

    @property
    def open(self) -> list[Cell]:
        """The cells without a finished record."""
        return [cell for cell in self.cells if cell.key not in self.cached]


def plan(cells: Sequence[Cell], store: Store) -> Plan:
    """Look up which cells have a finished record."""
    known: dict[str, Record] = {}
    for protocol_hash in dict.fromkeys(cell.protocol.hash for cell in cells):
        known |= store.finished(protocol_hash)
    return Plan(cells=cells, cached={cell.key: known[cell.key] for cell in cells if cell.key in known})


def execute(plan: Plan, store: Store, *, experiment: str, resources: Resources, limits: Limits, device: str = "cpu",
            precision: Precision = "float32", listen: Listener = lambda _: None) -> list[Record]:  # fmt: skip
    """Run what the plan leaves open; return one record per cell in the plan's order.

    Raises:
        UserError: the store is in use by another run, or cannot be written.
    """
    for cell in plan.cells:
        if cell.key in plan.cached:
            listen(_cached(cell, plan.cached[cell.key]))
    if not plan.open:
        return [plan.cached[cell.key] for cell in plan.cells]
    store.check_room()
    with _locked(store.folder):
        for protocol_hash in dict.fromkeys(cell.protocol.hash for cell in plan.open):
            store.bury(protocol_hash)
        run = _Run(plan.open, store, experiment=experiment, resources=resources, limits=limits, device=device, precision=precision,
                   listen=listen)  # fmt: skip
        fresh = run.to_the_end()
    return [plan.cached.get(cell.key) or fresh[cell.key] for cell in plan.cells]


@dataclass(slots=True)
class _Dealt:
    """A deal in use: references for the workers, the truth for the scorer, and how many cells still need it."""

    episodes: list[tuple[Any, Any]]
    truth: Truth
    users: int


@dataclass(slots=True)
class _Running:
    """A cell in a worker."""

    cell: Cell
    dealt: _Dealt
    attempt: int
    run_id: Future[str]
    answers: dict[int, tuple[Answer, ...]] = field(default_factory=dict)
    borrowed_s: float = 0.0


class _Run:
    """The state of one call of `execute`."""

    def __init__(self, cells: Sequence[Cell], store: Store, *, experiment: str, resources: Resources, limits: Limits, device: str,
                 precision: Precision, listen: Listener) -> None:  # fmt: skip
        self.queue = deque((cell, 1) for cell in cells)
        self.store, self.experiment, self.limits = store, experiment, limits
        self.device, self.precision, self.listen = device, precision, listen
        self.resources = resources
        self.environment = environment(resources.threads)
        self.deals: dict[tuple[str, int, bool], _Dealt] = {}
        self.users: dict[tuple[str, int, bool], int] = {}
        for cell in cells:
            self.users[_deal_of(cell)] = self.users.get(_deal_of(cell), 0) + 1
        self.running: dict[str, _Running] = {}
        self.records: dict[str, Record] = {}
        self.writes: deque[Future[Any]] = deque()

    def to_the_end(self) -> dict[str, Record]:
        """Run all cells; return their records by key."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="record") as self.writer, Pool(self.resources) as pool:
            try:
                while self.queue or self.running:
                    while self.queue and pool.has_room:
                        self._submit(pool, *self._next())
                    ended = pool.wait(_TICK_S)
                    self._hear(pool)
                    for each in ended:
                        self._end(each)
                    self._check_writes(allowed=_MAX_WRITES)
            except KeyboardInterrupt:
                self._interrupted()
            self._check_writes(allowed=0)
        return self.records

    def _submit(self, pool: Pool, cell: Cell, attempt: int) -> None:
        where = _deal_of(cell)
        if where not in self.deals:
            sealed = build(cell.protocol.scenario, cell.seed, reveal=_is_upper_bound(cell))
            self.deals[where] = _Dealt(pool.publish(sealed.episodes), sealed.truth, self.users[where])
        scenario = cell.protocol.scenario
        conditions = Conditions(root_seed=learner_seed(cell.seed), **scenario.lent(), probe_every=scenario.probe_every,
                                needed=scenario.answers, probed=scenario.probed, device=self.device, precision=self.precision)  # fmt: skip
        shared = self._shared(cell) if cell.first_stage_key else None
        job = Job(key=cell.key, strategy=cell.contender.plugin.name, source=cell.contender.plugin.source, params=cell.contender.params,
                  conditions=conditions, keep=job_folder(self.store.folder / "cells", cell.key), shared=shared,
                  timeout_s=self.limits.timeout_s, memory_mib=self.limits.memory_mib)  # fmt: skip
        run_id = self._write(self.store.begin, cell, experiment=self.experiment, environment=self.environment)
        self.running[cell.key] = _Running(cell, self.deals[where], attempt, run_id)
        pool.submit(job, self.deals[where].episodes)

    def _next(self) -> tuple[Cell, int]:
        """Take the next cell, if possible one that need not wait for a stage 0 which another cell is still training."""
        at_work = {running.cell.first_stage_key for running in self.running.values() if not running.answers} - {""}
        for place, (cell, _) in enumerate(self.queue):
            if cell.first_stage_key not in at_work or self._shared(cell).is_file():
                self.queue.rotate(-place)
                taken = self.queue.popleft()
                self.queue.rotate(place)
                return taken
        return self.queue.popleft()

    def _shared(self, cell: Cell) -> Path:
        """Return where the state after stage 0 is kept for cells that share it."""
        return self.store.folder / "first-stages" / f"{cell.first_stage_key}.pt"

    def _hear(self, pool: Pool) -> None:
        for event in pool.events():
            running = self.running.get(event.key)
            if running is None:
                continue
            match event:
                case Started():
                    self.listen(Update(cell=running.cell, status=Status.RUNNING))
                case Progressed():
                    self.listen(Update(cell=running.cell, status=Status.RUNNING, stage=event.stage, step=event.step, total=event.total))
                case StageEnded():
                    running.answers[event.result.stage] = event.result.answers
                    running.borrowed_s += event.result.borrowed_s
                    self._write(_record_stage, self.store, running, event.result.stage)

    def _end(self, ended: Ended) -> None:
        running = self.running.pop(ended.job.key)
        if ended.lost and running.attempt < _MAX_ATTEMPTS:
            self._write(_record_end, self.store, running, ended, self.records, self.listen, None)
            self.queue.appendleft((running.cell, running.attempt + 1))
            return
        running.dealt.users -= 1
        if running.dealt.users == 0:
            del self.deals[_deal_of(running.cell)]
        if ended.lost:
            reason = f"{ended.outcome.reason} {running.attempt} times"
            ended = replace(ended, outcome=replace(ended.outcome, reason=reason))
        self._write(_record_end, self.store, running, ended, self.records, self.listen, ended.job.keep)

    def _interrupted(self) -> None:
        """Ctrl-C: record every cell that did not finish as failed; its state between stages is kept."""
        for cell in [*(running.cell for running in self.running.values()), *(cell for cell, _ in self.queue)]:
            reason = "interrupted; the same command continues"
            running = self.running.get(cell.key)
            ending = Ending(status=Status.FAILED, reason=reason)
            if running:
                self._write(self.store.end, running.run_id.result(), ending)
            self.records[cell.key] = _row(cell, "", ending, None)
            self.listen(Update(cell=cell, status=ending.status, reason=reason))

    def _write(self, action: Callable[..., Any], *args: Any, **options: Any) -> Future[Any]:
        future = self.writer.submit(action, *args, **options)
        self.writes.append(future)
        return future

    def _check_writes(self, *, allowed: int) -> None:
        """Raise what went wrong on the recording thread; wait while it lags behind by more than `allowed`, so that nothing piles up."""
        while self.writes and (len(self.writes) > allowed or self.writes[0].done()):
            try:
                self.writes.popleft().result()
            except OSError as error:
                raise UserError(f"cannot write to the store {self.store.folder}: {error.strerror or error}") from error


def _record_stage(store: Store, running: _Running, stage: int) -> None:
    store.stage(running.run_id.result(), _scores(running), stage)


def _record_end(store: Store, running: _Running, ended: Ended, records: dict[str, Record], listen: Listener, keep: Path | None) -> None:
    """Score, store, then tell; with `keep`, the folder of a cell that is done is cleared away."""
    answers = [answer for stage in sorted(running.answers) for answer in running.answers[stage]]
    outcome = ended.outcome
    seconds = outcome.seconds + running.borrowed_s  # a shared stage 0 counts for everyone who used it
    ending = Ending(status=outcome.status, reason=outcome.reason, digest=digest(answers), seconds=seconds, peak_mib=ended.peak_mib)
    scores = _scores(running) if answers else None
    files = ended.job.keep / "files"
    files.mkdir(exist_ok=True)
    (files / "log.txt").write_text(outcome.log_tail, encoding="utf-8")
    if scores:
        write_answers(files / PREDICTIONS, answers)
        figures.draw(scores, files, title=str(running.cell))
    store.end(running.run_id.result(), ending, scores=scores, files=files)
    shutil.rmtree(files)
    if keep is None:
        return
    if ending.status is Status.DONE:
        shutil.rmtree(keep)
    record = _row(running.cell, running.run_id.result(), ending, scores)
    records[running.cell.key] = record
    primary = running.cell.protocol.scenario.metrics[0].name
    listen(
        Update(cell=running.cell, status=ending.status, reason=ending.reason, figure=record.metrics.get(primary), seconds=ending.seconds)
    )


def _scores(running: _Running) -> Scores:
    answers = [answer for stage in sorted(running.answers) for answer in running.answers[stage]]
    return running.cell.protocol.scenario.score(running.dealt.truth, answers)


def _row(cell: Cell, run_id: str, ending: Ending, scores: Scores | None) -> Record:
    return Record(key=cell.key, run_id=run_id, protocol_hash=cell.protocol.hash, scenario=cell.protocol.label,
                  strategy=cell.contender.label, seed=cell.seed, status=ending.status, reason=ending.reason,
                  metrics=dict(scores.final) if scores else {}, digest=ending.digest, seconds=ending.seconds,
                  peak_mib=ending.peak_mib)  # fmt: skip


def _cached(cell: Cell, record: Record) -> Update:
    figure = record.metrics.get(cell.protocol.scenario.metrics[0].name)
    status = Status.CACHED if record.status is Status.DONE else record.status
    return Update(cell=cell, status=status, reason=record.reason, figure=figure, seconds=record.seconds)


def _deal_of(cell: Cell) -> tuple[str, int, bool]:
    return cell.protocol.hash, cell.seed, _is_upper_bound(cell)


def _is_upper_bound(cell: Cell) -> bool:
    return cell.contender.plugin.name == cell.protocol.scenario.upper_bound


class _locked:  # noqa: N801  (reads as a statement at its use)
    """Context manager: one run at a time writes to a store."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to the store {folder}: {error.strerror or error}") from None
        self.lock = FileLock(folder / "run.lock")
        self.folder = folder

    def __enter__(self) -> None:
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"another run is writing to {self.folder}; wait for it, or choose another --store") from None
        except OSError as error:
            raise UserError(f"cannot write to the store {self.folder}: {error.strerror or error}") from None

    def __exit__(self, *_: object) -> None:
        self.lock.release()
