"""Running from Python: cells on workers as `owb run` runs them, one cell in this process for a debugger, and
records of earlier runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.api import DEFAULT_SCENARIO, default_scenario
from harness.api.naming import AnyScenario, AnyStrategy, selections_of
from harness.api.results import Results
from harness.cell.looks import SHARE
from harness.contracts import Strategy
from harness.errors import Unsuitable, UserError
from harness.execution.execute import Limits, Listener, execute, plan
from harness.execution.in_process import run_in_process
from harness.execution.machine import Machine
from harness.execution.probing import probing_of
from harness.protocol.cells import Suite, cells, contenders, protocols
from harness.protocol.probes import looks_of
from harness.protocol.smoke import smoke_of
from harness.selection import configured, expand
from harness.store.mlflow_store import Store


def run(
    strategies: AnyStrategy | Sequence[AnyStrategy],
    scenarios: AnyScenario | Sequence[AnyScenario] | None = None,
    *,
    seeds: int | Sequence[int] | None = None,
    bounds: bool = True,
    name: str = "runs",
    store: str = "owb-store",
    machine: Machine | None = None,
    timeout_s: float = 3600.0,
    memory_mib: int = 4096,
    again: bool = False,
    smoke: bool = False,
    probes: str | Sequence[str] = (),
    probe_at: str = "",
    probe_share: float = SHARE,
    keep_features: bool = False,
    listen: Listener = lambda _: None,
) -> Results:
    """Run every strategy on every scenario under every seed; cells that are finished in the store are reused.

    Args:
        strategies: one or several, such as "replay[memory=200]", "mine.py:Mine", a class or an instance; a class of
            a notebook is written out below the store (`harness.api.notebook`), where workers find it.
        scenarios: one or several, such as "class-incremental[dataset=digits]", or likewise; by default that of
            the strategies' family.
        seeds: how many, from 0, or which; by default 5.
        bounds: add the lower and upper bound of each scenario.
        name: the experiment that cells are recorded under.
        store: folder, data base URI or tracking server.
        machine: workers, threads, device; by default as many workers as there are cores.
        timeout_s, memory_mib: limits of a cell.
        again: run all cells anew.
        smoke: try data and code on a few items and two gradient steps a stage, under one seed unless `seeds` says
            others; recorded as NAME-smoke. The figures mean nothing.
        probes: what is measured of the learners while they learn, such as "neural-collapse[of=train]".
        probe_at: when: "geometric[n=12]" by default, "epochs=1,2,5" or "every=100"; and before and after a stage.
        probe_share: the share of the time of learning that looks may take.
        keep_features: keep what probes were shown, so that others can be asked later without learning again.
        listen: told what happens to each cell.

    Raises:
        UserError: a name, parameter or file that does not fit, or a store that cannot be used.
    """
    kept = Store(store)
    chosen_strategies = selections_of("strategy", strategies, kept.folder)
    suite = suite_of(
        chosen_strategies,
        selections_of("scenario", scenarios or default_scenario(chosen_strategies), kept.folder),
        bounds=bounds,
        name=name,
        timeout_s=timeout_s,
        memory_mib=memory_mib,
    )
    suite = smoke_of(suite) if smoke else suite
    where = machine or Machine()
    where.check()
    asked = [probes] if isinstance(probes, str) else probes
    probing = probing_of(asked, probe_at, share=probe_share, keep_features=keep_features)
    chosen = suite.seeds if seeds is None else seeds
    todo = cells(protocols(suite.scenarios), contenders(suite.strategies), chosen)
    records = execute(
        plan(todo, kept, again=again, mixed=where.mixed, probing=probing),
        kept,
        experiment=suite.name,
        machine=where,
        limits=Limits(timeout_s=suite.timeout_s, memory_mib=suite.memory_mib),
        listen=listen,
    )
    return Results(records=records, store=kept)


def debug(
    strategy: AnyStrategy,
    scenario: AnyScenario | None = None,
    *,
    seed: int = 0,
    machine: Machine | None = None,
    probes: Sequence[str] = (),
    probe_at: str = "",
) -> Mapping[str, float]:
    """Learn one cell in this process, without workers, limits or a record; return its figures by metric.

    `breakpoint()`, `pdb` and prints work, and an error has the traceback of where it was raised. The labels it
    is scored on lie in the same process: this is for finding errors, not for figures to report.

    Args:
        strategy, scenario: a selection, a class or an instance. Of several that a selection with lists stands for,
            the first. Without a scenario, that of the strategy's family.
        probes, probe_at: as in `run`; the last figure of each is returned too.

    Raises:
        UserError: a name or parameter that does not fit, or a strategy that cannot take part.
    """
    if scenario is None:
        scenario = default_scenario([strategy]) if isinstance(strategy, str) else DEFAULT_SCENARIO
    if isinstance(scenario, str):
        (dealing, *_), label = [each.scenario for each in protocols([scenario])], scenario
    else:
        dealing = scenario() if isinstance(scenario, type) else scenario
        label = type(dealing).__name__
    reveal = False
    if isinstance(strategy, str):
        contender = contenders([strategy])[0]
        reveal = contender.plugin.name == dealing.upper_bound
        made: Strategy = contender.plugin.cls(**contender.params)
    else:
        made = strategy() if isinstance(strategy, type) else strategy
    looks = looks_of(probes, probe_at)
    try:
        scores = run_in_process(made, dealing, seed, machine or Machine(), reveal=reveal, looks=looks)
    except Unsuitable as error:
        raise UserError(f"{type(made).__name__} cannot take part in {label}: {error}") from error
    measured = {name: rows[-1][2] for name, rows in scores.probes.items() if looks and "@" in name and rows}
    return {**scores.final, **measured}


def load(store: str = "owb-store", name: str = "") -> Results:
    """Return what is recorded under an experiment, of all of them by default.

    Raises:
        UserError: no such experiment, or a store that cannot be read.
    """
    kept = Store(store)
    return Results(records=kept.records(name), store=kept)


def suite_of(
    strategies: Sequence[str],
    scenarios: Sequence[str],
    *,
    bounds: bool,
    name: str = "runs",
    timeout_s: float = 3600.0,
    memory_mib: int = 4096,
) -> Suite:
    """Return the suite of what is named, each once; with the bounds of the scenarios where these are wanted."""
    added: list[str] = []
    if bounds:
        chosen = [configured("scenario", selection) for text in scenarios for selection in expand(text)]
        added = [bound for scenario in chosen for bound in (scenario.lower_bound, scenario.upper_bound)]
    named = [selection.as_written for text in strategies for selection in expand(text)]
    return Suite(
        name=name,
        scenarios=tuple(scenarios),
        strategies=tuple(dict.fromkeys([*named, *added])),
        timeout_s=timeout_s,
        memory_mib=memory_mib,
    )


__all__ = ["debug", "load", "run", "suite_of"]
