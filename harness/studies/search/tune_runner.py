"""The trials of a search, run by Ray Tune; the only module that starts a Tuner.

Tune asks for settings, runs as many at once as there are workers, and stops those that a scheduler gives up.
Every end is written down before the next trial begins. Tune's own files lie in the folder of the search, are
not read again, and go when all trials have ended.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.cell.run import settings_of
from harness.cell.sealing import build
from harness.errors import UserError
from harness.execution.cluster import on_one_machine, start, stop
from harness.execution.facts import question_of
from harness.execution.machine import Machine
from harness.execution.nodes import inspected
from harness.plugins import find
from harness.processes.mapped import Mapped
from harness.processes.messages import Episodes
from harness.selection import Selection, resolved
from harness.studies.search.lock import locked
from harness.studies.search.proposers import Mode, Setting, asha, drawn, listed, parzen
from harness.studies.search.search import Search
from harness.studies.search.trial_worker import Assignment, Judge, attempt
from harness.studies.search.trials import Chosen, Ending, Trial, best_first, counts, read_trials, write_trials
from harness.studies.space import Space

FOLDER = "searches"
"""Of all searches, in a store."""

_TUNE = "tune"
_CELLS = "cells"
_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that came to no figure reports none
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "RAY_AIR_NEW_OUTPUT": "0",
}

Listener = Callable[[Trial], None]


def run(
    search: Search,
    trials: int,
    folder: Path,
    *,
    machine: Machine,
    timeout_s: float = 3600.0,
    memory_mib: float = 4096.0,
    listen: Listener = lambda _: None,
) -> Chosen:
    """Try settings until there are `trials`, those of earlier calls included, and return the best.

    Args:
        search: what is asked.
        trials: how many settings in all.
        folder: of all searches; this one has a folder below.
        machine: where and how; its workers are how many trials run at once.
        timeout_s, memory_mib: hard limits for a setting under one seed.
        listen: told of every trial that ends.

    Raises:
        UserError: no trial ran to the end, or another search of the same question is at work.
    """
    own = folder / search.key
    with locked(own):
        kept = read_trials(own)
        if missing := [index for index in range(trials) if index not in kept]:
            assignment = _assignment(search, own, machine, timeout_s, memory_mib)
            _try(search, _Log(own, kept, missing, search.space, listen), assignment, machine)
    found = [kept[index] for index in sorted(kept) if index < trials]
    best = best_first(found, search.criterion.better)[0]
    if best.status != "done" or best.figure is None:
        reasons = "; ".join(dict.fromkeys(f"{trial.status}: {trial.reason}" for trial in found))
        raise UserError(f"none of {len(found)} trials ran to the end, so nothing is chosen ({reasons})")
    return Chosen(
        selection=best.label,
        figure=best.figure,
        **counts(found),
        method=search.method,
        space=str(search.space),
        criterion=search.criterion.name,
        better=search.criterion.better,
        choosing=search.choosing.label,
        choosing_hash=search.choosing.hash,
        seeds=search.seeds,
        trials=tuple(found),
    )


def still_to_try(search: Search, trials: int, folder: Path) -> int:
    """Return how many trials a search would run now."""
    kept = read_trials(folder / search.key)
    return sum(index not in kept for index in range(trials))


@dataclass(kw_only=False)
class _Log:
    """The trials of a search: those known, which is told of every new one, and those to come."""

    folder: Path
    kept: dict[int, Trial]
    missing: list[int]
    space: Space
    listen: Listener
    proposed: dict[int, dict[str, Any]] = field(default_factory=dict)

    def ask(self, values: Setting) -> dict[str, Any]:
        """Return what the next trial is told; `known` is the figure of an earlier trial of the same setting."""
        index = next(index for index in self.missing if index not in self.proposed)
        rounded = {
            dimension.name: dimension.nearest(values[dimension.name]) for dimension in self.space.dimensions
        }
        plugin = find(self.space.kind, self.space.name)
        label, params, refused = str(Selection(self.space.name, {**self.space.fixed, **rounded})), {}, ""
        try:
            params = resolved(plugin, self.space.selection(rounded))
        except UserError as error:
            refused = str(error)
        if params == resolved(plugin, self.space.default):
            label = str(self.space.default)
        same = next(
            (trial for trial in self.kept.values() if trial.label == label and trial.status == "done"), None
        )
        self.proposed[index] = {
            "index": index,
            "key": f"trial-{index:04d}",
            "label": label,
            "values": rounded,
            "drawn": dict(values),
            "params": params,
            "refused": refused,
            "known": same.figure if same else None,
            "repeats": same.index if same else None,
        }
        return self.proposed[index]

    def end(self, index: int, status: Ending, reports: Sequence[dict[str, Any]], reason: str = "") -> None:
        """Write down how a trial ended and tell whoever listens."""
        proposed = self.proposed[index]
        looks = [(int(report["looks"]), float(report["figure"])) for report in reports if "figure" in report]
        repeated = self.kept[proposed["repeats"]] if proposed["repeats"] is not None else None
        figures = next((report["figures"] for report in reversed(reports) if "figures" in report), ())
        trial = Trial(
            index=index,
            label=proposed["label"],
            values=proposed["values"],
            drawn=proposed["drawn"],
            status=status,
            figure=looks[-1][1] if looks and status in ("done", "stopped") else None,
            figures=repeated.figures if repeated else tuple(figures),
            looks=repeated.looks if repeated else looks,
            reason=reason,
            seconds=float(reports[-1].get("seconds", 0.0)) if reports else 0.0,
            repeats=proposed["repeats"],
        )
        self.kept[index] = trial
        write_trials(self.folder, self.kept.values())
        self.listen(trial)


def _try(search: Search, log: _Log, assignment: Assignment, machine: Machine) -> None:
    """Let Ray Tune try what is missing."""
    is_ours = start(machine)
    import ray

    _check_nodes(search, machine)
    scenario = search.choosing.scenario
    plugin = find("scenario", search.choosing.scenario_name)
    sealed = [build(scenario, seed) for seed in search.seeds]
    text = (plugin.name, plugin.source, scenario.model_dump(mode="json"))
    judge: Any = (
        ray.remote(Judge)
        .options(num_cpus=0)
        .remote(text, [one.truth for one in sealed], search.criterion.name)
    )
    try:
        ray.get(judge.ready.remote())
    except ray.exceptions.RayActorError as error:
        raise UserError(
            f"{search.choosing.label} cannot be scored in a process of its own: {_last_line(error)}"
        ) from error
    mapped = [Mapped(one.episodes) for one in sealed] if on_one_machine(machine) else []
    episodes: list[Episodes] = [each.path for each in mapped]
    if not mapped:
        episodes = [[(ray.put(stage), ray.put(query)) for stage, query in one.episodes] for one in sealed]
    try:
        with _quietly():
            _tune(search, log, assignment, machine, episodes, judge)
        for scratch in (_CELLS, _TUNE):
            shutil.rmtree(log.folder / scratch, ignore_errors=True)
    finally:
        for each in mapped:
            each.close()
        if is_ours:
            stop()
        else:
            ray.kill(judge)


def _check_nodes(search: Search, machine: Machine) -> None:
    """Refuse a cluster with a node that would answer otherwise: Ray Tune chooses among all of them.

    Raises:
        UserError: there is one.
    """
    if machine.address is None:
        return
    if machine.labels:
        stop()
        raise UserError(
            "a search runs on every node of a cluster: leave --labels out, or start a cluster of those"
        )
    plugins = [find(search.space.kind, search.space.name)] if search.space.kind == "strategy" else []
    nodes = inspected(machine, question_of(plugins, [search.choosing.scenario], machine))
    unfit = [
        f"{node.name}: {node.refusal or f'{node.lacks}, and a search sends none: install the same there'}"
        for node in nodes
        if node.room and (node.refusal or node.lacks)
    ]
    if unfit:
        stop()
        raise UserError(f"a search runs on every node of a cluster, and not all may work; {'; '.join(unfit)}")


def _tune(
    search: Search, log: _Log, assignment: Assignment, machine: Machine, episodes: Any, judge: Any
) -> None:
    from ray import tune

    mode: Mode = "max" if search.criterion.better == "higher" else "min"
    whole = assignment.looks.per_seed * len(search.seeds)
    earlier = [log.kept[index] for index in sorted(log.kept)]
    if search.method == "optuna":
        searcher = parzen(search.space, mode, earlier, log.ask)
    else:
        settings = drawn(search.space, 1 + max(log.missing))
        searcher = listed([settings[index] for index in log.missing], log.ask)
    shutil.rmtree(log.folder / _TUNE, ignore_errors=True)
    function = tune.with_parameters(attempt, assignment=assignment, episodes=episodes, judge=judge)
    tune.Tuner(
        tune.with_resources(
            function,
            {{"CPU": "cpu", "GPU": "gpu"}.get(kind, kind): each for kind, each in machine.needed.items()},
        ),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=asha(mode, whole, earlier) if search.method == "asha" else None,
            num_samples=len(log.missing),
            max_concurrent_trials=machine.processes,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.config["key"],
        ),
        run_config=tune.RunConfig(
            name=_TUNE, storage_path=str(log.folder.resolve()), verbose=0, callbacks=[_recorder(log, whole)]
        ),
    ).fit()


def _recorder(log: _Log, whole: int) -> Any:
    """Return the Tune callback that writes trials down as they end."""
    from ray.tune import Callback

    reports: dict[str, list[dict[str, Any]]] = {}

    class Recorder(Callback):
        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            known = {"looks", "figure", "figures", "status", "reason", "seconds"}
            reports.setdefault(trial.trial_id, []).append(
                {name: value for name, value in result.items() if name in known}
            )

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            own = reports.pop(trial.trial_id, [])
            last = own[-1] if own else {}
            if "status" in last:
                log.end(trial.config["index"], last["status"], own, last["reason"])
            elif "figure" not in last:
                log.end(trial.config["index"], "failed", own, "its answers came to no figure")
            else:
                log.end(trial.config["index"], "done" if last["looks"] == whole else "stopped", own)

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            log.end(trial.config["index"], "failed", reports.pop(trial.trial_id, []), "its worker died")

    return Recorder()


def _assignment(
    search: Search, own: Path, machine: Machine, timeout_s: float, memory_mib: float
) -> Assignment:
    scenario, looks = search.choosing.scenario, search.looks
    budget = replace(scenario.budget(), probe_epochs=looks.epochs, probe_every=looks.steps)
    cell_settings = [
        replace(machine.computing(settings_of(scenario, seed)), budget=budget) for seed in search.seeds
    ]
    plugin = search.contender.plugin
    return Assignment(
        strategy=plugin.address,
        code=search.contender.code,
        source=plugin.source,
        looks=looks,
        keep=(own / _CELLS).resolve(),
        threads=machine.threads,
        cell_settings=cell_settings,
        timeout_s=timeout_s,
        memory_mib=memory_mib,
        ahead=plugin.loaded_ahead,
    )


def _last_line(error: Exception) -> str:
    return next(line for line in reversed(str(error).splitlines()) if line.strip())


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep Tune from printing, and from files that nobody reads."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.air", "ray.train")]
    levels = [logger.level for logger in loggers]
    os.environ.update(_ENVIRONMENT)
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


__all__ = ["FOLDER", "Listener", "run", "still_to_try"]
