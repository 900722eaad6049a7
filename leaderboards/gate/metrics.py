"""Stage 4, metrics: every figure is recomputed from the predictions and the truth, by the code that made the
board.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.errors import UserError
from leaderboards.gate.case import Case, where
from leaderboards.publishing.rescore import differences, rescore


def metrics(case: Case) -> Iterator[str]:
    """Say which figures do not follow from the predictions."""
    for cell in sorted(case.readable, key=lambda cell: (cell.scenario, cell.seed)):
        try:
            marked = rescore(case.exam(cell.scenario, cell.seed), case.predictions(cell))
        except UserError as error:
            yield f"{where(cell)}: {error}"
            continue
        yield from (
            f"{where(cell)}: {problem}"
            for problem in marked.problems or differences(cell.metrics, marked.metrics)
        )


__all__ = ["metrics"]
