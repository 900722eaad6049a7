"""Many cells: what is already there is cached, the rest runs on the pool, every end is scored and recorded.

The driver deals and scores; workers only see public stages. Recording happens on one thread of the driver, so
the data base has one writer and the workers never wait for it. Cells that can learn together
(`harness.protocol.packing`) go to a worker as one pack; whatever goes wrong there, its cells run again one by
one, so that a pack costs no cell its result and the right one gets the blame.

A cell is claimed before it is begun (`store.leases`), so that several drivers split the cells of a store. One that
another driver has waits until everything else is begun; its record is taken over when it is there, and where that
driver is no more, the cell runs here.
"""

from __future__ import annotations

import logging
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.cell.probe_scorer import ProbeScorer
from harness.cell.run import StageResult, settings_of
from harness.cell.sealing import build
from harness.cell.sessions import new_session
from harness.cell.shared_stage import is_in_hand
from harness.contracts import Scenario, Scorer, Scores, Status, StoredPrediction, Truth, scorer_of
from harness.errors import UserError, in_one_line
from harness.execution.environment import environment, marked
from harness.execution.facts import question
from harness.execution.machine import Machine
from harness.execution.meters import Meters
from harness.execution.others import Meet, Others, mark_orphans_failed
from harness.execution.plan import Plan, plan, renewed
from harness.execution.pool import Ended, Pool, job_folder
from harness.execution.probing import Probing, keep_figures
from harness.processes.messages import Episodes, Event, Job, Pack, Progressed, StageEnded, Started
from harness.protocol import fingerprint
from harness.protocol.cells import Cell, Shape, addressed_components, components_of
from harness.protocol.packing import shape_of_only_stage
from harness.protocol.stage_sharing import FOLDER, Sharing
from harness.store.leases import Leases, roster_of
from harness.store.mlflow_store import PREDICTIONS, Store
from harness.store.predictions import digest, write_answers
from harness.store.record import INTERRUPTED, Ending, Record, params_of
from harness.store.report import Progress, Report

_log = logging.getLogger(__name__)

CELLS = "cells"
_TICK_S = 0.25
_STAGES_S = _REPORT_S = 1.0
_LOG = "log.txt"
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


def execute(
    plan: Plan,
    store: Store,
    *,
    experiment: str,
    machine: Machine,
    limits: Limits,
    parent: str = "",
    session: str = "",
    listen: Listener = lambda _: None,
    meet: Meet = lambda _: None,
) -> list[Record]:
    """Run what the plan leaves open; return one record per cell in the plan's order.

    `parent` is the run of the store that those of the cells are put below. Costs compare within a `session`,
    which is one of its own unless several calls are said to be one. `listen` is told what happens to each cell,
    `meet` who else works on them.

    Raises:
        UserError: the store cannot be written.
    """
    for cell in plan.cells:
        if cell.key in plan.cached:
            listen(_cached(cell, plan.cached[cell.key]))
    if not plan.open:
        return _all_there(plan, store)
    store.check_room()
    with Leases(roster_of(store)) as leases:
        plan, before = renewed(plan, store), plan
        for cell in before.open:
            if cell.key in plan.cached:
                listen(_cached(cell, plan.cached[cell.key]))
        if not plan.open:
            return _all_there(plan, store)
        for protocol_hash in dict.fromkeys(cell.protocol.hash for cell in plan.open):
            mark_orphans_failed(store, leases, protocol_hash)
        shares = (
            machine.share and not machine.mixed and plan.probing is None
        )  # a stage adopted shows no looks
        sharing = Sharing(plan.open if shares else [], store.folder / FOLDER)
        if plan.again:
            _forget_stages(plan.open, sharing)
        run = _Run(
            plan.packs if machine.together else [(cell,) for cell in plan.open],
            store,
            others=Others(
                leases,
                store,
                again=plan.again,
                mixed=plan.mixed,
                meet=meet,
                counts=(lambda _: True) if plan.probing is None else partial(plan.probing.counts, store),
            ),
            experiment=experiment,
            machine=machine,
            limits=limits,
            listen=listen,
            parent=parent,
            session=session or new_session(),
            sharing=sharing,
            probing=plan.probing,
        )
        fresh = store.settled(run.to_the_end())
    _all_there(plan, store)
    return [plan.cached.get(cell.key) or fresh[cell.key] for cell in plan.cells]


def _all_there(plan: Plan, store: Store) -> list[Record]:
    """Return the records of the cells that were there already, each with the figures of the probes asked for."""
    found = [(cell, plan.cached[cell.key]) for cell in plan.cells if cell.key in plan.cached]
    for cell, record in found:
        if plan.probing is not None and record.status is Status.DONE:
            plan.probing.complete(store, cell, record)
    return [record for _, record in found]


@dataclass(slots=True)
class _Dealt:
    """A deal in use: references for the workers, how many stages it has, and the truth for the scorer."""

    episodes: Episodes
    stages: int
    truth: Truth
    shape: Shape | None


@dataclass(slots=True)
class _Scoring:
    """The scores of a cell as its stages end. Of the thread that records alone.

    failure: why there are none any more; what raised once is not asked again.
    """

    scenario: Scenario
    truth: Truth
    probes: ProbeScorer | None = None
    scorer: Scorer | None = None
    stages: int = 0
    failure: str = ""

    def of(self, results: Mapping[int, StageResult]) -> Scores | None:
        """Return what the stages that follow on each other come to, each taken in once; None where there is
        none, or a failure.
        """
        try:
            while not self.failure and self.stages in results:
                self.scorer = self.scorer or scorer_of(self.scenario, self.truth)
                for answer in results[self.stages].answers:
                    self.scorer.add(answer)
                if self.probes is not None:
                    self.probes.add(results[self.stages])
                self.stages += 1
            if self.scorer is None or self.failure:
                return None
            scores = self.scorer.scores()
            return scores if self.probes is None else self.probes.with_figures(scores)
        except Exception as error:
            self.failure = f"scoring failed: {in_one_line(error)}"
            return None


@dataclass(slots=True)
class _Running:
    """A cell in a worker."""

    cell: Cell
    dealt: _Dealt
    attempt: int
    run_id: Future[str]
    scoring: _Scoring
    results: dict[int, StageResult] = field(default_factory=dict)
    unwritten: list[int] = field(default_factory=list)
    session: str = ""
    mixed: str = ""
    heard: Progressed | None = None

    @property
    def answers(self) -> list[StoredPrediction]:
        """Those of the stages so far, in order."""
        return [answer for stage in sorted(self.results) for answer in self.results[stage].answers]

    @property
    def progress(self) -> Progress:
        """How far it is, by what its worker said last."""
        learned, heard = len(self.results), self.heard
        is_of_next = heard is not None and heard.stage == learned and heard.total
        share = heard.step / heard.total if heard and is_of_next else 0.0
        return Progress(learned=learned, stages=self.dealt.stages, share=share)


class _Run:
    """The state of one call of `execute`."""

    def __init__(
        self,
        packs: Sequence[tuple[Cell, ...]],
        store: Store,
        *,
        others: Others,
        experiment: str,
        machine: Machine,
        limits: Limits,
        listen: Listener,
        sharing: Sharing,
        parent: str,
        session: str,
        probing: Probing | None,
    ) -> None:
        self.queue: deque[tuple[Cell, int]] = deque()
        self.packs: dict[
            str, tuple[Cell, ...]
        ] = {}  # by the key of the first cell, which stands in the queue for all
        self.store, self.experiment, self.limits, self.parent = store, experiment, limits, parent
        self.others = others
        self.machine, self.sharing, self.session, self.listen = machine, sharing, session, listen
        self.probing = probing
        self.cells = [cell for pack in packs for cell in pack]
        self.stale = {cell.key for cell in self.cells if others.again}  # to be begun from nothing
        self.question = question(self.cells, machine, store.folder / CELLS)
        self.deals: dict[tuple[str, int, bool], _Dealt] = {}
        self.users: dict[tuple[str, int, bool], int] = {}  # of a deal: the cells that still need it
        for pack in packs:
            self._enqueue(pack)
            for cell in pack:
                self.users[_deal_of(cell)] = self.users.get(_deal_of(cell), 0) + 1
        self.running: dict[str, _Running] = {}
        self.records: dict[str, Record] = {}
        self.writes: deque[Future[Any]] = deque()
        self.stages_due = self.report_due = 0.0
        self.is_waiting = False

    def to_the_end(self) -> dict[str, Record]:
        """Run everything; return the records by key."""
        self._report()
        with (
            ThreadPoolExecutor(max_workers=1, thread_name_prefix="record") as self.writer,
            Pool(self.machine, self.question) as self.pool,
            _signals_as_interrupt(),
        ):
            self.meters = Meters()
            try:
                while self._goes_on():
                    self._look_elsewhere()
                    while self.queue and self.pool.has_room:
                        self._submit(*next_cell(self.queue, self.sharing, self._awaited()))
                    heard = self.pool.wait(_TICK_S)
                    for event in heard:
                        if isinstance(event, Ended):
                            self._end(event)
                        else:
                            self._hear(event)
                    if not heard or time.monotonic() > self.stages_due:
                        self._write_stages()
                    if time.monotonic() > self.report_due:
                        self.meters.stand(waiting=self._report().waiting, running=len(self.running))
                    self._check_writes(allowed=_MAX_WRITES)
            except KeyboardInterrupt:
                self._interrupted()
            self._check_writes(allowed=0)
        return self.records

    def _goes_on(self) -> bool:
        """Say whether there are cells to run or to wait for; the last to be seen are those that were lost to another
        driver when they were to be recorded.
        """
        if not (self.queue or self.running or self.others.elsewhere):
            self._check_writes(allowed=0)
        return bool(self.queue or self.running or self.others.elsewhere or self.others.lost)

    def _look_elsewhere(self) -> None:
        """Put cells back that are to be run here after all."""
        for cell in self.others.taken():
            self.users[_deal_of(cell)] += 1
        for cell in self.others.freed():
            self._enqueue((cell,))
        if self.others.elsewhere and not (self.queue or self.running or self.is_waiting):
            self.is_waiting = True
            _log.warning(
                "waiting for %d of these cells, which other drivers work on", len(self.others.elsewhere)
            )

    def _enqueue(self, pack: tuple[Cell, ...], *, first: bool = False) -> None:
        if len(pack) > 1:
            self.packs[pack[0].key] = pack
        (self.queue.appendleft if first else self.queue.append)((pack[0], 1))

    def _submit(self, cell: Cell, attempt: int) -> None:
        """Give a worker the cell, or the pack that it stands for; cells that were dealt another shape than
        the first wait, and so do those that another driver has.
        """
        before = self.packs.pop(cell.key, (cell,))
        pack, ended = self.others.claim(before)
        for each in (each for each in before if each.key in ended):
            self._take_over(each, ended[each.key])
        if not pack:
            return
        by_shape: dict[Shape | None, list[Cell]] = {}
        for each in pack:
            by_shape.setdefault(self._deal(each).shape, []).append(each)
        alike, *others = by_shape.values()
        for group in reversed(others):
            self._enqueue(tuple(group), first=True)
        jobs = tuple(self._begin(each, attempt) for each in alike)
        episodes = [self.running[job.key].dealt.episodes for job in jobs]
        if len(jobs) == 1:
            self.pool.submit(jobs[0], episodes)
        else:
            key = f"pack-{fingerprint.of_value([job.key for job in jobs])}"
            self.pool.submit(
                Pack(key=key, jobs=jobs, keep=job_folder(self.store.folder / CELLS, key)), episodes
            )

    def _deal(self, cell: Cell) -> _Dealt:
        where = _deal_of(cell)
        if where not in self.deals:
            sealed = build(cell.protocol.scenario, cell.seed, reveal=_is_upper_bound(cell))
            shape = shape_of_only_stage(sealed.episodes)
            try:
                published = self.pool.publish(sealed.episodes)
            except OSError as error:
                raise UserError(
                    f"there is no room to hand the stages of {cell} to a worker: {error.strerror or error}"
                ) from error
            self.deals[where] = _Dealt(published, len(sealed.episodes), sealed.truth, shape)
        return self.deals[where]

    def _begin(self, cell: Cell, attempt: int) -> Job:
        """Open the record of a cell and return what its worker is told."""
        scenario = cell.protocol.scenario
        settings = replace(self.machine.computing(settings_of(scenario, cell.seed)), session=self.session)
        if cell.key in self.stale:
            self.stale.remove(cell.key)
            shutil.rmtree(self.store.folder / CELLS / cell.key, ignore_errors=True)
        keep = job_folder(self.store.folder / CELLS, cell.key)
        if self.probing is not None:
            self.probing.settle(keep)
        of_cell = marked(environment(self.machine, self.pool.environment), keep)
        run_id = self._write(
            self.store.begin, cell, experiment=self.experiment, environment=of_cell, parent=self.parent
        )
        dealt = self.deals[_deal_of(cell)]
        probes = None if self.probing is None else ProbeScorer(self.probing.looks, dealt.truth, cell.seed)
        scoring = _Scoring(scenario, dealt.truth, probes)
        self.running[cell.key] = _Running(
            cell, dealt, attempt, run_id, scoring, mixed=of_cell.get("mixed", "")
        )
        plugin = cell.contender.plugin
        return Job(
            key=cell.key,
            strategy=plugin.address,
            source=plugin.source,
            params={**cell.contender.params, **addressed_components(cell.contender)},
            components=tuple(components_of(cell.contender)),
            code=cell.contender.own_code,
            lent_code=(
                *cell.protocol.content.get("code", {}).values(),
                *cell.contender.component_code.values(),
            ),
            settings=settings,
            keep=keep,
            shared=self.sharing.paths(cell),
            timeout_s=self.limits.timeout_s,
            memory_mib=self.limits.memory_mib,
            ahead=plugin.loaded_ahead,
            looks=None if self.probing is None else self.probing.looks,
        )

    def _awaited(self) -> set[Path]:
        """Return the files of the stages that running cells are still learning for others."""
        return {
            path
            for running in self.running.values()
            for path in self.sharing.still_to_learn(running.cell, len(running.results))
        }

    def _hear(self, event: Event) -> None:
        running = self.running.get(event.key)
        if running is None:
            return
        match event:
            case Started():
                running.session = event.session
                self.listen(Update(cell=running.cell, status=Status.RUNNING))
            case Progressed():
                running.heard = event
                self.listen(
                    Update(
                        cell=running.cell,
                        status=Status.RUNNING,
                        stage=event.stage,
                        step=event.step,
                        total=event.total,
                    )
                )
            case StageEnded():
                running.results[event.result.stage] = event.result
                running.unwritten.append(event.result.stage)
                self.meters.learn(event.result.learn_s)

    def _write_stages(self) -> None:
        """Record the stages that ended in cells that go on; those of a cell that ends within a second are
        recorded with its end.
        """
        self.stages_due = time.monotonic() + _STAGES_S
        for running in self.running.values():
            if running.unwritten:
                self._write(_record_stages, self.store, running, tuple(running.unwritten))
                running.unwritten.clear()

    def _report(self) -> Report:
        """Let those who watch the store know how this run stands."""
        self.report_due = time.monotonic() + _REPORT_S
        report = Report(
            waiting=len(self.queue) + sum(len(pack) - 1 for pack in self.packs.values()),
            elsewhere=self.others.awaited,
            progress={key: running.progress for key, running in self.running.items()},
        )
        self.others.leases.say(report)
        return report

    def _end(self, ended: Ended) -> None:
        task = ended.task
        if ended.outcome.lost:
            self.meters.lose()
        if isinstance(task, Pack):
            self._end_pack(task, ended)
            return
        running = self.running.pop(task.key)
        if ended.outcome.lost and (running.attempt < _MAX_ATTEMPTS or ended.outcome.elsewhere):
            self._write(self._record, running, ended, task, None)
            self.queue.appendleft((running.cell, running.attempt + (not ended.outcome.elsewhere)))
            return
        if ended.outcome.lost:
            reason = f"{ended.outcome.reason}, {running.attempt} times"
            ended = replace(ended, outcome=replace(ended.outcome, reason=reason))
        self._finish(running, ended, task)

    def _end_pack(self, pack: Pack, ended: Ended) -> None:
        """Record every cell with its share of the time; or put all of them back into the queue, each by
        itself.
        """
        outcome = ended.outcome
        members = [(job, self.running.pop(job.key)) for job in pack.jobs]
        if outcome.status is Status.DONE:
            shared = replace(ended, outcome=replace(outcome, seconds=outcome.seconds / len(members)))
            for job, running in members:
                self._finish(running, shared, job)
        else:
            reason = f"{len(members)} cells together: {outcome.reason}; it runs again by itself"
            failed = replace(ended, outcome=replace(outcome, status=Status.FAILED, reason=reason))
            for job, running in members:
                self._write(self._record, running, failed, job, None)
            self.queue.extendleft((running.cell, 1) for _, running in reversed(members))
        self._write(shutil.rmtree, pack.keep, ignore_errors=True)

    def _finish(self, running: _Running, ended: Ended, job: Job) -> None:
        self._let_go(running.cell)
        self.meters.end(ended.outcome.status)
        self._write(self._record, running, ended, job, job.keep)

    def _record(self, running: _Running, ended: Ended, job: Job, keep: Path | None) -> None:
        """Record how a cell ended, and with `keep`, for the last time, let others have it. Of one that is not this
        driver's any more nothing is recorded.
        """
        is_held = self.others.leases.holds(running.cell.key)
        if is_held:
            _record_end(self.store, running, ended, job, self.records, self.listen, keep)
            if self.probing is not None and keep is not None and running.scoring.probes is not None:
                record, results = self.records[running.cell.key], running.results.values()
                keep_figures(self.probing, self.store, running.cell, record, running.scoring.probes, results)
        if keep is not None and is_held:
            self.store.when_sent(running.run_id.result(), partial(self.others.release, running.cell))
        elif keep is not None:
            self.others.lost.append(running.cell)

    def _take_over(self, cell: Cell, record: Record) -> None:
        """Take the record of a cell that another driver has ended."""
        self._let_go(cell)
        self.records[cell.key] = record
        self.listen(_cached(cell, record))

    def _let_go(self, cell: Cell) -> None:
        """Note that a cell needs its deal no more."""
        where = _deal_of(cell)
        self.users[where] -= 1
        if self.users[where] == 0 and where in self.deals:
            self.pool.withdraw(self.deals.pop(where).episodes)

    def _interrupted(self) -> None:
        """Ctrl-C, or a signal to end: record every cell that did not finish as failed; its state between
        stages is kept.
        """
        self._write_stages()
        ending = Ending(status=Status.FAILED, reason=INTERRUPTED)
        for running in self.running.values():
            self._write(self._record_interrupted, running, ending)
        self._check_writes(allowed=0)
        for cell in (cell for cell in self.cells if cell.key not in self.records):
            self.records[cell.key] = _row(cell, "", ending, None)
            self.listen(Update(cell=cell, status=ending.status, reason=ending.reason))

    def _record_interrupted(self, running: _Running, ending: Ending) -> None:
        if self.others.leases.holds(running.cell.key):
            self.store.end(running.run_id.result(), ending)

    def _write(self, action: Callable[..., Any], *args: Any, **options: Any) -> Future[Any]:
        future = self.writer.submit(action, *args, **options)
        self.writes.append(future)
        return future

    def _check_writes(self, *, allowed: int) -> None:
        """Raise what went wrong on the recording thread; wait while it lags behind by more than `allowed`, so
        that nothing piles up.
        """
        while self.writes and (len(self.writes) > allowed or self.writes[0].done()):
            try:
                self.writes.popleft().result()
            except OSError as error:
                raise UserError(
                    f"cannot write to the store {self.store.folder}: {error.strerror or error}"
                ) from error


@contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """Take a request to end (SIGTERM) and a terminal that was closed (SIGHUP) as Ctrl-C; only the main thread
    may.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt)
        for number in {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _forget_stages(cells: Sequence[Cell], sharing: Sharing) -> None:
    """Remove the stages that earlier runs have left for these cells."""
    for path in (path for cell in cells for path in sharing.paths(cell)):
        if path is not None:
            path.unlink(missing_ok=True)


def _record_stages(store: Store, running: _Running, stages: Sequence[int]) -> None:
    if scores := running.scoring.of(running.results):
        store.add_stages(running.run_id.result(), scores, stages)


def next_cell(
    queue: deque[tuple[Cell, int]], sharing: Sharing, awaited: Collection[Path]
) -> tuple[Cell, int]:
    """Take the next cell, if possible one that need not wait for a stage which another cell is still learning for
    it: one of `awaited`, or one that a cell of another driver has in hand.
    """
    elsewhere: dict[Path, bool] = {}
    for place, (cell, attempt) in enumerate(queue):
        path = sharing.next_to_learn(cell)
        if path is not None and path not in awaited and path not in elsewhere:
            elsewhere[path] = is_in_hand(path)
        if path is None or not (path in awaited or elsewhere[path]):
            del queue[place]
            return cell, attempt
    return queue.popleft()


def _record_end(
    store: Store,
    running: _Running,
    ended: Ended,
    job: Job,
    records: dict[str, Record],
    listen: Listener,
    keep: Path | None,
) -> None:
    """Score, store, then tell; with `keep`, the folder of a cell that is done is cleared away."""
    answers, results, outcome = running.answers, running.results.values(), ended.outcome
    scores = running.scoring.of(running.results)
    if outcome.status is Status.DONE and running.scoring.failure:
        outcome = replace(outcome, status=Status.FAILED, reason=running.scoring.failure)
    seconds = outcome.seconds + sum(
        result.borrowed_s for result in results
    )  # a shared stage counts for everyone who used it
    is_of_one = all(result.session == running.session for result in results)
    ending = Ending(
        status=outcome.status,
        reason=outcome.reason,
        digest=digest(answers),
        seconds=seconds,
        learn_s=sum(result.learn_s for result in results),
        probe_s=sum(result.probe_s for result in results),
        predict_s=sum(result.predict_s for result in results),
        peak_mib=outcome.peak_mib,
        together=max((result.together for result in results), default=1),
        session=running.session if is_of_one else "",
    )
    files = job.keep / "files"
    files.mkdir(
        parents=True, exist_ok=True
    )  # whoever removed the folder of a cell has not removed its answers
    (files / _LOG).write_text(outcome.log_tail, encoding="utf-8")
    if answers:
        write_answers(files / PREDICTIONS, answers)
    store.end(running.run_id.result(), ending, scores=scores, files=files, stages=running.unwritten)
    shutil.rmtree(files)
    if keep is None:
        return
    if ending.status is Status.DONE:
        shutil.rmtree(keep, ignore_errors=True)
    record = replace(_row(running.cell, running.run_id.result(), ending, scores), mixed=running.mixed)
    records[running.cell.key] = record
    primary = running.cell.protocol.scenario.metrics[0].name
    listen(
        Update(
            cell=running.cell,
            status=ending.status,
            reason=ending.reason,
            figure=record.metrics.get(primary),
            seconds=ending.seconds,
        )
    )


def _row(cell: Cell, run_id: str, ending: Ending, scores: Scores | None) -> Record:
    return Record(
        key=cell.key,
        run_id=run_id,
        protocol_hash=cell.protocol.hash,
        scenario=cell.protocol.label,
        strategy=cell.contender.label,
        seed=cell.seed,
        status=ending.status,
        reason=ending.reason,
        metrics=dict(scores.final) if scores else {},
        params=params_of(cell),
        digest=ending.digest,
        seconds=ending.seconds,
        learn_s=ending.learn_s,
        probe_s=ending.probe_s,
        predict_s=ending.predict_s,
        peak_mib=ending.peak_mib,
        together=ending.together,
        session=ending.session,
    )


def _cached(cell: Cell, record: Record) -> Update:
    figure = record.metrics.get(cell.protocol.scenario.metrics[0].name)
    status = Status.CACHED if record.status is Status.DONE else record.status
    return Update(cell=cell, status=status, reason=record.reason, figure=figure, seconds=record.seconds)


def _deal_of(cell: Cell) -> tuple[str, int, bool]:
    return cell.protocol.hash, cell.seed, _is_upper_bound(cell)


def _is_upper_bound(cell: Cell) -> bool:
    return cell.contender.plugin.name == cell.protocol.scenario.upper_bound


__all__ = ["Limits", "Listener", "Plan", "Update", "execute", "plan"]
