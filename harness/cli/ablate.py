"""`owb ablate`: what does each part of a strategy do? Arms from its own declarations, run as any suite,
judged by paired differences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.api import default_scenario
from harness.cli import console, options
from harness.cli.run import SOME_FAILED, run_cells
from harness.errors import UserError
from harness.execution.machine import Machine

if TYPE_CHECKING:
    from harness.protocol.cells import Protocol, Suite
    from harness.protocol.contrasts import Ablation
    from harness.store.record import Record
    from harness.studies.ablation import Report

EPILOGUE = options.examples(
    (
        "owb ablate elr -s 'noisy-labels[preset=digits]' --seeds 3           every alternative that elr "
        "declares, one at a time"
    ),
    (
        "owb ablate elr --components weight,beta=[0.5,0.9] --plan            some of them, to values of your "
        "own; run nothing"
    ),
    "owb ablate happy -s 'cgcd[preset=clinc150]' --table happy-5         the rows of a published table",
    "owb ablate happy --design factorial --components entropy,rehearsal,distillation   with interactions",
)

Design = Literal["leave-one-out", "add-one-in", "factorial"]


@options.on_machine
def ablate(
    strategy: Annotated[
        str, options.strategy("One strategy, with parameters in brackets, or file.py:Class.")
    ],
    scenario: options.Scenarios = None,
    seeds: Annotated[
        int, typer.Option("--seeds", "-n", min=1, max=1000, help="Number of seeds, from 0.")
    ] = 5,
    design: Annotated[
        Design | None, typer.Option(help="How components are switched; leave-one-out by default.")
    ] = None,
    components: Annotated[
        str, typer.Option(help="a,b or a=value,b=[value,value]; by default all that declare alternatives.")
    ] = "",
    arm: Annotated[
        list[str] | None,
        typer.Option("--arm", help="A further arm, 'name[param=value]'; repeat for several."),
    ] = None,
    table: Annotated[str, typer.Option(help="A published table in place of a design, such as happy-5.")] = "",
    metric: options.Metrics = None,
    most_arms: Annotated[
        int | None, typer.Option(min=2, help="Arms a factorial may have; 64 by default.")
    ] = None,
    out: Annotated[
        Path | None, options.path(help="Folder for effects.md, .csv, .tex, .html and forest.png.")
    ] = None,
    save: Annotated[
        Path | None,
        options.path(help="Write the ablation as a suite file, bounds added, to run and publish it."),
    ] = None,
    name: Annotated[str, typer.Option(help="Experiment to record under; ablate-STRATEGY by default.")] = "",
    machine: Machine = Machine(),  # noqa: B008
    timeout: options.Timeout = 3600.0,
    memory: options.Memory = 4096,
    store: options.Store = "owb-store",
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Say what each part of a strategy contributes; finished cells are reused, a killed or enlarged ablation
    runs only what is missing.
    """
    from harness.protocol.cells import Suite
    from harness.results.comparison import metric_of
    from harness.studies.ablation import definition_of
    from harness.studies.ablation.design import check_feasible
    from harness.studies.study import Study

    scenarios = _scenarios(scenario or [default_scenario([strategy])])
    wanted = _wanted(strategy, design, components, arm or [], table, most_arms, len(scenarios) * seeds)
    for one in scenarios:
        for named in metric or []:
            metric_of(one.scenario.metrics, named, one.label)
    check_feasible(wanted, scenarios)
    suite = Suite(
        scenarios=tuple(one.label for one in scenarios),
        strategies=wanted.arms,
        seeds=seeds,
        timeout_s=timeout,
        memory_mib=memory,
    )
    suite = suite.model_copy(update={"name": name or _experiment(strategy)})
    if save:
        _save(suite, wanted, scenarios, save)
    if plan:
        run_cells(suite, machine, store, only_plan=True, as_json=as_json)
        console.note(f"{wanted.design}: {len(wanted.arms)} arms, {len(wanted.contrasts)} differences")
        return
    definition = definition_of(wanted, suite.scenarios, seeds, metric or [])
    study = Study(kind="ablation", title=f"{wanted.design} of {wanted.strategy}", definition=definition)
    records = run_cells(suite, machine, store, as_json=as_json, study=study)
    show_report(definition, records, out, as_json=as_json)
    if any(record.status not in ("done", "cached") for record in records):
        raise typer.Exit(SOME_FAILED)


def _save(suite: Suite, wanted: Ablation, scenarios: Sequence[Protocol], path: Path) -> None:
    """Write what is run, and what is concluded from it, as a suite file."""
    import yaml

    bounds = dict.fromkeys(
        name for one in scenarios for name in (one.scenario.lower_bound, one.scenario.upper_bound)
    )
    content = suite.model_copy(
        update={"strategies": tuple(dict.fromkeys([*bounds, *suite.strategies])), "ablation": wanted}
    )
    text = yaml.safe_dump(content.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=140)
    try:
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    console.note(f"wrote {path}")


def show_report(
    definition: Mapping[str, Any],
    records: Sequence[Record],
    out: Path | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Print what the components of an ablation contribute; with `out`, write it there too.

    Raises:
        UserError: the folder cannot be written.
    """
    from harness.studies.ablation import report_of
    from harness.studies.ablation.page import write_report

    found = report_of(definition, records)
    written = write_report(found, out) if out else []
    if as_json:
        _dump(found)
    else:
        _say(found)
    for path in written:
        console.note(f"wrote {path}")


def _wanted(
    strategy: str,
    design: Design | None,
    components: str,
    extra: list[str],
    table: str,
    most_arms: int | None,
    cells: int,
) -> Ablation:
    from harness.studies.ablation.design import MOST_ARMS, ablation, published

    if not table:
        return ablation(
            strategy,
            design=design or "leave-one-out",
            components=components,
            extra=extra,
            most_arms=most_arms or MOST_ARMS,
            cells_per_arm=cells,
        )
    if design or components:
        raise UserError("--table names its own arms: leave out --design and --components")
    return published(strategy, table, extra=extra)


def _scenarios(texts: list[str]) -> list[Protocol]:
    """Return the scenarios that the selections stand for, those that are the same under two names once."""
    from harness.protocol.cells import protocols

    found: list[Protocol] = []
    for one in protocols(texts):
        if not any(
            (one.scenario_name, one.scenario) == (known.scenario_name, known.scenario) for known in found
        ):
            found.append(one)
    return found


def _experiment(strategy: str) -> str:
    """Return a name that an experiment may have."""
    short = strategy.partition("[")[0].rpartition("/")[2].rpartition(":")[2]
    return f"ablate-{re.sub(r'[^a-z0-9._-]', '-', short.lower())}"


def _dump(found: Report) -> None:
    from harness.results.tables import json_ready
    from harness.studies.ablation import words

    plain = json_ready(found)
    for part, plain_part in zip(found.parts, plain["parts"], strict=True):
        for name, effects in part.effects.items():
            for effect, plain_effect in zip(effects, plain_part["effects"][name], strict=True):
                plain_effect |= {"verdict": effect.verdict, "words": words(effect)}
    console.dump(plain)


def _say(found: Report) -> None:
    from harness.results.latex import MOST_METRICS
    from harness.studies.ablation import effects_table, metrics_table, notes
    from harness.studies.ablation.text import failures_table, reference_line

    console.say(
        f"{found.ablation.design} of {found.ablation.strategy}: {len(found.ablation.arms)} arms, {found.seeds} seeds"
    )
    for part in found.parts:
        protocol = f"  (protocol {part.protocol[:12]})" if part.protocol else ""
        console.grid(*effects_table(part), title=f"\n{part.label}{protocol}")
        console.say(f"  {reference_line(found, part)}")
        others = list(part.effects)[:MOST_METRICS]
        if len(others) > 1:
            console.grid(
                *metrics_table(part, others),
                title="\nin other metrics (* where the corrected test finds a difference)",
            )
    console.say()
    for note in notes(found):
        console.say(f"  {note}")
    if found.failures:
        console.grid(*failures_table(found), title="\ncells without a figure")
