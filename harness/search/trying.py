"""A trial's processes: the one that learns a setting, and the judge that alone holds the truth.

The trial learns a cell for every seed, as a worker of a run does and under the same conditions. While it learns, or after every stage, it
sends its answers to the judge and gets a figure back, which it reports to Ray Tune. So labels that were held out never enter a process that
learns.
"""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness import fingerprint
from harness.acceptance import answered
from harness.contracts import Answer, Prediction, Query, Stage, Status, Strategy, Truth
from harness.errors import Diverged, Unsuitable
from harness.messages import Episodes, Job, Task
from harness.out_of_memory import shortage
from harness.pool import job_folder
from harness.run import Conditions, run_cell
from harness.sealing import Episode
from harness.worker import Monitor, Worker

ScenarioText = tuple[str, str | None, Mapping[str, Any]]
"""Name of a scenario's plugin, its source where it is one by path, and all its parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """When a trial's figure is taken. per_seed: how many times for every seed, the last after the last stage.

    every_stage: after every stage; otherwise only after the last, and at the probes of the only stage, which are every `epochs` or `steps`.
    """

    per_seed: int = 1
    every_stage: bool = False
    epochs: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What all trials of a search have in common. conditions: of a cell under every seed.  keep: folder for what a killed trial left."""

    strategy: str
    source: str | None
    conditions: Sequence[Conditions]
    looks: Looks
    keep: Path
    threads: int
    timeout_s: float
    memory_mib: float


class Judge:
    """Actor: holds the truth of every seed, says what answers are worth, and has a monitor on every node that keeps the limits."""

    def __init__(self, scenario: ScenarioText, truths: Sequence[Truth], criterion: str) -> None:
        from harness.plugins import find

        name, source, params = scenario
        self.scenario = find("scenario", name, source=source).cls(**params)
        self.truths, self.criterion = truths, criterion
        self.monitors: dict[str, Any] = {}

    def figure(self, place: int, answers: Sequence[Answer]) -> float | None:
        """Return the criterion for the answers of the stages so far under the seed at `place`, None where it cannot be told yet."""
        found = self.scenario.score(self.truths[place], answers).final.get(self.criterion)
        return None if found is None else float(found)

    def monitor(self, node: str) -> Any:
        """Return the handle of the monitor on a node, started there if need be."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if node not in self.monitors:
            there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
            self.monitors[node] = ray.remote(Monitor).options(num_cpus=0, scheduling_strategy=there).remote()
        return self.monitors[node]

    def verdict(self, key: str) -> tuple[Status, str] | None:
        """Return why a trial's process was killed, if a monitor did it."""
        import ray

        found = ray.get([monitor.verdict.remote(key) for monitor in self.monitors.values()])
        return next((verdict for verdict in found if verdict), None)


def attempt(config: Mapping[str, Any], *, assignment: Assignment, episodes: Sequence[Episodes], judge: Any) -> None:
    """Ray Tune's function: learn one setting under every seed and report.

    A report holds `looks`, how far it is, and `figure`, the mean over the seeds so far at that point; the last one of a trial that came to
    no figure holds `status` and `reason` in its place. `config` is what `tuning` says of a setting.
    """
    import ray
    from ray import tune

    if config["refused"]:
        tune.report({"status": Status.FAILED.value, "reason": config["refused"]})
        return
    if config["known"] is not None:
        tune.report({"looks": assignment.looks.per_seed * len(episodes), "figure": config["known"], "seconds": 0.0})
        return
    trier = Trier(assignment, judge)
    monitor = ray.get(judge.monitor.remote(trier.node()))
    jobs = [_job(config, assignment, place) for place in range(len(episodes))]
    for place, (job, own) in enumerate(zip(jobs, episodes, strict=True)):
        trier.place = place
        outcome = trier.run(job, [own], monitor)
        if trier.stopped or outcome.status is not Status.DONE:
            break
    for job in jobs:
        shutil.rmtree(job.keep)
    if trier.stopped:
        raise SystemExit(0)
    if outcome.status is not Status.DONE:
        logs = job_folder(assignment.keep.parent, "logs")
        (logs / f"{config['key']}.txt").write_text(outcome.log_tail, encoding="utf-8")
        tune.report({"status": outcome.status.value, "reason": outcome.reason, "seconds": time.perf_counter() - trier.started})


class Trier(Worker):
    """A worker that is asked how a cell does while it learns."""

    def __init__(self, assignment: Assignment, judge: Any) -> None:
        super().__init__(assignment.threads)
        self.looks, self.judge = assignment.looks, judge
        self.needed = assignment.conditions[0].needed
        self.place = 0
        self.stopped = False
        self.figures: dict[int, list[float]] = {}  # by look: one for each seed so far
        self.started = time.perf_counter()

    def _attempt(self, task: Task, episodes: Sequence[Episodes], monitor: Any) -> tuple[Status, str]:
        try:
            self._learn(task.jobs[0], episodes[0])
        except Unsuitable as error:
            return Status.SKIPPED, str(error)
        except Diverged as error:
            return Status.DIVERGED, str(error)
        except (Exception, SystemExit) as error:
            if not self.stopped:
                traceback.print_exc()
            status = Status.OUT_OF_MEMORY if shortage(error) else Status.FAILED
            return status, f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        return Status.DONE, ""

    def _learn(self, job: Job, episodes: Episodes) -> None:
        from harness.plugins import find

        cls = find("strategy", job.strategy, source=job.source).cls
        ended: list[Answer] = []
        asked: list[Query] = []
        look = 0

        def on_look(query: Query, prediction: Prediction) -> None:
            nonlocal look
            if query is asked[-1] and look + 1 < self.looks.per_seed:
                look += 1
                self._tell(look, [*ended, answered(prediction, query, needed=self.needed, stage=len(ended), step=None)])

        def fetched() -> Iterator[Episode]:
            import ray

            for stage, query in episodes:
                episode = Episode(*ray.get([stage, query]))
                asked.append(episode.query)
                yield episode

        probed = bool(self.looks.epochs or self.looks.steps)
        strategy = (watched(cls, on_look) if probed else cls)(**job.params)
        for result in run_cell(strategy, fetched(), job.conditions, scratch=job.keep / "scratch", keep=job.keep):
            *probes, answer = result.answers
            for probe in probes[look : self.looks.per_seed - 1]:  # of a stage that an interrupted search had learned
                look += 1
                self._tell(look, [*ended, replace(probe, step=None)])
            ended.append(answer)
            is_last = len(ended) == len(episodes)
            if is_last or self.looks.every_stage:
                self._tell(self.looks.per_seed if is_last else len(ended), ended)

    def _tell(self, look: int, answers: Sequence[Answer]) -> None:
        """Report the mean over the seeds so far at this look; does not return where Ray Tune stops the trial."""
        import ray
        from ray import tune

        figure = ray.get(self.judge.figure.remote(self.place, answers))
        if figure is None:
            return
        own = self.figures.setdefault(look, [])
        own.append(figure)
        try:
            tune.report({"looks": self.place * self.looks.per_seed + look, "figure": sum(own) / len(own), "figures": list(own),
                         "seconds": time.perf_counter() - self.started})  # fmt: skip
        except SystemExit:
            self.stopped = True
            raise


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
    return Job(key=config["key"], strategy=assignment.strategy, source=assignment.source, params=config["params"],
               conditions=assignment.conditions[place], keep=job_folder(assignment.keep, folder), shared=(), timeout_s=assignment.timeout_s,
               memory_mib=assignment.memory_mib)  # fmt: skip


__all__ = ["Assignment", "Judge", "Looks", "ScenarioText", "Trier", "attempt", "watched"]
