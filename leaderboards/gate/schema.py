"""Stage 1, schema: both YAML files hold what they should, no more and no less, with finite numbers and names
that lead nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.selection import single
from leaderboards.gate.case import Case
from leaderboards.gate.statements import statements
from leaderboards.publishing.board import ENTRY, SOURCE, Entry, read_board
from leaderboards.publishing.submission import SUBMISSION, Submission, read_content

_PLUGIN = re.compile(r"[A-Za-z0-9_-]+|[A-Za-z0-9_-]+\.py:[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What is wrong with the content, and the case where it can be looked at further."""

    problems: tuple[str, ...]
    case: Case | None
    submission: Submission | None


def schema(folder: Path, boards: Path, sound: frozenset[str]) -> Schema:
    """Read both files and the board they are for."""
    problems: list[str] = []
    submission = entry = board = None
    try:
        submission = read_content(folder / SUBMISSION, Submission) if SUBMISSION in sound else None
    except UserError as error:
        problems.append(str(error))
    try:
        entry = read_content(folder / ENTRY, Entry) if ENTRY in sound else None
    except UserError as error:
        problems.append(str(error))
    if entry is not None:
        problems += _entry_problems(entry, has_source=SOURCE in sound)
    if submission is not None:
        if (boards / submission.board / "protocol.yaml").is_file():
            board = read_board(boards / submission.board)
        else:
            problems.append(f"{SUBMISSION}: there is no board {submission.board!r}")
    if submission is None or entry is None or board is None or problems:
        return Schema(problems=tuple(problems), case=None, submission=submission)
    case = Case(folder=folder, boards=boards, submission=submission, entry=entry, board=board, sound=sound)
    return Schema(problems=(), case=case, submission=submission)


def _entry_problems(entry: Entry, *, has_source: bool) -> Iterator[str]:
    if not _PLUGIN.fullmatch(entry.strategy):
        yield f"{ENTRY}: strategy {entry.strategy!r} is neither a name nor FILE.py:Class without a folder"
    elif (".py:" in entry.strategy) != has_source:
        yield (
            f"{ENTRY}: strategy {entry.strategy!r} "
            f"{'comes without' if not has_source else 'is installed, yet comes with a'} {SOURCE}"
        )
    try:
        if single(entry.label).name != entry.strategy:
            yield f"{ENTRY}: label {entry.label!r} is not one of strategy {entry.strategy!r}"
    except UserError as error:
        yield f"{ENTRY}: label: {error}"
    if any(cell.environment not in range(len(entry.environments)) for cell in entry.cells):
        yield f"{ENTRY}: a cell names an environment that is not there"
    yield from (f"{ENTRY}: {problem}" for problem in statements(entry))


__all__ = ["Schema", "schema"]
