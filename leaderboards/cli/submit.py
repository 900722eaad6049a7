"""`owb submit`: the cells of one strategy on one board, as a folder to hand in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import console, options
from leaderboards.cli.board import BOARDS, Root, board_folder

EPILOGUE = options.examples(
    "owb submit mine.py:Mine --board class-incremental --metadata mine.yaml",
    "owb submit 'replay[memory=50]' --board class-incremental --name 'Small replay' --author 'A. Person'"
    " --method 'replay of 50 items' --licence MIT",
    "owb submit mine.py:Mine --board class-incremental --metadata mine.yaml --out submissions/mine",
)


def submit(
    strategy: Annotated[str, typer.Argument(help="A strategy as it was run, with its parameters.")],
    board: Annotated[str, typer.Option("--board", "-b", help="Name of the board it is for.")],
    metadata: Annotated[
        Path | None, options.path(help="YAML file with name, authors, method, reference, licence, revision.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the entry.")] = "",
    author: Annotated[list[str] | None, typer.Option("--author", help="Author; repeat for several.")] = None,
    method: Annotated[str, typer.Option(help="What it does, in one sentence.")] = "",
    reference: Annotated[str, typer.Option(help="Paper or repository.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the code.")] = "",
    revision: Annotated[
        int | None, typer.Option(min=1, help="Counts what was handed in under this name; 1 by default.")
    ] = None,
    out: Annotated[Path | None, options.path(help="Folder to write; by default submissions/NAME.")] = None,
    store: options.Store = "owb-store",
    root: Root = BOARDS,
) -> None:
    """Write the submission of one strategy: metadata, configuration, predictions, digests, source; nothing
    that names this machine.
    """
    from harness.store.mlflow_store import Store
    from leaderboards.publishing.board import slug
    from leaderboards.publishing.submission import read_metadata, read_submission
    from leaderboards.publishing.submission import submit as write

    said = {
        "name": name,
        "authors": author,
        "method": method,
        "reference": reference,
        "licence": licence,
        "revision": revision,
    }
    about = read_metadata(metadata, said)
    folder = write(
        strategy,
        board_folder(board, root),
        about,
        Store(store),
        out or Path("submissions") / slug(about.name),
    )
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    console.say(f"wrote {folder}: {size / 1e6:.1f} MB, digest {read_submission(folder).digest[:12]}; next:")
    console.say(f"  owb verify {folder}")
    _warn(folder, root)


def _warn(folder: Path, root: Path) -> None:
    """Say what the gate will refuse, as far as it can be told without running the code."""
    from leaderboards.gate.examine import examine

    problems = [problem for part in examine(folder, root, rerun=False).parts for problem in part.problems]
    if problems:
        console.note("the gate will refuse it:")
        for problem in problems:
            console.note(f"  - {problem}")
