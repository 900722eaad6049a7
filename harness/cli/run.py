"""`owb run`: strategies on scenarios under seeds, in parallel, recorded and ranked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.api import default_scenario
from harness.cli import console, cost, options, plugged, tables
from harness.errors import UserError
from harness.execution.machine import Machine

if TYPE_CHECKING:
    from harness.execution.plan import Plan
    from harness.protocol.cells import Cell, Protocol, Suite
    from harness.protocol.stage_sharing import Sharing
    from harness.store.mlflow_store import Store
    from harness.store.record import Record
    from harness.studies.study import Study

SOME_FAILED, UNSENT = 1, 2
_MOST_SEEDS = 1000
_LARGEST_SEED = 2**63 - 1  # of a word that every store and generator takes

EPILOGUE = options.examples(
    "owb run replay ewc                                      two strategies on digits, 5 seeds, bounds added",
    "owb run 'replay[memory=[50,200]]' -s 'class-incremental[dataset=mnist5k]' --seeds 3",
    "owb run my.py:Mine --plan                               what would run, and what is already there",
    "owb run replay --seed 3                                 seed 3 alone; --seeds 3,7 for two of them",
    "owb run replay --seed 3 --no-bounds --again             one cell anew, whatever is there already",
    "owb run my.py:Mine --smoke                              do data and code fit? a few items, two steps, no figures",
    "owb run my.py:Mine --debug                              one cell in this process: breakpoint() and print work",
    "owb run leaderboards/suites/class-incremental.yaml      a whole suite from a file",
    (
        "owb run --preset paper/happy-cifar100 --plan            a published table: what it would cost; "
        "--preset list for all"
    ),
)


@options.on_machine
def run(
    strategies: Annotated[
        list[str] | None, options.strategy("Names, file.py:Class, or one suite file.")
    ] = None,
    scenario: options.Scenarios = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", "-n", help="Number of seeds, from 0 (5 by default); or seeds: 3,7."),
    ] = None,
    seed: Annotated[
        str | None, typer.Option("--seed", help="One seed alone, such as 3; or seeds: 3,7.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Experiment to record under; a suite's own name, else 'runs'.")
    ] = None,
    bounds: Annotated[bool, typer.Option(help="Add the scenario's lower and upper bound strategies.")] = True,
    preset: Annotated[
        str | None,
        typer.Option(help="A published table by name, such as paper/happy-cifar100; 'list' lists them."),
    ] = None,
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke", help="Try data and code: one seed, two steps a stage; no figure means anything."
        ),
    ] = False,
    machine: Machine = Machine(),  # noqa: B008
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds a cell may take.")] = None,
    memory: Annotated[int | None, typer.Option(min=64, help="MiB a cell may take.")] = None,
    store: options.Store = "owb-store",
    probe: Annotated[
        list[str] | None,
        typer.Option(
            "--probe",
            help="Measure the learners while they learn: neural-collapse[of=train], file.py:Class; repeat for several.",
            autocompletion=options.names_of("probe"),
        ),
    ] = None,
    probe_at: Annotated[
        str | None,
        typer.Option(
            "--probe-at",
            help="When: geometric[n=12] (by default), epochs=1,2,5 or every=100 steps; and before and after a stage.",
        ),
    ] = None,
    probe_share: Annotated[
        float,
        typer.Option("--probe-share", min=0.0, help="Share of the time of learning that looks may take."),
    ] = 1.0,
    keep_features: Annotated[
        bool,
        typer.Option("--keep-features", help="Keep what probes were shown, for others that are asked later."),
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Run the cells anew, from nothing that earlier runs have left.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Run the first cell in this process, for a debugger; record nothing."),
    ] = False,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Run strategies on scenarios; finished cells are reused, a killed run continues with the same command."""
    if preset == "list":
        for suites in plugged.every_suites():
            suites.show_presets(as_json=as_json)
        return
    _check_arguments(strategies or [], scenario or [], preset)
    suite = (
        plugged.suites_of(preset).suite_of(preset, smoke=smoke, plan=plan)
        if preset
        else _suite(strategies or [], scenario or [], bounds, smoke=smoke)
    )
    count, chosen = _seeds_given(seeds, seed)
    named = f"{name}-smoke" if name and smoke else name
    changes: dict[str, Any] = {"seeds": count, "name": named, "timeout_s": timeout, "memory_mib": memory}
    changes |= {"probes": tuple(probe) if probe else None, "probe_at": probe_at}
    suite = suite.model_copy(update={key: value for key, value in changes.items() if value is not None})
    if debug:
        _debug(suite, chosen[0] if chosen else 0, machine, as_json=as_json)
        return
    records = run_cells(
        suite,
        machine,
        store,
        seeds=chosen,
        again=again,
        only_plan=plan,
        as_json=as_json,
        probe_share=probe_share,
        keep_features=keep_features,
    )
    if smoke and not plan:
        tables.show_smoke(records, as_json=as_json)
    elif preset and not plan:
        plugged.suites_of(preset).show_comparison(preset, records, as_json=as_json)
    elif not plan:
        show_ranking(records, as_json=as_json)
    if not plan and is_unsent(store):
        raise typer.Exit(UNSENT)
    if not (smoke or plan or as_json):
        _write_page(records, suite.name, store)
    if any(record.status not in ("done", "cached") for record in records):
        raise typer.Exit(SOME_FAILED)


def is_unsent(store_uri: str) -> bool:
    """Say whether records wait for the server of a store, which the log has said."""
    from harness.store.mlflow_store import Store

    return Store(store_uri).unsent > 0


def _write_page(records: Sequence[Record], experiment: str, store_uri: str) -> None:
    """Write the page of a run into the store's folder, and name it."""
    from harness.results.run_page import FOLDER, write_run
    from harness.store.artifact_places import folder_of_new
    from harness.store.mlflow_store import Store

    opened = Store(store_uri)
    folder = opened.folder / FOLDER / folder_of_new(opened.folder, experiment).name
    page = write_run(opened, records, experiment, folder)
    console.note(f"wrote {page} (curves, LaTeX and a CSV per seed beside it)")


def _debug(suite: Suite, seed: int, machine: Machine, *, as_json: bool) -> None:
    """Run the first cell of a suite here and show its figures."""
    from harness.api.running import debug

    figures = debug(
        suite.strategies[0],
        suite.scenarios[0],
        seed=seed,
        machine=machine,
        probes=suite.probes,
        probe_at=suite.probe_at,
    )
    if as_json:
        console.dump(figures)
        return
    title = f"{suite.strategies[0]} on {suite.scenarios[0]}, seed {seed}: in this process, not recorded"
    console.grid(
        ["metric", "figure"], [[name, f"{figure:.4f}"] for name, figure in figures.items()], title=title
    )


def run_suite(
    suite: Suite, machine: Machine, store_uri: str, *, only_plan: bool = False, as_json: bool = False
) -> list[Record]:
    """Plan, run, record and rank a suite; return one record per cell, none where only the plan is asked for.
    Raises as `run_cells`.
    """
    records = run_cells(suite, machine, store_uri, only_plan=only_plan, as_json=as_json)
    if not only_plan:
        show_ranking(records, as_json=as_json)
    return records


def run_cells(
    suite: Suite,
    machine: Machine,
    store_uri: str,
    *,
    seeds: Sequence[int] = (),
    again: bool = False,
    only_plan: bool = False,
    as_json: bool = False,
    study: Study | None = None,
    session: str = "",
    probe_share: float = 1.0,
    keep_features: bool = False,
) -> list[Record]:
    """Plan, run and record a suite, as the cells of `study` where there is one; return one record per cell,
    none of a plan.

    `seeds` are run in place of the suite's, `again` runs every cell anew, from nothing that earlier runs have
    left. Costs compare within a `session`; a command that runs several suites gives all of them the same. Looks of
    probes may take `probe_share` of the time of learning; with `keep_features` what they were shown is kept.

    Raises:
        UserError: a name, parameter or file that does not fit, or a store that cannot be used.
    """
    from harness.execution.execute import Limits, execute
    from harness.protocol.stage_sharing import FOLDER, Sharing
    from harness.store.mlflow_store import Store
    from harness.studies.study import end, keep

    store = Store(store_uri)
    planned = _plan(
        suite, machine, store, seeds=seeds, again=again, probe_share=probe_share, keep_features=keep_features
    )
    if only_plan:
        if as_json:
            console.dump(_items(planned))
            return []
        sharing = Sharing(planned.open if machine.share else [], store.folder / FOLDER)
        _show_plan(planned, sharing, together=machine.together)
        cost.show_costs(planned, cost.costs_of(planned), store, machine.processes)
        return []
    limits = Limits(timeout_s=suite.timeout_s, memory_mib=suite.memory_mib)
    parent = keep(store, study, planned.cells, suite.name) if study else ""
    with console.RunView(
        len(planned.cells), quiet=as_json, remaining_s=_remaining_s(planned, store, machine.processes)
    ) as view:
        records = execute(
            planned,
            store,
            experiment=suite.name,
            machine=machine,
            limits=limits,
            parent=parent,
            session=session,
            listen=view,
            meet=view.meet,
        )
    if parent:
        end(store, parent, records)
        if store.unsent:
            raise UserError(f"the study is shown when {store.uri} has its records: give the command again")
    if not as_json:
        recorded = "" if store.unsent else f"; recorded in {store.uri} as {suite.name!r}"
        console.note(f"{view.summary}{recorded}")
    return records


def _remaining_s(planned: Plan, store: Store, workers: int) -> float:
    """Return how long the open cells take by what is recorded of cells alike, NaN where nothing is, or nobody
    looks.
    """
    from harness.execution.cost import time_of

    if not planned.open or not console.err.is_terminal:
        return math.nan
    time = time_of(planned, store.records(), workers)
    return time.seconds * len(planned.open) / time.known if time.known else math.nan


def show_ranking(records: list[Record], *, as_json: bool) -> None:
    """Print one ranked table per scenario."""
    tables.show(records, as_json=as_json)


def _suite(strategies: list[str], scenarios: list[str], bounds: bool, *, smoke: bool) -> Suite:
    from harness.api.running import suite_of
    from harness.protocol.cells import read_suite
    from harness.protocol.smoke import smoke_of

    if any(text.endswith((".yaml", ".yml")) for text in strategies):
        if len(strategies) > 1 or scenarios:
            raise UserError("a suite file names its own strategies and scenarios: give it alone")
        suite = read_suite(Path(strategies[0]))
    else:
        suite = suite_of(strategies, scenarios or [default_scenario(strategies)], bounds=bounds)
    return smoke_of(suite) if smoke else suite


def _check_arguments(strategies: list[str], scenarios: list[str], preset: str | None) -> None:
    if preset and (strategies or scenarios):
        raise UserError("a preset names its own strategies and scenarios: give it alone")
    if not preset and not strategies:
        raise UserError(
            "name a strategy, a suite file, or a published table with --preset (owb list strategies, owb "
            "run --preset list)"
        )


def _seeds_given(seeds: str | None, seed: str | None) -> tuple[int | None, tuple[int, ...]]:
    """Return how many seeds were asked for, None where that is not said, and which ones where these are
    named.
    """
    if seeds is not None and seed is not None:
        raise UserError("say --seeds or --seed, not both")
    value, option = (seed, "--seed") if seeds is None else (seeds, "--seeds")
    if value is None:
        return None, ()
    parts = [part.strip() for part in value.split(",")]
    is_count = option == "--seeds" and len(parts) == 1
    numbers = [
        int(part)
        for part in parts
        if part.isascii() and part.isdecimal() and len(part) < 20 and int(part) <= _LARGEST_SEED
    ]
    if len(numbers) < len(parts) or (is_count and not 1 <= numbers[0] <= _MOST_SEEDS):
        wanted = (
            f"a number of seeds from 1 to {_MOST_SEEDS}, or seeds such as 3,7"
            if option == "--seeds"
            else "a seed such as 3, or 3,7"
        )
        raise UserError(f"{option} takes {wanted}, got {value!r}")
    if is_count:
        return numbers[0], ()
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    if twice is not None:
        raise UserError(f"seed {twice} is said twice in {option} {value}")
    return None, tuple(numbers)


def _check_networks_and_augmentations(scenarios: Sequence[Protocol]) -> None:
    """Refuse a wrong backbone, encoder or augmentation before a worker is started for it."""
    from harness import networks

    for text, frozen in dict.fromkeys(
        (protocol.scenario.budget().backbone, protocol.scenario.frozen_encoder) for protocol in scenarios
    ):
        networks.maker("encoder" if frozen else "backbone", text)
    for text in dict.fromkeys(protocol.scenario.budget().augmentations for protocol in scenarios):
        networks.augmentations(text)


def plan_items(suite: Suite, machine: Machine, store_uri: str) -> list[dict[str, Any]]:
    """Return the cells of a suite as `--plan --json` has them. Raises as `run_cells`."""
    from harness.store.mlflow_store import Store

    return _items(_plan(suite, machine, Store(store_uri)))


def _plan(
    suite: Suite,
    machine: Machine,
    store: Store,
    *,
    seeds: Sequence[int] = (),
    again: bool = False,
    probe_share: float = 1.0,
    keep_features: bool = False,
) -> Plan:
    from harness.execution.execute import plan
    from harness.execution.probing import probing_of
    from harness.protocol.cells import cells, contenders, protocols

    machine.check()
    scenarios = protocols(suite.scenarios)
    _check_networks_and_augmentations(scenarios)
    todo = cells(scenarios, contenders(suite.strategies), seeds or suite.seeds)
    probing = probing_of(suite.probes, suite.probe_at, share=probe_share, keep_features=keep_features)
    return plan(todo, store, again=again, mixed=machine.mixed, probing=probing)


def _items(planned: Plan) -> list[dict[str, Any]]:
    costs = cost.costs_of(planned)
    return [
        {
            "scenario": cell.protocol.label,
            "protocol": cell.protocol.hash,
            "strategy": cell.contender.label,
            "seed": cell.seed,
            "key": cell.key,
            "status": _status(cell, planned),
            "cost": costs[cell.protocol.hash].content(),
        }
        for cell in planned.cells
    ]


def _status(cell: Cell, planned: Plan) -> str:
    return "cached" if cell.key in planned.cached else "queued"


def _show_plan(planned: Plan, sharing: Sharing, *, together: bool) -> None:
    from harness.protocol.stage_sharing import saved

    rows = [(cell, _status(cell, planned)) for cell in planned.cells]
    console.grid(
        ["status", "scenario", "strategy", "seed", "key"],
        [
            [status, cell.protocol.label, cell.contender.label, str(cell.seed), cell.key[:12]]
            for cell, status in rows
        ],
    )
    shared = [pack for pack in planned.packs if len(pack) > 1] if together else []
    at_once = f" ({sum(map(len, shared))} of them together, in {len(shared)} packs)" if shared else ""
    console.say(
        f"{len(planned.open)} of {len(planned.cells)} cells would run{at_once}, {len(planned.cached)} are there already"
    )
    every, once, ratio = saved(planned.open, sharing)
    if once < every:
        console.say(
            f"{every} stages, of which {every - once} are learned once for several cells: {once} to learn, "
            f"{ratio:.2f} x less work "
            "(items x passes)"
        )
