"""Taking a verified submission into its board: all of it, or nothing.

The new board is made in a folder beside the old one and takes its place once everything that is asked of it
has been done.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from os import getpid
from pathlib import Path

from harness.errors import UserError, unknown
from leaderboards.publishing.accepted import ACCEPTED, Accepted, Version, moved
from leaderboards.publishing.board import (
    ENTRY,
    PROTOCOL,
    Board,
    entry_folder,
    read_board,
    read_entry,
    yaml_text,
)
from leaderboards.publishing.check import check_board
from leaderboards.publishing.metadata import SUBMISSION, Submission, read_submission
from leaderboards.publishing.publish import check_size, render, replace_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A board with a new submission, which is not in its place yet.

    folder: of the new board.  submission: what was taken in, in the list as `version`.  earlier: what it takes
    the place of.
    """

    folder: Path
    submission: Submission
    version: Version
    earlier: Submission | None


def check_is_new(submission: Path, boards: Path) -> None:
    """Refuse a submission that its board has, before anything is run for it.

    Raises:
        UserError: there is no such folder; this very version was accepted, or another one whose revision is not
            lower; its label is that of another entry; it or its board cannot be read.
    """
    if not submission.is_dir():
        raise UserError(f"there is no folder {str(submission)!r}")
    said = read_submission(submission)
    _earlier(said, read_entry(submission / ENTRY).label, read_board(_board_of(said, boards)))


@contextmanager
def merging(submission: Path, boards: Path, *, digest: str, day: date) -> Iterator[Merged]:
    """Merge a submission into its board, render and check it; the board is replaced where the body ends well.

    Args:
        submission: its folder.
        boards: the folder of all boards.
        digest: of the submission that was verified.
        day: of the acceptance.

    Raises:
        UserError: what `check_is_new` refuses; another submission than the one that was verified; a board that
            is too large, or has a problem then, with every problem. Nothing is changed.
    """
    said = read_submission(submission)
    if said.digest != digest:
        raise UserError(f"{submission} is not what was verified any more: verify it again")
    folder = _board_of(said, boards)
    temporary = boards / f".{folder.name}.{getpid()}.tmp"
    try:
        new = temporary / folder.name
        shutil.copytree(folder, new)
        version, earlier = _merge(submission, said, new, day)
        render(new)
        if problems := check_board(new):
            raise UserError(f"board {folder.name!r} would not hold: {'; '.join(problems)}")
        check_size(folder.name, new)
        yield Merged(folder=new, submission=said, version=version, earlier=earlier)
        replace_folder(folder, new)
    except OSError as error:
        raise UserError(f"cannot write board {str(folder)!r}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _board_of(said: Submission, boards: Path) -> Path:
    if not (boards / said.board / PROTOCOL).is_file():
        raise unknown(
            "board", said.board, [path.parent.name for path in boards.glob(f"*/{PROTOCOL}")], str(boards)
        )
    return boards / said.board


def _earlier(said: Submission, label: str, board: Board) -> Version | None:
    """Return the version that this one takes the place of."""
    where = f"board {board.header.name!r}"
    for version in board.accepted.versions:
        if version.digest == said.digest:
            raise UserError(
                f"{said.name!r} was accepted on {where} already: revision {version.revision}, {version.day}"
            )
    earlier = board.accepted.current.get(said.name)
    if earlier is not None and said.revision <= earlier.revision:
        raise UserError(
            f"{where} has revision {earlier.revision} of {said.name!r} with another digest ({earlier.digest[:12]}): "
            f"a newer version says revision: {earlier.revision + 1} in its metadata"
        )
    if label in {entry.label for entry in board.entries} and (earlier is None or earlier.label != label):
        other = next((name for name, version in board.accepted.current.items() if version.label == label), "")
        raise UserError(
            f"{where} has an entry {label!r} already{f', which is {other!r}' if other else ''}: "
            "a submission needs a file, class or configuration of another name"
        )
    return earlier


def _merge(submission: Path, said: Submission, folder: Path, day: date) -> tuple[Version, Submission | None]:
    """Put the files of a submission and its line in the list into a board folder; return that line, and what
    went for it.
    """
    before, entry = read_board(folder), read_entry(submission / ENTRY)
    earlier = _earlier(said, entry.label, before)
    gone = earlier.label if earlier else None
    if gone is not None:
        shutil.rmtree(folder / entry_folder(gone))
    own = folder / entry_folder(entry.label)
    for name in (SUBMISSION, *said.files):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(submission / name, own / name)
    suite = before.header.suite
    strategies = (*(text for text in suite.strategies if text != gone), entry.label)
    header = before.header.model_copy(update={"suite": suite.model_copy(update={"strategies": strategies})})
    (folder / PROTOCOL).write_text(yaml_text(header), encoding="utf-8", newline="\n")
    version = Version(
        name=said.name,
        revision=said.revision,
        digest=said.digest,
        label=entry.label,
        day=day,
        moved=moved(before.rankings(), read_board(folder).rankings()),
    )
    versions = (*before.accepted.versions, version)
    (folder / ACCEPTED).write_text(yaml_text(Accepted(versions=versions)), encoding="utf-8", newline="\n")
    return version, before.submissions[gone] if gone is not None else None


__all__ = ["Merged", "check_is_new", "merging"]
