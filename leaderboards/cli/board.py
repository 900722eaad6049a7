"""`owb board`: publish an experiment as a board, look at a board, hold it against its own predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import console, options
from harness.errors import UserError

GATE_REFUSED = 3
BOARDS = Path("leaderboards/boards")

app = typer.Typer(
    help="Publish, show and check boards.",
    no_args_is_help=True,
    epilog=options.examples(
        "owb board publish leaderboards/suites/class-incremental.yaml   from the store into leaderboards/boards/",
        "owb board show class-incremental                               its ranking",
        "owb board check class-incremental                              recompute every metric from the predictions",
        (
            "owb board build                                                a page per board, and an index "
            "over them, into site/"
        ),
    ),
)

Root = Annotated[Path, options.path("--root", help="Folder that holds the boards.")]


@app.command(
    "publish", epilog=options.examples("owb board publish leaderboards/suites/demo.yaml --name demo")
)
def publish_board(
    suite_file: Annotated[Path, typer.Argument(metavar="SUITE", help="The suite file that was run.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the board; the suite's by default.")
    ] = None,
    store: options.Store = "owb-store",
    root: Root = BOARDS,
) -> None:
    """Write protocol, predictions, metrics and rendered tables of a finished suite."""
    from harness.protocol.cells import cells, contenders, protocols, read_suite
    from harness.store.mlflow_store import Store
    from leaderboards.publishing.publish import publish

    suite = read_suite(suite_file)
    todo = cells(protocols(suite.scenarios), contenders(suite.strategies), suite.seeds)
    folder = publish(name or suite.name, suite, todo, Store(store), root)
    console.say(
        f"wrote {folder}: {sum(file.stat().st_size for file in folder.rglob('*') if file.is_file()) / 1e6:.1f} MB"
    )


@app.command("show", epilog=options.examples("owb board show class-incremental"))
def show_board(name: Annotated[str, typer.Argument(help="Name of a board.")], root: Root = BOARDS) -> None:
    """Print a board's page."""
    console.say((board_folder(name, root) / "README.md").read_text(encoding="utf-8"))


@app.command("check", epilog=options.examples("owb board check class-incremental"))
def check_board(name: Annotated[str, typer.Argument(help="Name of a board.")], root: Root = BOARDS) -> None:
    """Recompute every metric from the stored predictions; exit with 3 where something does not fit."""
    from leaderboards.publishing.publish import check_board as problems_of

    problems = problems_of(board_folder(name, root))
    for problem in problems:
        console.complain(problem)
    if problems:
        raise typer.Exit(GATE_REFUSED)
    console.say(f"{name}: every metric follows from the stored predictions")


@app.command(
    "build",
    epilog=options.examples(
        "owb board build                              every board into site/",
        "owb board build ncd cgcd --out /tmp/pages    two of them",
        "owb board build --name demo                  an experiment straight from the store",
    ),
)
def build_pages(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Boards; all of them by default.", show_default=False),
    ] = None,
    root: Root = BOARDS,
    out: Annotated[Path, options.path("--out", help="Folder to write into.")] = Path("site"),
    store: options.Store = "owb-store",
    experiment: Annotated[
        str, typer.Option("--name", help="An experiment of the store to render, instead of all boards.")
    ] = "",
    curves: Annotated[
        bool | None,
        typer.Option(
            "--curves/--no-curves", help="Score the stored predictions once more for curves and matrices."
        ),
    ] = None,
) -> None:
    """Write every board as a page that needs no network, with CSV, Markdown and LaTeX, and an index over all
    pages in the folder.
    """
    from leaderboards.site import build_boards, build_experiment, write_index

    if experiment:
        from harness.errors import unknown
        from harness.store.mlflow_store import Store

        opened = Store(store)
        if experiment not in opened.experiments():
            raise unknown("experiment", experiment, opened.experiments(), "owb show")
        _say_written(build_experiment(opened, experiment, out, curves=curves))
    if names or not experiment:
        chosen = (
            [board_folder(name, root) for name in names]
            if names
            else sorted(path.parent for path in root.glob("*/protocol.yaml"))
        )
        if not chosen:
            raise UserError(f"there are no boards in {root}")
        for folder in build_boards(chosen, out, curves=curves is not False):
            _say_written(folder)
    console.say(f"open {write_index(out)}")


@app.command(
    "badge",
    epilog=options.examples(
        "owb board badge class-incremental der                        der.svg: its place over all scenarios",
        "owb board badge class-incremental der -s 'class-incremental[dataset=digits]' --out badge.svg",
    ),
)
def write_badge(
    name: Annotated[str, typer.Argument(help="Name of a board.")],
    strategy: Annotated[str, typer.Argument(help="Label of an entry, as the board shows it.")],
    scenario: Annotated[
        str, typer.Option("--scenario", "-s", help="Scenario; by default the mean over all of them.")
    ] = "",
    out: Annotated[
        Path | None, options.path("--out", help="File to write; by default the strategy's name.")
    ] = None,
    root: Root = BOARDS,
) -> None:
    """Write the place of a strategy and its interval as a picture, SVG."""
    from harness.results.write_files import write_page
    from leaderboards.publishing.board import read_board, slug
    from leaderboards.site import badge

    picture = badge(read_board(board_folder(name, root)).rankings(), name, strategy, scenario)
    path = out or Path(f"{slug(strategy)}.svg")
    write_page({path.name: picture}, path.parent)
    console.say(f"wrote {path}")


def _say_written(folder: Path) -> None:
    console.say(
        f"wrote {folder}: {sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e6:.1f} MB"
    )


def board_folder(name: str, root: Path) -> Path:
    """Return the folder of a board.

    Raises:
        UserError: no such board.
    """
    from harness.errors import unknown

    if not root.is_dir():
        raise UserError(
            f"there are no boards in {root}: say this in the checkout that holds them, or name their folder "
            "with --root"
        )
    if not (root / name / "protocol.yaml").is_file():
        raise unknown(
            "board", name, [path.parent.name for path in root.glob("*/protocol.yaml")], f"ls {root}"
        )
    return root / name
