"""Stage 8, re-run: some cells are learned again in the sandbox and must come out as submitted; then the
probes for leaks.

Which cells is drawn by SHA-256 over the submission's digest and a salt that its author could not choose. On
one machine the same code gives the same bytes; elsewhere sums add up in another order, so figures may differ
by `TOLERANCE`. Probes compare runs on this very machine.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness import sandbox, seeds
from harness.cell.run import settings_of
from harness.cell.sealing import Episode, build, fully_labelled, seal, with_permuted_truth
from harness.contracts import IntArray, Metric, Query, Scenario, Status, StoredPrediction
from harness.store.predictions import digest, write_answers
from leaderboards.gate.case import Case, where
from leaderboards.gate.renaming import mapped_back, new_names, renamed
from leaderboards.gate.surroundings import hidden
from leaderboards.publishing.board import BoardCell
from leaderboards.publishing.rescore import EvalSet, rescore
from leaderboards.publishing.submission import without_folders

TOLERANCE = 0.02
"""How far figures may be apart between machines: absolute up to 1, relative beyond."""

MAY_FALL = 0.1
"""How far the primary figure may fall when classes are renamed, besides its spread over seeds."""

_PROBED_STAGES = 2


def drawn(case: Case, salt: str, cells: int) -> list[BoardCell]:
    """Return the cells to run again: those with the smallest hashes."""

    def lot(cell: BoardCell) -> str:
        return hashlib.sha256(
            f"{case.submission.digest}|{salt}|{cell.scenario}|{cell.seed}".encode()
        ).hexdigest()

    return sorted(case.readable, key=lot)[:cells]


def rerun(case: Case, chosen: Sequence[BoardCell]) -> Iterator[str]:
    """Say where cells do not come out as submitted, and where what a strategy must not know changes what it
    answers.
    """
    for place, cell in enumerate(chosen):
        runner = Runner(case, cell)
        result = runner.run(runner.episodes())
        yield from _problems(result, cell)
        if result.status is not Status.DONE:
            continue
        if digest(result.answers) != cell.digest:
            yield from _differences(case, cell, result.answers)
        if place == 0:
            yield from (f"{where(cell)}: {problem}" for problem in _leaks(case, cell, runner, result.answers))


class Runner:
    """One cell, ready to be run as it is or otherwise."""

    def __init__(self, case: Case, cell: BoardCell) -> None:
        self.case, self.cell = case, cell
        protocol = case.protocols[cell.scenario]
        self.scenario: Scenario = protocol.scenario()
        self.reveal = case.entry.strategy == protocol.upper_bound

    def episodes(self, *, permuted: bool = False) -> tuple[Episode, ...]:
        """Return the public part, as a worker gets it; with `permuted`, of a world with other hidden labels."""
        if not permuted:
            return build(self.scenario, self.cell.seed, reveal=self.reveal).episodes
        deal = with_permuted_truth(self.scenario.deal(self.cell.seed), self.cell.seed)
        return seal(fully_labelled(deal) if self.reveal else deal, self.cell.seed).episodes

    def run(self, episodes: Sequence[Episode]) -> sandbox.Result:
        """Run the strategy on `episodes` in a sandbox of its own."""
        entry, suite = self.case.entry, self.case.board.header.suite
        task = sandbox.Task(
            kind="cell",
            strategy=entry.strategy,
            source=self.case.source,
            params=entry.params,
            threads=_threads(self.case, self.cell),
            settings=settings_of(self.scenario, self.cell.seed),
        )
        unseen = hidden(self.case.folder, self.case.boards)
        return sandbox.run(
            task,
            episodes,
            sandbox.Bounds(timeout_s=suite.timeout_s, memory_mib=suite.memory_mib, hidden=unseen),
        )


def figures(exam: EvalSet, answers: Sequence[StoredPrediction]) -> tuple[dict[str, float], list[str]]:
    """Return the figures of answers, or what is wrong with them, as a board would."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.npz"
        write_answers(path, answers)
        marked = rescore(exam, path)
    return dict(marked.metrics), list(marked.problems)


def _threads(case: Case, cell: BoardCell) -> int:
    stated = case.entry.environments[cell.environment].get("threads_per_worker", 1)
    return stated if isinstance(stated, int) and 1 <= stated <= 64 else 1


def _problems(result: sandbox.Result, cell: BoardCell) -> Iterator[str]:
    yield from (f"{where(cell)}: the strategy {violation}" for violation in result.violations)
    if result.status is not Status.DONE:
        yield without_folders(
            f"{where(cell)}: done in the submission, but run again it ended as {result.status}: {result.reason}"
        )


def _differences(case: Case, cell: BoardCell, answers: Sequence[StoredPrediction]) -> Iterator[str]:
    found, problems = figures(case.exam(cell.scenario, cell.seed), answers)
    yield from (f"{where(cell)}: run again, {problem}" for problem in problems)
    for name, stated in sorted(cell.metrics.items()):
        again = found.get(name, float("nan"))
        if not abs(stated - again) <= TOLERANCE * max(1.0, abs(stated)):
            yield (
                f"{where(cell)}: {name} is {stated:.4g} in the submission and {again:.4g} run again: "
                "its predictions are not what this code and configuration give"
            )


# --- leaks --------------------------------------------------------------------------------------------------


def _leaks(case: Case, cell: BoardCell, runner: Runner, answers: Sequence[StoredPrediction]) -> Iterator[str]:
    episodes = runner.episodes()
    first = [answer for answer in answers if answer.stage == 0]
    if len(episodes) > 1 and digest(runner.run(episodes[:1]).answers) != digest(first):
        yield "its answers after the first stage change when the stages to come are removed"
    turned = runner.run([Episode(episodes[0].stage, _turned(episodes[0].query, cell.seed))])
    if not _alike(first, turned.answers):
        yield "its answers change with the order of the query"
    early = [answer for answer in answers if answer.stage < _PROBED_STAGES]
    if digest(runner.run(runner.episodes(permuted=True)[:_PROBED_STAGES]).answers) != digest(early):
        yield "its answers change when labels that it never sees are permuted"
    yield from _fall(case, cell, runner, episodes, answers)


def _fall(
    case: Case,
    cell: BoardCell,
    runner: Runner,
    episodes: Sequence[Episode],
    answers: Sequence[StoredPrediction],
) -> Iterator[str]:
    """Classes get other numbers in all that is handed over; who learned them from there is as good as before."""
    names = new_names(episodes)
    if names is None:
        return
    exam, primary = case.exam(cell.scenario, cell.seed), case.protocols[cell.scenario].metrics[0]
    other = runner.run([renamed(episode, names) for episode in episodes])
    before, _ = figures(exam, answers)
    after, problems = figures(exam, [mapped_back(answer, names) for answer in other.answers])
    if other.status is not Status.DONE or problems or primary.name not in after:
        yield f"ends as {other.status} when classes are renamed"
    elif _worse(primary, before[primary.name], after[primary.name]) > _may_fall(
        case, cell, primary, before[primary.name]
    ):
        yield (
            f"{primary.name} falls from {before[primary.name]:.2f} to {after[primary.name]:.2f} when "
            "classes are renamed: "
            "it knows them from elsewhere than the labels it was handed"
        )


def _worse(metric: Metric, before: float, after: float) -> float:
    return before - after if metric.better == "higher" else after - before


def _may_fall(case: Case, cell: BoardCell, metric: Metric, before: float) -> float:
    over_seeds = [
        other.metrics[metric.name]
        for other in case.readable
        if other.scenario == cell.scenario and metric.name in other.metrics
    ]
    spread = float(np.std(over_seeds, ddof=1)) if len(over_seeds) > 1 else 0.0
    return max(MAY_FALL * max(1.0, abs(before)), 4 * spread)


def _turned(query: Query, seed: int) -> Query:
    order: IntArray = seeds.stream("turned", seed=seed).permutation(len(query.ids)).astype(np.int64)
    tasks = None if query.tasks is None else query.tasks[order]
    return replace(query, ids=query.ids[order], inputs=query.inputs[order], tasks=tasks)


def _alike(first: Sequence[StoredPrediction], second: Sequence[StoredPrediction]) -> bool:
    """Compare answers up to what the order of float sums explains."""
    if len(first) != len(second):
        return False
    for a, b in zip(first, second, strict=True):
        for name, array in a.arrays.items():
            other = b.arrays.get(name)
            if (
                other is None
                or other.shape != array.shape
                or not np.allclose(array, other, atol=1e-4, rtol=1e-3, equal_nan=True)
            ):
                return False
    return True


__all__ = ["Runner", "drawn", "figures", "rerun"]
