"""A trial's processes: the one that learns a setting, and the judge that alone holds the truth.

The trial learns a cell for every seed, as a worker of a run does and under the same settings of the machine. While it
learns, or after every stage, it sends its answers to the judge and gets a figure back, which it reports to
Ray Tune. So labels that were held out never enter a process that learns.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

from harness.cell.prediction_check import validate_prediction
from harness.cell.run import CellSettings, run_cell
from harness.cell.sealing import Episode
from harness.contracts import Prediction, Query, Stage, Status, StoredPrediction, Strategy, Truth
from harness.execution.pool import job_folder
from harness.execution.worker import Worker
from harness.processes.cell import Order, scratch_of
from harness.processes.link import Link
from harness.processes.mapped import episodes
from harness.processes.messages import Episodes, Job, Outcome
from harness.processes.workshop import Workshop, open_workshop
from harness.protocol import fingerprint

ScenarioText = tuple[str, str | None, Mapping[str, Any]]
"""Name of a scenario's plugin, its source where it is one by path, and all its parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """When a trial's figure is taken. per_seed: how many times for every seed, the last after the last stage.

    every_stage: after every stage; otherwise only after the last, and at the probes of the only stage, which
    are every `epochs` or `steps`.
    """

    per_seed: int = 1
    every_stage: bool = False
    epochs: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What all trials of a search have in common. cell_settings: under every seed.  keep: folder for
    what a killed trial left.
    """

    strategy: str
    source: str | None
    cell_settings: Sequence[CellSettings]
    looks: Looks
    keep: Path
    threads: int
    timeout_s: float
    memory_mib: float
    ahead: tuple[str, ...] = ()
    code: str = ""


class Judge:
    """Actor: holds the truth of every seed and says what answers are worth."""

    def __init__(self, scenario: ScenarioText, truths: Sequence[Truth], criterion: str) -> None:
        from harness.plugins import find

        name, source, params = scenario
        self.scenario = find("scenario", name, source=source).cls(**params)
        self.truths, self.criterion = truths, criterion

    def ready(self) -> None:
        """Return once it is there."""

    def figure(self, place: int, answers: Sequence[StoredPrediction]) -> float | None:
        """Return the criterion for the answers of the stages so far under the seed at `place`, None where it
        cannot be told yet.
        """
        found = self.scenario.score(self.truths[place], answers).final.get(self.criterion)
        return None if found is None else float(found)


def attempt(
    config: Mapping[str, Any], *, assignment: Assignment, episodes: Sequence[Episodes], judge: Any
) -> None:
    """Ray Tune's function: learn one setting under every seed and report.

    A report holds `looks`, how far it is, and `figure`, the mean over the seeds so far at that point; the
    last one of a trial that came to no figure holds `status` and `reason` in its place. `config` is what
    `tuning` says of a setting.
    """
    from ray import tune

    if config["refused"]:
        tune.report({"status": Status.FAILED.value, "reason": config["refused"]})
        return
    if config["known"] is not None:
        tune.report(
            {"looks": assignment.looks.per_seed * len(episodes), "figure": config["known"], "seconds": 0.0}
        )
        return
    trier = Trier(assignment, judge)
    jobs = [_job(config, assignment, place) for place in range(len(episodes))]
    for place, (job, own) in enumerate(zip(jobs, episodes, strict=True)):
        trier.place = place
        outcome = trier.try_cell(job, own)
        if trier.stopped or outcome.status is not Status.DONE:
            break
    for job in jobs:
        shutil.rmtree(job.keep)
    if trier.stopped:
        raise SystemExit(0)
    if outcome.status is not Status.DONE:
        logs = job_folder(assignment.keep.parent, "logs")
        (logs / f"{config['key']}.txt").write_text(outcome.log_tail, encoding="utf-8")
        tune.report(
            {
                "status": outcome.status.value,
                "reason": outcome.reason,
                "seconds": time.perf_counter() - trier.started,
            }
        )


@dataclass(frozen=True, slots=True)
class Look:
    """What a learner answers so far, sent to be judged; it goes on learning when it is told to."""

    number: int
    answers: Sequence[StoredPrediction]


class Trier(Worker):
    """A worker that is told how a cell does while it learns."""

    def __init__(self, assignment: Assignment, judge: Any) -> None:
        super().__init__(assignment.threads, workshop=_workshop(assignment.threads))
        self.looks, self.judge = assignment.looks, judge
        self.place = 0
        self.stopped = False
        self.figures: dict[int, list[float]] = {}  # by look: one for each seed so far
        self.started = time.perf_counter()

    def try_cell(self, job: Job, episodes: Episodes) -> Outcome:
        """Run the cell of one seed; where Ray Tune stops the trial, it ends as failed and `stopped` is set."""
        order = Order(
            task=job,
            mapped=self._files([episodes]),
            threads=self.threads,
            path=sys.path,
            learn=f"{__name__}:learn",
            further=self.looks,
        )
        try:
            *_, outcome = self._learned(order)
        except SystemExit:
            return Outcome(
                status=Status.FAILED,
                reason="stopped",
                seconds=time.perf_counter() - self.started,
                log_tail="",
            )
        return cast("Outcome", outcome)

    def _answer(self, message: Any) -> Any:
        if not isinstance(message, Look):
            return None
        self._tell(message.number, message.answers)
        return True

    def _tell(self, look: int, answers: Sequence[StoredPrediction]) -> None:
        """Report the mean over the seeds so far at this look; does not return where Ray Tune stops the trial."""
        import ray
        from ray import tune

        figure = ray.get(self.judge.figure.remote(self.place, answers))
        if figure is None:
            return
        own = self.figures.setdefault(look, [])
        own.append(figure)
        try:
            tune.report(
                {
                    "looks": self.place * self.looks.per_seed + look,
                    "figure": sum(own) / len(own),
                    "figures": list(own),
                    "seconds": time.perf_counter() - self.started,
                }
            )
        except SystemExit:
            self.stopped = True
            raise


@cache
def _workshop(threads: int) -> Workshop:
    """Return the workshop of this process, which Ray Tune uses for one trial after another."""
    return open_workshop(threads)


def learn(order: Order, link: Link) -> Iterator[Look]:
    """Learn the cell of one seed in a process of its own, sending what it answers at every look."""
    from harness.plugins import find

    (job,), (path,), looks = order.task.jobs, order.mapped, order.further
    cls = find("strategy", job.strategy, source=job.source).cls
    ended: list[StoredPrediction] = []
    asked: list[Query] = []
    look = 0

    def show(number: int, answers: Sequence[StoredPrediction]) -> None:
        link.send(Look(number, list(answers)))
        link.receive()

    def on_look(query: Query, prediction: Prediction) -> None:
        nonlocal look
        if query is asked[-1] and look + 1 < looks.per_seed:
            look += 1
            show(
                look,
                [
                    *ended,
                    validate_prediction(
                        prediction,
                        query,
                        rules=job.settings.rules,
                        needed=job.settings.needed,
                        stage=len(ended),
                        step=None,
                    ),
                ],
            )

    def fetched() -> Iterator[Episode]:
        for episode in episodes(path):
            asked.append(episode.query)
            yield episode

    stages = sum(1 for _ in episodes(path))
    strategy = (watched(cls, on_look) if looks.epochs or looks.steps else cls)(**job.params)
    for result in run_cell(strategy, fetched(), job.settings, scratch=scratch_of(job), keep=job.keep):
        *probes, answer = result.answers
        for probe in probes[look : looks.per_seed - 1]:  # of a stage that an interrupted search had learned
            look += 1
            show(look, [*ended, replace(probe, step=None)])
        ended.append(answer)
        is_last = len(ended) == stages
        if is_last or looks.every_stage:
            show(looks.per_seed if is_last else len(ended), ended)
    yield from ()


def watched(cls: type[Strategy], on_look: Callable[[Query, Prediction], None]) -> type[Strategy]:
    """Return `cls` telling `on_look` whatever it answers in the middle of a stage, and otherwise as it is."""
    learning = False

    def learn(self: Strategy, stage: Stage) -> None:
        nonlocal learning
        learning = True
        try:
            cls.learn(self, stage)
        finally:
            learning = False

    def predict(self: Strategy, query: Query) -> Prediction:
        prediction = cls.predict(self, query)
        if learning:
            on_look(query, prediction)
        return prediction

    return type(cls.__name__, (cls,), {"learn": learn, "predict": predict, "__module__": cls.__module__})


def _job(config: Mapping[str, Any], assignment: Assignment, place: int) -> Job:
    """Return the cell of one seed; an interrupted trial of the same setting finds its folder again."""
    folder = f"{config['key']}-{fingerprint.of_value(config['params'])[:12]}-{place}"
    return Job(
        key=config["key"],
        strategy=assignment.strategy,
        source=assignment.source,
        params=config["params"],
        settings=assignment.cell_settings[place],
        keep=job_folder(assignment.keep, folder),
        shared=(),
        timeout_s=assignment.timeout_s,
        memory_mib=assignment.memory_mib,
        ahead=assignment.ahead,
        code=assignment.code,
    )


__all__ = ["Assignment", "Judge", "Look", "Looks", "ScenarioText", "Trier", "attempt", "learn", "watched"]
