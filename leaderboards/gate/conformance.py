"""Stage 7, conformance: what answers tell of the claims that `owb check` holds against every strategy.

Cells run in the sandbox, each in a process of its own that is handed episodes and gives answers. Scenario and
truth stay outside, and so does the judge: what a strategy writes or patches in its process can change its own
answers, and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from harness import sandbox
from harness.cell.run import CellSettings
from harness.cell.sealing import Episode
from harness.checks.conformance import judge
from harness.checks.finding import Ended
from harness.contracts import Status, StoredPrediction
from harness.errors import Unsuitable
from leaderboards.gate.case import Case
from leaderboards.gate.surroundings import hidden
from leaderboards.publishing.submission import without_folders


def conformance(case: Case) -> Iterator[str]:
    """Say which claims do not hold on the board's first scenario."""
    protocol = case.board.header.protocols[0]
    cells = _Sandboxed(case)
    findings = judge(cells, protocol.scenario(), reveal=case.entry.strategy == protocol.upper_bound)
    yield from (f"the strategy {violation}" for violation in dict.fromkeys(cells.violations))
    if all(finding.unsuitable for finding in findings):
        yield without_folders(f"cannot take part in {protocol.label}: it {findings[0].detail}")
    for finding in findings:
        if not finding.holds:
            yield without_folders(f"does not hold: {finding.claim}: {finding.detail}")


class _Sandboxed:
    """Runs cells of a submission in the sandbox: all of them within twice the time of one."""

    def __init__(self, case: Case) -> None:
        self.case, self.suite = case, case.board.header.suite
        self.hidden = hidden(case.folder, case.boards)
        self.deadline = time.monotonic() + 2 * self.suite.timeout_s
        self.violations: list[str] = []

    def answers(self, episodes: Sequence[Episode], settings: CellSettings) -> list[StoredPrediction]:
        """Return what a cell answers."""
        return self._run(episodes, settings)

    def continued(
        self, episodes: Sequence[Episode], settings: CellSettings
    ) -> tuple[list[StoredPrediction], str]:
        """Return what a cell answers that is begun again after its first stage."""
        return self._run(episodes, settings, interrupted=True), ""

    def _run(
        self, episodes: Sequence[Episode], settings: CellSettings, *, interrupted: bool = False
    ) -> list[StoredPrediction]:
        task = sandbox.Task(
            kind="cell",
            strategy=self.case.entry.strategy,
            source=self.case.source,
            params=self.case.entry.params,
            settings=settings,
            interrupted=interrupted,
        )
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Ended("no time is left for it")
        bounds = sandbox.Bounds(timeout_s=left, memory_mib=self.suite.memory_mib, hidden=self.hidden)
        result = sandbox.run(task, episodes, bounds)
        self.violations += result.violations
        if result.status is Status.SKIPPED:
            raise Unsuitable(result.reason)
        if result.status is not Status.DONE:
            raise Ended(f"ended as {result.status}: {result.reason}")
        return list(result.answers)


__all__ = ["conformance"]
