"""`owb verify`: the gate, the same here and in CI; for a submission, or for the committed boards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import console, options
from harness.errors import UserError
from harness.places import written
from leaderboards.cli.board import BOARDS, GATE_REFUSED, Root

EPILOGUE = options.examples(
    "owb verify submissions/mine                   every stage, some cells run again in a sandbox",
    "owb verify submissions/mine --no-rerun        what can be told without running its code",
    "owb verify submissions/mine --salt 63ebfa2 --json     the report of that salt again",
    "owb verify --boards                           run some cells of every committed board again",
    "owb verify --boards class-incremental ncd --cells 5",
)


def verify(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FOLDER | NAME...]", help="A submission; with --boards, boards."),
    ] = None,
    boards: Annotated[
        bool,
        typer.Option("--boards", help="Run cells of committed boards again, all boards if none is named."),
    ] = False,
    salt: Annotated[
        str,
        typer.Option(
            help="What draws the cells to run again and the fresh seeds; at random if not said, and printed. "
            "One that the author could know is for repeating a report."
        ),
    ] = "",
    cells: Annotated[int, typer.Option(min=1, help="How many cells to run again.")] = 2,
    rerun: Annotated[bool, typer.Option(help="Run the submitted code (stages 7 to 9).")] = True,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Judge nothing where this machine lacks what keeps submitted code in its sandbox.",
        ),
    ] = False,
    root: Root = BOARDS,
    as_json: options.Json = False,
) -> None:
    """Say everything that is wrong with a submission or a board; exit with 3 where there is something."""
    if boards:
        _verify_boards(targets or [], salt, cells, root, as_json)
        return
    if not targets or len(targets) != 1:
        raise UserError("give one submission folder, or --boards")
    from leaderboards.gate.examine import examine

    if strict:
        _refuse_without_walls()
    report = examine(written(targets[0]), root, salt=salt, rerun=rerun, cells=cells)
    if report.ran_code:
        _say_what_lacks()
    if as_json:
        console.dump(report.content())
    else:
        console.say(report.text())
    if report.refused:
        raise typer.Exit(GATE_REFUSED)


def _verify_boards(names: Sequence[str], salt: str, cells: int, root: Path, as_json: bool) -> None:
    from dataclasses import asdict

    from leaderboards.cli.board import board_folder
    from leaderboards.gate.regression import regression

    if not root.is_dir():
        raise UserError(f"there are no boards in {root}")
    chosen = names or sorted(path.parent.name for path in root.glob("*/protocol.yaml"))
    found = []
    for folder in [board_folder(name, root) for name in chosen]:
        found.append(regression(folder, salt=salt, cells=cells))
        if not as_json:
            console.say(found[-1].text())
    if as_json:
        console.dump([asdict(each) for each in found])
    if any(each.problems for each in found):
        raise typer.Exit(GATE_REFUSED)


def _refuse_without_walls() -> None:
    from harness.sandbox import lacking

    if lacks := lacking():
        raise UserError(f"nothing is judged here: {'; '.join(lacks)}")


def _say_what_lacks() -> None:
    """Say beside the report what this machine cannot keep submitted code from, so that the report itself is
    the same everywhere.
    """
    from harness.sandbox import lacking

    for sentence in lacking():
        console.note(sentence)
