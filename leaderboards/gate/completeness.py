"""Stage 3, completeness: every cell of the suite once; a cell that failed is a row with its status, never a
missing one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from harness.contracts import Status
from leaderboards.gate.case import Case, where
from leaderboards.publishing.submission import submitted_file

_ENDS = (Status.DONE, Status.TIMEOUT, Status.OUT_OF_MEMORY, Status.DIVERGED, Status.FAILED, Status.SKIPPED)


def completeness(case: Case) -> Iterator[str]:
    """Say which cells are missing, come twice, or are no ends."""
    held = Counter((cell.scenario, cell.seed) for cell in case.entry.cells)
    wanted = [(label, seed) for label in case.protocols for seed in range(case.board.header.suite.seeds)]
    for label, seed in wanted:
        if (label, seed) not in held:
            yield f"{label} | seed {seed} is missing; a cell that failed belongs there with its status and reason"
    for (label, seed), times in held.items():
        if (label, seed) not in wanted:
            yield f"{label} | seed {seed} is no cell of the board's suite"
        elif times > 1:
            yield f"{label} | seed {seed} is there {times} times"
    for cell in case.entry.cells:
        has_file = submitted_file(cell) in case.submission.files
        if cell.status not in _ENDS:
            yield f"{where(cell)}: status {cell.status!r} is not how a cell ends"
        elif cell.status is Status.DONE and not has_file:
            yield f"{where(cell)}: is done, but its predictions are not there"
        elif cell.status is not Status.DONE and (cell.metrics or cell.digest or has_file):
            yield f"{where(cell)}: ended as {cell.status}, but has figures or predictions"
        elif cell.status is not Status.DONE and not cell.reason:
            yield f"{where(cell)}: ended as {cell.status} without a reason"
    expected = {submitted_file(cell) for cell in case.entry.cells}
    yield from (
        f"{name} belongs to no cell"
        for name in sorted(case.submission.files)
        if name.endswith(".npz") and name not in expected
    )


__all__ = ["completeness"]
