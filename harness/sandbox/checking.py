"""A strategy held against every claim, in processes of its own: those of `harness.checks.conformance`, and
those that take several processes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.checks.finding import Finding
from harness.contracts import Status
from harness.sandbox.launch import Bounds, Result, run
from harness.sandbox.scan import scan
from harness.sandbox.wire import Task

ALONE = "a cell after another seed's cell answers as alone"
REACHES = "reaches for nothing but what it is handed"
SOURCE = "its source has nothing that the gate refuses"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What came of it. findings: a claim each; none are complete unless `status` is done, and `reason` says
    why.  violations: as told.
    """

    findings: tuple[Finding, ...]
    status: Status
    reason: str
    violations: tuple[str, ...]


def check(task: Task, bounds: Bounds) -> Checked:
    """Hold the strategy of a task of kind "conformance" against every claim."""
    result = run(task, bounds=bounds)
    findings = [Finding(**finding) for finding in result.findings]
    if result.status is Status.DONE and not all(finding.unsuitable for finding in findings):
        findings.append(_answers_as_alone(task, bounds))
        findings.append(_reaches(result))
        findings.append(_source(task))
    return Checked(
        findings=tuple(findings), status=result.status, reason=result.reason, violations=result.violations
    )


def _answers_as_alone(task: Task, bounds: Bounds) -> Finding:
    """Seed 0 in a process of its own, and in one where seed 1 ran before."""
    alone, after = (run(replace(task, kind="digest", seeds=seeds), bounds=bounds) for seeds in ((0,), (1, 0)))
    for seeds, result in (("seed 0", alone), ("seeds 1 and 0", after)):
        if result.status is not Status.DONE:
            return Finding(
                claim=ALONE, holds=False, detail=f"{seeds} in one process: {result.status}: {result.reason}"
            )
    detail = (
        "it keeps something outside itself (on its class, in a module, in a library) that changes "
        "what it answers next"
    )
    return (
        Finding(claim=ALONE, holds=True)
        if alone.digest == after.digest
        else Finding(claim=ALONE, holds=False, detail=detail)
    )


def _reaches(result: Result) -> Finding:
    told = "; ".join(f"the strategy {violation}" for violation in result.violations)
    return Finding(claim=REACHES, holds=True, detail=told, warns=bool(told))


def _source(task: Task) -> Finding:
    """What the gate's stage 6 says, sentence by sentence; a warning here, since nobody has to hand anything in."""
    found = scan(task.source, task.strategy.rpartition("/")[2].partition(":")[0])
    return Finding(claim=SOURCE, holds=True, detail="\n".join(found), warns=bool(found))


__all__ = ["SOURCE", "Checked", "check"]
