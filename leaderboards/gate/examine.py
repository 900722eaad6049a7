"""The gate: stages 0 to 9 over one submission folder, one report.

Paper first: stages 0 to 6 read what was handed in and run none of it. Code of a submission that these refuse
is not run at all. A stage never stops at its first finding, and a stage refuses only for what is wrong, never
for being worse than others.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError
from harness.sandbox.scan import scan
from leaderboards.gate.case import Case
from leaderboards.gate.completeness import completeness
from leaderboards.gate.form import form
from leaderboards.gate.integrity import integrity
from leaderboards.gate.metrics import metrics
from leaderboards.gate.plausibility import plausibility
from leaderboards.gate.report import NAMES, Part, Report, part, plain
from leaderboards.gate.schema import Schema, schema
from leaderboards.publishing.board import SOURCE
from leaderboards.publishing.submission import Submission, without_folders

CELLS = 2
"""How many cells are run again."""

_PAPER: dict[int, Callable[[Case], Iterable[str]]] = {
    2: integrity,
    3: completeness,
    4: metrics,
    5: plausibility,
    6: lambda case: scan(case.source, SOURCE),
}
_FIRST_RUN, _LAST = 7, len(NAMES) - 1


def examine(folder: Path, boards: Path, *, salt: str = "", rerun: bool = True, cells: int = CELLS) -> Report:
    """Hold a submission against every stage.

    Args:
        folder: the submission.
        boards: the folder that holds the boards.
        salt: a value the author could not know when submitting, at random where empty; with the submission's
            digest it draws the cells that run again and the fresh seeds.
        rerun: run stages 7 to 9.
        cells: how many cells run again.

    Raises:
        UserError: `folder` is no folder.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {str(folder)!r}")
    salt = salt or (secrets.token_hex(16) if rerun else "")
    read, parts = _read(folder, boards)
    if read.case is None:
        parts += [
            Part(number=number, skipped="the form and schema must be right first")
            for number in range(2, _LAST + 1)
        ]
        return _report(parts, read.submission, salt)
    parts += [_held(number, lambda look=look: look(read.case)) for number, look in _PAPER.items()]  # type: ignore[misc]
    parts += _code(read.case, salt, cells) if rerun and not _refused(parts) else _not_run(rerun)
    return _report(parts, read.submission, salt)


def _read(folder: Path, boards: Path) -> tuple[Schema, list[Part]]:
    """Read the files; what they make a reader trip over is a finding of its stage."""
    nothing = Schema(problems=(), case=None, submission=None)
    try:
        found = form(folder)
    except Exception as error:
        return nothing, [part(0, [_tripped(error)]), Part(number=1, skipped="the form must be right first")]
    try:
        read = schema(folder, boards, found.sound)
    except Exception as error:
        return nothing, [part(0, found.problems), part(1, [_tripped(error)])]
    return read, [part(0, found.problems), part(1, read.problems)]


def _tripped(error: Exception) -> str:
    return without_folders(f"cannot be looked at: {type(error).__name__}: {error}")


def _held(number: int, look: Callable[[], Iterable[str]]) -> Part:
    """Run one stage; what a stranger's files make it trip over is a finding as well."""
    try:
        return part(number, look())
    except Exception as error:
        return part(number, [_tripped(error)])


def _code(case: Case, salt: str, cells: int) -> list[Part]:
    """Run the stages that run what was submitted, then the words on where it would stand."""
    from leaderboards.gate.by_heart import by_heart
    from leaderboards.gate.conformance import conformance
    from leaderboards.gate.fresh import fresh
    from leaderboards.gate.rerun import drawn, rerun

    said: list[str] = []
    order = drawn(case, salt, cells)
    held = _held(7, lambda: conformance(case))
    looks = (
        lambda: rerun(case, order, cells, said.append),
        lambda: by_heart(case, order.done, salt, said.append),
        lambda: fresh(case, salt, said.append),
    )
    ran = part(8, [])
    for look in looks:
        if not ran.problems:  # what does not come out again need not be looked at further
            ran = _held(8, look)
    return [held, replace(ran, notes=tuple(map(plain, said))), _standing(case)]


def _standing(case: Case) -> Part:
    from leaderboards.gate.standing import standing

    try:
        return part(9, [], standing(case))
    except Exception as error:
        return part(9, [_tripped(error)])


def _not_run(rerun: bool) -> list[Part]:
    why = (
        "the stages before refuse, and code of a refused submission is not run"
        if rerun
        else "stopped before it, as asked"
    )
    return [Part(number=number, skipped=why) for number in range(_FIRST_RUN, _LAST + 1)]


def _refused(parts: Iterable[Part]) -> bool:
    return any(each.problems for each in parts)


def _report(parts: Iterable[Part], submission: Submission | None, salt: str) -> Report:
    known = (
        {"name": submission.name, "board": submission.board, "digest": submission.digest}
        if submission
        else {}
    )
    return Report(**{"name": "", "board": "", "digest": "", **known}, salt=salt, parts=tuple(parts))


__all__ = ["CELLS", "examine"]
