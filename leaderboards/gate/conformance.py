"""Stage 7, conformance: what `owb check` asks of every strategy, asked in the sandbox.

The scenario is dealt inside here, so that a strategy that looks for the truth finds it, and is given away by
what it makes of another.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from harness import sandbox
from harness.contracts import Status
from leaderboards.gate.case import Case
from leaderboards.gate.surroundings import without_data
from leaderboards.publishing.submission import without_folders

_PLACES = ("OWB_DATA",)


def conformance(case: Case) -> Iterator[str]:
    """Say which claims do not hold on the board's first scenario."""
    protocol = case.board.header.protocols[0]
    suite = case.board.header.suite
    task = sandbox.Task(
        kind="conformance",
        strategy=case.entry.strategy,
        source=case.source,
        params=case.entry.params,
        scenario=protocol.label,
        reveal=case.entry.strategy == protocol.upper_bound,
        environment={name: os.environ[name] for name in _PLACES if name in os.environ},
    )
    hidden = without_data(case.folder, case.boards)
    result = sandbox.check(
        task, sandbox.Bounds(timeout_s=2 * suite.timeout_s, memory_mib=suite.memory_mib, hidden=hidden)
    )
    yield from (f"the strategy {violation}" for violation in result.violations)
    for finding in result.findings:
        if not finding.holds:
            yield without_folders(f"does not hold: {finding.claim}: {finding.detail}")
    if result.status is not Status.DONE:
        yield without_folders(f"ended as {result.status}: {result.reason}")
    elif not result.findings:
        yield "no claim was held against it"
    elif all(finding.unsuitable for finding in result.findings):
        yield without_folders(f"cannot take part in {protocol.label}: it {result.findings[0].detail}")


__all__ = ["conformance"]
