"""`owb compare`: two strategies, paired by seed, with the verdict in words and where their predictions
differ.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import console, options
from harness.errors import UserError, unknown

if TYPE_CHECKING:
    from harness.results.breakdown import Breakdown, Part
    from harness.results.comparison import PairedComparison
    from harness.results.matchup import Matchup

EPILOGUE = options.examples(
    "owb compare replay ewc                          wherever both were run",
    "owb compare replay der --name demo              in one experiment",
    "owb compare happy simgcd -m mean_new            by another metric",
    "owb compare replay ewc --margin 0.02            are they equivalent within two points?",
    "owb compare happy simgcd --board cgcd           on a published board",
    "owb compare replay 'replay[memory=50]' --json   every stage and class",
)

_BOARDS = Path("leaderboards/boards")
_MOST_SAID = 3


def compare(
    first: Annotated[
        str,
        typer.Argument(
            help="A strategy as it was run, with its parameters.", autocompletion=options.names_of("strategy")
        ),
    ],
    second: Annotated[
        str,
        typer.Argument(help="The strategy to compare it with.", autocompletion=options.names_of("strategy")),
    ],
    name: Annotated[
        str, typer.Option("--name", help="Experiment that holds both; by default all are searched.")
    ] = "",
    metric: Annotated[
        str,
        typer.Option("--metric", "-m", help="What to compare by; by default each scenario's first metric."),
    ] = "",
    margin: Annotated[
        float, typer.Option("--margin", help="Also test equivalence within this, in units of the metric.")
    ] = 0.0,
    board: Annotated[
        str, typer.Option("--board", help="A published board to compare on, in place of the store.")
    ] = "",
    root: Annotated[Path, options.path("--root", help="Folder that holds the boards.")] = _BOARDS,
    predictions: Annotated[bool, typer.Option(help="Whether to compare the stored predictions too.")] = True,
    store: options.Store = "owb-store",
    as_json: options.Json = False,
) -> None:
    """Compare two strategies on every protocol that both ran on, paired by seed: metrics, then predictions by
    stage and class.
    """
    from harness.results.breakdown import breakdown
    from harness.results.comparison import metric_of, paired_comparison

    if margin < 0:
        raise UserError(f"--margin must be above 0, got {margin:g}")
    matchups = _meetings(first, second, name, board, root, store)
    found: list[tuple[PairedComparison, Breakdown | None]] = []
    for matchup in matchups:
        judged = paired_comparison(matchup, metric_of(matchup.metrics, metric, matchup.label), margin=margin)
        if judged:
            found.append((judged, breakdown(matchup) if predictions else None))
    if not found:
        where = f" on board {board!r}" if board else f" in {name!r}" if name else ""
        raise UserError(f"{first} and {second} have no protocol in common{where}")
    together, left_out = _together(matchups, metric, margin)
    found += [(together, None)] if together else []
    if as_json:
        console.dump([_plain(*each) for each in found])
        return
    for each in found:
        _say(*each)
    if left_out:
        console.say(left_out)


def _meetings(first: str, second: str, name: str, board: str, root: Path, store: str) -> list[Matchup]:
    from harness.results.matchup import in_store
    from leaderboards.publishing.matchup_on_board import on_board

    if not board:
        from harness.store.mlflow_store import Store

        return in_store(Store(store), (first, second), name)
    if name:
        raise UserError("--name looks in the store and --board on a board: give one of them")
    if not root.is_dir():
        raise UserError(f"there are no boards in {root}")
    if not (root / board / "protocol.yaml").is_file():
        raise unknown(
            "board", board, [path.parent.name for path in root.glob("*/protocol.yaml")], f"ls {root}"
        )
    return on_board(root / board, (first, second))


def _together(matchups: list[Matchup], named: str, margin: float) -> tuple[PairedComparison | None, str]:
    """Return the verdict over all scenarios, or why there is none where one might expect it."""
    from harness.results.comparison import metric_of, over_scenarios

    metrics = {
        (metric.name, metric.better): metric
        for metric in (metric_of(matchup.metrics, named, matchup.label) for matchup in matchups)
    }
    if len(metrics) > 1:
        names = ", ".join(dict.fromkeys(name for name, _ in metrics))
        return (
            None,
            f"no mean over scenarios, which are compared by {names}: choose one that all have by --metric",
        )
    return over_scenarios(matchups, next(iter(metrics.values())), margin=margin), ""


def _plain(comparison: PairedComparison, breakdown: Breakdown | None) -> dict[str, Any]:
    """Return everything for machines."""
    equivalence = comparison.equivalence._asdict() if comparison.equivalence else None
    return {
        **asdict(comparison),
        "equivalence": equivalence,
        "predictions": asdict(breakdown) if breakdown else None,
    }


def _say(comparison: PairedComparison, breakdown: Breakdown | None) -> None:
    console.say(
        f"{comparison.scenario}  (protocol {comparison.protocol[:12]})"
        if comparison.protocol
        else f"{comparison.scenario}, unscaled"
    )
    console.say(f"  {comparison.words}")
    for note in comparison.notes:
        console.say(f"  {note}")
    if breakdown is None:
        return
    if breakdown.problem:
        console.say(f"  predictions are not compared: {breakdown.problem}")
        return
    by_stage, by_class = breakdown.largest(_MOST_SAID)
    classes = sum(part.kind == "class" for part in breakdown.parts)
    parts = f"{len(breakdown.parts) - classes} by stage, {classes} by class"
    console.say(f"  predictions ({breakdown.measure}), the largest differences of {parts}:")
    for part in (*by_stage, *by_class):
        console.say(f"    {_line(part)}")
    if not by_stage and not by_class:
        console.say("    none differs")


def _line(part: Part) -> str:
    said = f"{part.words}: {part.first:.3f} against {part.second:.3f}, {part.difference:+.3f}"
    corrected = f", corrected p = {part.p:.2g}"
    return f"{said} [{part.low:+.3f}, {part.high:+.3f}]{corrected}" if part.seeds > 1 else said
