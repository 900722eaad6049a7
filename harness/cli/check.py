"""`owb check`: hold a strategy, scenario, component or probe against the conformance suite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import console, options
from harness.errors import UserError, unknown
from harness.networks import addressed
from harness.plugins import Kind, Plugin, find, is_by_path, registered
from harness.syntax import Selection

if TYPE_CHECKING:
    from harness.checks.finding import Finding

SOME_FAILED = 1
_A_DAY_S = 86400.0

EPILOGUE = options.examples(
    "owb check replay                              a strategy by name",
    "owb check my.py:Mine                          your own, before it is packaged",
    "owb check 'class-incremental[dataset=glyphs]' a scenario",
    "owb check my.py:Mine -s 'class-incremental[dataset=mnist5k]'",
    "owb check happy -s 'cgcd[preset=clinc150]'",
    "owb check 'compander[a=2]'                    a component, with a learner that takes any",
    "owb check 'dse[of=train]'                     a probe",
)

DEFAULT_SCENARIOS = (
    "class-incremental",
    "cgcd",
    "ncd",
    "noisy-labels",
    "grokking[preset=tiny]",
    "anomaly[setting=continual,n_train=12]",
)
"""One of every family, tried in this order until the strategy can take part."""
ON = "noisy-labels"
"""What a probe is checked on: labels that were handed over differ from the true ones there."""
LEARNER = "cross-entropy"
"""What a component or a probe is checked with: it offers every hook."""


def check(
    plugin: Annotated[
        str,
        typer.Argument(
            help="A strategy, scenario, component or probe: name with parameters, or file.py:Class.",
            autocompletion=options.names_of("strategy", "scenario", "component", "probe"),
        ),
    ],
    scenario: Annotated[
        str,
        typer.Option(
            "--scenario", "-s", help="What a strategy is checked on; by default the first that fits."
        ),
    ] = "",
    as_json: options.Json = False,
) -> None:
    """Check determinism, resumption, global state, and that hidden labels, the future and the order of items
    change nothing.
    """
    from harness.sandbox.checking import SOURCE

    findings = _findings(plugin, scenario)
    if as_json:
        console.dump([asdict(finding) for finding in findings])
    else:
        words = [
            ("BROKEN" if not finding.holds else "warning" if finding.warns else "holds")
            for finding in findings
        ]
        rows = [
            [
                word,
                finding.claim,
                "see below" if finding.claim == SOURCE and finding.warns else finding.detail,
            ]
            for word, finding in zip(words, findings, strict=True)
        ]
        console.grid(["", "claim", "detail"], rows)
        broken = sum(not finding.holds for finding in findings)
        console.say(f"{len(findings) - broken} of {len(findings)} claims hold for {plugin}")
        if refused := [finding.detail for finding in findings if finding.claim == SOURCE and finding.warns]:
            console.say("handed in to a board, its source would be refused (owb verify, stage 6):")
            for sentence in refused[0].splitlines():
                console.say(f"  - {sentence}")
    if not all(finding.holds for finding in findings):
        raise typer.Exit(SOME_FAILED)


def _findings(text: str, scenario_text: str) -> list[Finding]:
    from harness.checks.probes import check_probe
    from harness.checks.scenarios import check_scenario
    from harness.contracts import Scenario, Strategy
    from harness.selection import configured, resolved, single

    selection = single(text)
    plugin = find(_kind(selection.name), selection.name)
    params = resolved(plugin, selection)
    if issubclass(plugin.cls, Scenario):
        return check_scenario(plugin.cls(**params))
    if hasattr(plugin.cls, "hooks"):
        return _of_component(plugin, addressed(text), scenario_text)
    if hasattr(plugin.cls, "measure"):
        return check_probe(text, find("strategy", LEARNER).cls, configured("scenario", scenario_text or ON))
    if not issubclass(plugin.cls, Strategy):
        raise UserError(f"{plugin.name} is neither a Strategy nor a Scenario, and no Component or Probe")
    return _of_learner(plugin, params, scenario_text)[0]


def _of_component(plugin: Plugin, text: str, scenario: str) -> list[Finding]:
    from harness.checks.components import check_component, with_components
    from harness.selection import configured, resolved

    learner = find("strategy", LEARNER)
    params = resolved(learner, Selection(LEARNER, {"components": text}))
    findings, tried = _of_learner(learner, params, scenario)
    own = check_component(text, plugin, with_components(LEARNER), configured("scenario", tried))
    return [*findings, *own]


def _of_learner(plugin: Plugin, params: Mapping[str, Any], scenario_text: str) -> tuple[list[Finding], str]:
    """Return the findings and the scenario they are of, the first that the strategy can take part in."""
    from harness.selection import resolved, single

    refused: list[str] = []
    for tried in [scenario_text] if scenario_text else DEFAULT_SCENARIOS:
        chosen = single(tried)
        where = find("scenario", chosen.name)
        built = where.cls(**resolved(where, chosen))
        findings = _of_strategy(plugin, params, tried, reveal=plugin.name == built.upper_bound)
        if not all(finding.unsuitable for finding in findings):
            for reason in refused:
                console.note(f"not tried on {reason}")
            console.note(f"checked on {tried}")
            return findings, tried
        refused.append(f"{tried}: it {findings[-1].detail}")
    raise UserError(f"{plugin.name} cannot take part in {'; '.join(refused)}; choose another --scenario")


def _of_strategy(plugin: Plugin, params: Mapping[str, Any], scenario: str, *, reveal: bool) -> list[Finding]:
    """Check a strategy in processes of its own; where there is no fork, in this one, without the claims that
    take several.
    """
    from harness.checks.conformance import check_strategy
    from harness.contracts import Status
    from harness.processes.workshop import FORKS
    from harness.selection import configured

    if not FORKS:
        return check_strategy(lambda: plugin.cls(**params), configured("scenario", scenario), reveal=reveal)
    import psutil

    from harness import sandbox

    task = sandbox.Task(
        kind="conformance",
        strategy=plugin.address,
        source=plugin.source,
        params=params,
        scenario=scenario,
        reveal=reveal,
        exact=False,
    )
    bounds = sandbox.Bounds(timeout_s=_A_DAY_S, memory_mib=psutil.virtual_memory().total >> 20, trusted=True)
    checked = sandbox.check(task, bounds)
    if checked.status is not Status.DONE:
        raise UserError(f"{plugin.name} could not be checked: {checked.reason}")
    return list(checked.findings)


def _kind(name: str) -> Kind:
    if is_by_path(name) or name.endswith(".py") or name in registered("strategy"):
        return "strategy"
    kinds: tuple[Kind, ...] = ("scenario", "component", "probe")
    for kind in kinds:
        if name in registered(kind):
            return kind
    raise unknown(
        "strategy, scenario, component or probe",
        name,
        [plugin for kind in ("strategy", *kinds) for plugin in registered(kind)],
        "owb list",
    )
