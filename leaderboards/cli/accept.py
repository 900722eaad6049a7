"""`owb accept`: a submission that the gate lets through becomes an entry of its board."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import console, options
from harness.places import written
from leaderboards.cli.board import BOARDS, GATE_REFUSED, Root

if TYPE_CHECKING:
    from leaderboards.publishing.accept import Merged
    from leaderboards.publishing.metadata import Submission

EPILOGUE = options.examples(
    "owb accept submissions/mine                    verify it, merge it into its board, render and check that",
    "owb accept submissions/mine --cells 5 --json   more of its cells run again; for machines",
)


def accept(
    submission: Annotated[str, typer.Argument(metavar="FOLDER", help="A submission.")],
    cells: Annotated[int, typer.Option(min=1, help="How many cells to run again.")] = 2,
    root: Root = BOARDS,
    out: Annotated[Path, options.path("--out", help="Folder of pages; that of the board is built.")] = Path(
        "site"
    ),
    as_json: options.Json = False,
) -> None:
    """Verify a submission and take it into its board, all of it or nothing; say what to commit. Exit with 3
    where the gate refuses it.
    """
    from harness.results.write_files import write_page
    from leaderboards.gate.examine import examine
    from leaderboards.publishing.accept import check_is_new, merging
    from leaderboards.site import BADGES, build_boards, write_index

    folder = written(submission)
    check_is_new(folder, root)
    report = examine(folder, root, salt=secrets.token_hex(16), cells=cells)
    if not as_json:
        console.say(f"{report.text()}\n")
    if report.refused:
        if as_json:
            console.dump({"accepted": False, "report": report.content()})
        raise typer.Exit(GATE_REFUSED)
    with merging(folder, root, digest=report.digest, day=datetime.now(UTC).date()) as merged:
        (page,) = build_boards([merged.folder], merged.folder.parent / "pages")
        pages = {folder.relative_to(page): _files(folder) for folder in (page, page / BADGES)}
    for name, files in pages.items():
        write_page(files, out / report.board / name)
    write_index(out)
    commands, earlier = _commands(folder, root / report.board, merged), merged.earlier
    if as_json:
        console.dump(
            {
                "accepted": True,
                "board": report.board,
                "version": merged.version.model_dump(mode="json"),
                "earlier": {"revision": earlier.revision, "authors": earlier.authors} if earlier else None,
                "commands": commands,
                "report": report.content(),
            }
        )
        return
    _say(merged, root / report.board, out / report.board, commands)


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _commands(submission: Path, board: Path, merged: Merged) -> list[str]:
    """Return what commits the board, and takes away the folder whose every byte is on it now."""
    version = merged.version
    words = f"Accept {version.name}, revision {version.revision}, on board {board.name}"
    return [
        shlex.join(["git", "add", "--all", str(board)]),
        shlex.join(["git", "rm", "-r", "--quiet", "--ignore-unmatch", str(submission)]),
        shlex.join(["git", "commit", "--message", words]),
    ]


def _words(submission: Submission) -> str:
    """Name a submission and who made it: whoever accepts a revision should see whether these are the same."""
    return f"{submission.name}, revision {submission.revision}, by {', '.join(submission.authors)}"


def _say(merged: Merged, board: Path, page: Path, commands: Sequence[str]) -> None:
    version = merged.version
    instead = f", in place of {_words(merged.earlier)}" if merged.earlier else ""
    console.say(f"wrote {board}: {_words(merged.submission)}, as {version.label}{instead}")
    for place in version.moved:
        console.say(f"  {place.scenario} | {place.strategy}: {place.words}")
    console.say(f"wrote {page / 'index.html'}")
    console.say("commit it with:")
    console.say(f"  {' && '.join(commands)}")
