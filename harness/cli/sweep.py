"""`owb sweep`: how do metrics depend on parameters of a strategy, of a scenario, of data? Grids and random
settings, run as any suite.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.api import default_scenario
from harness.cli import console, options
from harness.cli.run import SOME_FAILED, plan_items, run_cells
from harness.errors import UserError
from harness.execution.machine import Machine

if TYPE_CHECKING:
    from harness.protocol.cells import Suite
    from harness.store.record import Record
    from harness.studies.sweep import Definition, Report

EPILOGUE = options.examples(
    (
        "owb sweep 'elr[weight=[0,1,3,7],beta=[0,0.7,0.9]]' -s 'noisy-labels[preset=digits]' --seeds 3   a "
        "grid of twelve settings"
    ),
    "owb sweep 'replay[memory=[20,50,200]]' -s 'class-incremental[dataset=[digits,glyphs]]'          over data as well",
    (
        "owb sweep 'replay[lr=log:1e-3..1,memory=10..500]' --random 32                                   "
        "settings drawn at random"
    ),
    (
        "owb sweep 'replay[lr=log:1e-3..1]' --search asha --trials 64          the best on a validation split, "
        "never by test items"
    ),
)

MOST_ROWS = 10
"""Settings that a terminal shows; the files have all."""


@options.on_machine
def sweep(
    strategy: Annotated[
        str, options.strategy("One strategy; parameters as [a,b], low..high or log:low..high.")
    ],
    scenario: Annotated[
        list[str] | None, options.scenarios("Scenario, with such parameters too; repeatable.")
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", "-n", min=1, max=1000, help="Number of seeds, from 0.")
    ] = 5,
    random: Annotated[
        int | None, typer.Option("--random", min=1, help="Draw so many settings in place of the grid.")
    ] = None,
    sample_seed: Annotated[int, typer.Option("--sample-seed", min=0, help="Which settings are drawn.")] = 0,
    most: Annotated[int | None, typer.Option(min=1, help="Settings a grid may have; 256 by default.")] = None,
    search: Annotated[
        Literal["asha", "optuna", "random"] | None,
        typer.Option(help="Search for the best on a validation split."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Settings that a search tries.")] = 32,
    metric: options.Metrics = None,
    bounds: Annotated[bool, typer.Option(help="Add the scenario's lower and upper bound strategies.")] = True,
    out: Annotated[
        Path | None, options.path(help="Folder for sweep.md, .csv, .tex, .html and sensitivity.png.")
    ] = None,
    name: Annotated[str, typer.Option(help="Experiment to record under; sweep-STRATEGY by default.")] = "",
    machine: Machine = Machine(),  # noqa: B008
    timeout: options.Timeout = 3600.0,
    memory: options.Memory = 4096,
    store: options.Store = "owb-store",
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Say how metrics depend on parameters; finished cells are reused, a killed or enlarged sweep runs only
    what is missing.
    """
    from harness.studies.space import read_space
    from harness.studies.sweep import MOST_SETTINGS, Definition, definition_of

    space = read_space("strategy", strategy)
    texts = list(dict.fromkeys(scenario or [default_scenario([space.name])]))
    experiment = name or f"sweep-{_short(space.name)}"
    if search:
        if random is not None or most is not None or metric or out:
            raise UserError(
                "--search chooses its own settings: say how many by --trials, and leave out --random, "
                "--most, --metric and --out"
            )
        from harness.cli.searching import search as search_settings

        _end(
            search_settings(
                space,
                texts,
                search,
                trials,
                seeds,
                machine,
                store,
                name=experiment,
                as_json=as_json,
                only_plan=plan,
                timeout=timeout,
                memory=memory,
            )
        )
        return
    scenarios = [read_space("scenario", text) for text in texts]
    definition = definition_of(
        space,
        scenarios,
        seeds=seeds,
        drawn=random,
        sample_seed=sample_seed,
        bounds=bounds,
        most=most or MOST_SETTINGS,
        metrics=metric or [],
    )
    question = Definition.model_validate(definition)
    suites = _suites(question, experiment, timeout, memory)
    if plan:
        _plan(question, suites, machine, store, as_json=as_json)
        return
    records = _run(definition, suites, machine, store, as_json=as_json)
    show_report(definition, records, out, as_json=as_json)
    _end(records)


def show_report(
    definition: Mapping[str, Any],
    records: Sequence[Record],
    out: Path | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Print what a sweep says; with `out`, write it there too.

    Raises:
        UserError: the folder cannot be written.
    """
    from harness.results.tables import json_ready
    from harness.studies.sweep import report_of
    from harness.studies.sweep.page import write_report

    found = report_of(definition, records)
    written = write_report(found, out) if out else []
    if as_json:
        console.dump({**json_ready(found), "definition": definition})
    else:
        _say(found)
    for path in written:
        console.note(f"wrote {path}")


def _end(records: Sequence[Record]) -> None:
    """Exit with the code for failures where a cell has no figure."""
    if any(record.status not in ("done", "cached") for record in records):
        raise typer.Exit(SOME_FAILED)


def _suites(question: Definition, name: str, timeout: float, memory: int) -> list[Suite]:
    """Return a suite per block, after all settings were found possible.

    Raises:
        UserError: settings whose parameters do not go together, all of them named.
    """
    from harness.protocol.cells import Suite, protocols
    from harness.studies.ablation.design import refused

    swept = {setting.label for setting in question.settings}
    problems = [
        refused([label for label in block.strategies if label in swept], protocols(block.scenarios))
        for block in question.blocks
    ]
    if any(problems):
        summary = "; ".join(filter(None, problems))
        raise UserError(f"nothing is run, since some settings cannot be: {summary}; leave such values out")
    return [
        Suite(
            name=name,
            scenarios=block.scenarios,
            strategies=block.strategies,
            seeds=question.seeds,
            timeout_s=timeout,
            memory_mib=memory,
        )
        for block in question.blocks
    ]


def _plan(
    question: Definition, suites: Sequence[Suite], machine: Machine, store: str, *, as_json: bool
) -> None:
    """Print the cells of all suites, for machines as one document."""
    if as_json:
        console.dump([item for suite in suites for item in plan_items(suite, machine, store)])
    else:
        for suite in suites:
            run_cells(suite, machine, store, only_plan=True)
    counts = {
        "setting": sum(setting.is_swept for setting in question.settings),
        "scenario": len(question.scenarios),
        "seed": question.seeds,
    }
    summary = ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for what, count in counts.items())
    console.note(f"{question.title}: {summary}")


def _run(
    definition: Mapping[str, Any], suites: Sequence[Suite], machine: Machine, store_uri: str, *, as_json: bool
) -> list[Record]:
    """Run all suites under one study; return their records one after another."""
    from harness.cell.sessions import new_session
    from harness.protocol.cells import cells, contenders, protocols
    from harness.store.mlflow_store import Store
    from harness.studies.study import Study, end, keep
    from harness.studies.sweep import Definition

    study = Study(kind="sweep", title=Definition.model_validate(definition).title, definition=definition)
    if len(suites) == 1:
        return run_cells(suites[0], machine, store_uri, as_json=as_json, study=study)
    store = Store(store_uri)
    todo = [
        cell
        for suite in suites
        for cell in cells(protocols(suite.scenarios), contenders(suite.strategies), suite.seeds)
    ]
    kept, session = keep(store, study, todo, suites[0].name), new_session()
    records = [
        record
        for suite in suites
        for record in run_cells(suite, machine, store_uri, as_json=as_json, session=session)
    ]
    end(store, kept, records)
    return records


def _say(found: Report) -> None:
    from harness.studies.sweep import notes, sentences, tables
    from harness.studies.sweep.text import failures_table

    console.say(f"{found.title}: {found.seeds} seeds")
    for part in found.parts:
        console.say(f"\n{part.label}{f'  (protocol {part.protocol[:12]})' if part.protocol else ''}")
        for sentence in sentences(part):
            console.say(f"  {sentence}")
        for title, table in tables(part, most_rows=MOST_ROWS):
            console.grid(*table, title=f"\n{title}")
    console.say()
    for note in notes(found):
        console.say(f"  {note}")
    if found.failures:
        console.grid(*failures_table(found), title="\ncells without a figure")


def _short(strategy: str) -> str:
    """Return a strategy's name as an experiment may have it."""
    return re.sub(r"[^a-z0-9._-]", "-", strategy.rpartition("/")[2].rpartition(":")[2].lower())
