"""`owb sweep --search`: the best setting of a strategy by held-out items, then held against the default on
the test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.cli import console
from harness.cli.run import run_cells
from harness.execution.machine import Machine

if TYPE_CHECKING:
    from harness.protocol.cells import HowSelected
    from harness.store.record import Record
    from harness.studies.search.search import Search
    from harness.studies.search.trials import Chosen, Trial
    from harness.studies.space import Space

MOST_ROWS = 10
"""Trials that a terminal shows; the file of trials has all."""


def search(
    space: Space,
    scenario_texts: Sequence[str],
    method: str,
    trials: int,
    seeds: int,
    machine: Machine,
    store_uri: str,
    *,
    name: str,
    as_json: bool = False,
    only_plan: bool = False,
    criterion: str = "",
    timeout: float = 3600.0,
    memory: int = 4096,
) -> list[Record]:
    """Choose a setting for every scenario, run it beside the default and the bounds, and rank; return the
    records of all cells.

    Args:
        space: of the strategy's parameters.
        scenario_texts: what results are reported on; each is searched by itself.
        method: random, asha or optuna.
        trials: settings to try, those of earlier calls included.
        seeds: number of seeds of the final cells, from 0; trials have seeds of their own.
        machine: where and how; its workers are how many trials run at once.
        store_uri: keeps records and trials.
        name: experiment of the final cells.
        as_json: print JSON alone.
        only_plan: say what would run, and run nothing.
        criterion: metric to choose by, of the scenario that is chosen on; its first by default.
        timeout, memory: limits in seconds and MiB, of a cell and of a trial under one seed.

    Raises:
        UserError: nothing to choose on, a criterion that touches test labels, or what `Machine.check`,
        `tuning.run` and `run_cells` refuse.
    """
    from harness.selection import expand
    from harness.store.mlflow_store import Store
    from harness.studies.search.search import wanted
    from harness.studies.search.tune_runner import FOLDER, run, still_to_try

    machine.check()
    texts = list(dict.fromkeys(selection.as_written for text in scenario_texts for selection in expand(text)))
    searches = [wanted(space, text, method=method, trials=trials, criterion=criterion) for text in texts]
    folder = Store(store_uri).folder / FOLDER
    if only_plan:
        _plan(searches, trials, seeds, store_uri, as_json=as_json)
        return []
    records: list[Record] = []
    reports = []
    for one in searches:
        if not as_json:
            console.note(f"{trials} trials ({method}) of {one.space} on {one.choosing.label}")
        chosen = run(
            one,
            trials,
            folder,
            machine=machine,
            timeout_s=timeout,
            memory_mib=memory,
            listen=_Lines(still_to_try(one, trials, folder), quiet=as_json),
        )
        definition, own = _measured(
            one, chosen, seeds, machine, store_uri, name=name, as_json=as_json, timeout=timeout, memory=memory
        )
        records += own
        if as_json:
            reports.append(_plain(definition, own))
        else:
            show_report(definition, own)
    if as_json:
        console.dump({"searches": reports})
    return records


def show_report(definition: Mapping[str, Any], records: Sequence[Record], *, as_json: bool = False) -> None:
    """Print the best trials, the setting chosen, and how it does on the test beside the default."""
    from harness.cli.tables import show

    if as_json:
        console.dump({"searches": [_plain(definition, records)]})
        return
    chosen = chosen_of(definition)
    _say_trials(chosen)
    console.say(
        f"\nchosen: {chosen.selection}{', which is the default' if chosen.selection == definition['default'] else ''}"
    )
    console.say(f"  {how_chosen(chosen).words}; space {chosen.space}")
    console.say(
        f"  trials under run seeds {chosen.seeds[0]} to {chosen.seeds[-1]}, no test item among them; what "
        "follows is the test"
    )
    show(records, as_json=False)
    if verdict := _verdict(definition, records):
        console.say(f"  chosen against default: {verdict}")


def how_chosen(chosen: Chosen) -> HowSelected:
    """Return what a suite, and so a board, says of the chosen setting."""
    from harness.protocol.cells import HowSelected

    criterion = f"{chosen.criterion.replace('held_out_', 'held-out ').replace('_', ' ')} on {chosen.choosing}"
    return HowSelected(
        method=chosen.method,
        trials=chosen.run,
        criterion=criterion,
        space=chosen.space,
        seeds=tuple(chosen.seeds),
    )


def chosen_of(definition: Mapping[str, Any]) -> Chosen:
    """Return what a kept search chose."""
    from harness.studies.search.trials import Chosen, Trial

    content = dict(definition["chosen"])
    return Chosen(**{**content, "trials": [Trial(**trial) for trial in content["trials"]]})


def _measured(
    search: Search,
    chosen: Chosen,
    seeds: int,
    machine: Machine,
    store_uri: str,
    *,
    name: str,
    as_json: bool,
    timeout: float,
    memory: int,
) -> tuple[dict[str, Any], list[Record]]:
    """Run the chosen setting beside the default and the bounds; return what the study keeps, and the records."""
    from harness.protocol.cells import Suite
    from harness.studies.study import Study

    scenario, default = search.scenario, str(search.space.default)
    suite = Suite(
        name=name,
        scenarios=(scenario.label,),
        strategies=_contenders(search, chosen.selection),
        seeds=seeds,
        timeout_s=timeout,
        memory_mib=memory,
        chosen={chosen.selection: how_chosen(chosen)},
    )
    definition = {
        "scenario": scenario.label,
        "default": default,
        "chosen": asdict(chosen),
        "suite": suite.model_dump(mode="json"),
    }
    study = Study(kind="search", title=f"search of {search.space} on {scenario.label}", definition=definition)
    return definition, run_cells(suite, machine, store_uri, as_json=as_json, study=study)


def _contenders(search: Search, selection: str) -> tuple[str, ...]:
    scenario = search.scenario.scenario
    return tuple(
        dict.fromkeys([selection, str(search.space.default), scenario.lower_bound, scenario.upper_bound])
    )


def _plan(searches: Sequence[Search], trials: int, seeds: int, store_uri: str, *, as_json: bool) -> None:
    """Say how many trials and cells would run."""
    from harness.store.mlflow_store import Store
    from harness.studies.search.tune_runner import FOLDER, still_to_try

    rows = []
    for one in searches:
        left = still_to_try(one, trials, Store(store_uri).folder / FOLDER)
        rows.append(
            {
                "scenario": one.scenario.label,
                "choosing": one.choosing.label,
                "criterion": one.criterion.name,
                "method": one.method,
                "space": str(one.space),
                "trials": trials,
                "trials_to_run": left,
                "trial_cells": left * len(one.seeds),
                "test_cells": seeds * len(_contenders(one, "the setting chosen")),
            }
        )
    if as_json:
        console.dump(rows)
        return
    for row in rows:
        console.say(
            f"{row['scenario']}: {row['trials_to_run']} of {row['trials']} trials ({row['method']}) of "
            f"{row['space']} would run, "
            f"{row['trial_cells']} cells at most, by {row['criterion']} on {row['choosing']}"
        )
        console.say(
            f"  then the setting chosen, the default and the bounds on the test: up to {row['test_cells']} cells"
        )


class _Lines:
    """A line for every trial that ends."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self.total, self.quiet, self.ended = total, quiet, 0

    def __call__(self, trial: Trial) -> None:
        self.ended += 1
        if self.quiet:
            return
        figure = "" if trial.figure is None else f"  {trial.figure:.4f}"
        again = f"  as trial {trial.repeats}" if trial.repeats is not None else ""
        reason = f"  {trial.reason}" if trial.reason else ""
        console.note(
            f"[{self.ended}/{self.total}] {trial.status:<8}  {trial.label}{figure}  {trial.seconds:.1f} "
            f"s{again}{reason}"
        )


def _say_trials(chosen: Chosen) -> None:
    from harness.studies.search.trials import best_first

    ordered = best_first(chosen.trials, chosen.better)
    rows = [
        [
            trial.status,
            "" if trial.figure is None else f"{trial.figure:.4f}",
            " ".join(f"{figure:.4f}" for figure in trial.figures),
            trial.label,
            f"{trial.seconds:.1f}",
            trial.reason,
        ]
        for trial in ordered[:MOST_ROWS]
    ]
    console.grid(
        ["status", chosen.criterion, "seed by seed", "setting", "seconds", "reason"],
        rows,
        title="\nbest trials",
    )
    ended = chosen.run - chosen.stopped - chosen.failed
    console.say(
        f"  {chosen.run} trials: {ended} to the end, {chosen.stopped} stopped early, {chosen.failed} without a figure"
    )


def _verdict(definition: Mapping[str, Any], records: Sequence[Record]) -> str:
    """Return the paired difference between the chosen setting and the default in words; empty where they are
    one or have no figures.
    """
    from harness.contracts import Status
    from harness.protocol.cells import protocols
    from harness.results.comparison import paired_comparison
    from harness.results.matchup import Matchup

    pair = (definition["chosen"]["selection"], definition["default"])
    if pair[0] == pair[1]:
        return ""
    (protocol,) = protocols([definition["scenario"]])
    first, second = (
        {
            record.seed: record.metrics
            for record in records
            if record.strategy == side and record.status in (Status.DONE, Status.CACHED)
        }
        for side in pair
    )
    matchup = Matchup(
        pair=pair,
        protocol=protocol,
        protocol_hash=protocol.hash,
        metrics=protocol.scenario.metrics,
        cells=(first, second),
        read=lambda side, seed: [],
    )
    judged = paired_comparison(matchup, protocol.scenario.metrics[0])
    return judged.words if judged else ""


def _plain(definition: Mapping[str, Any], records: Sequence[Record]) -> dict[str, Any]:
    """Return everything for machines."""
    from harness.results.ranking import rankings
    from harness.results.tables import json_ready

    return {**definition, "rankings": json_ready(rankings(records)), "verdict": _verdict(definition, records)}


__all__ = ["chosen_of", "how_chosen", "search", "show_report"]
