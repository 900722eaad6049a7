"""One cell of a submission, ready to be run in the sandbox as it is or otherwise, and the figures of what it
answers.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from harness import sandbox
from harness.cell.run import settings_of
from harness.cell.sealing import Episode, fully_labelled, seal, with_permuted_truth
from harness.contracts import Metric, Scenario, Status, StoredPrediction
from harness.store.predictions import write_answers
from leaderboards.gate.case import Case
from leaderboards.gate.surroundings import hidden
from leaderboards.publishing.rescore import EvalSet, rescore

SLOWER = 2.0
"""How much more time than the suite gives a cell may take here: the machine may be slower."""

DIGITS = 9
"""Figures that agree in so many digits are tied."""

Answers = Sequence[StoredPrediction]


class Runner:
    """The strategy of a submission on a scenario of its board under `seed`, which need not be one of the
    board's; with `sealed`, what `seed` deals under the ids and streams of another seed.
    """

    def __init__(self, case: Case, scenario: str, seed: int, sealed: int | None = None) -> None:
        self.case, self.seed = case, seed
        self.sealed = seed if sealed is None else sealed
        self.protocol = case.protocols[scenario]
        self.scenario: Scenario = self.protocol.scenario()
        self.reveal = case.entry.strategy == self.protocol.upper_bound

    @property
    def primary(self) -> Metric:
        """The metric that the scenario ranks by."""
        return self.protocol.metrics[0]

    def dealt(self) -> tuple[tuple[Episode, ...], EvalSet]:
        """Return the public part, as a worker gets it, and what its answers are scored by."""
        deal = self.scenario.deal(self.seed)
        episodes, truth = seal(deal, self.sealed)
        if self.reveal:
            episodes = seal(fully_labelled(deal), self.sealed).episodes
        asked = [np.sort(episode.query.ids) for episode in episodes]
        return episodes, EvalSet(scenario=self.scenario, truth=truth, test_ids=asked)

    def permuted(self) -> tuple[Episode, ...]:
        """Return the public part of a world with other hidden labels."""
        deal = with_permuted_truth(self.scenario.deal(self.seed), self.seed)
        return seal(fully_labelled(deal) if self.reveal else deal, self.seed).episodes

    def run(
        self, episodes: Sequence[Episode], *, time: float = SLOWER, memory: float = 1.0
    ) -> sandbox.Result:
        """Run the strategy on `episodes` in a sandbox of its own, within `time` and `memory` times what the
        suite gives.
        """
        entry, suite = self.case.entry, self.case.board.header.suite
        task = sandbox.Task(
            kind="cell",
            strategy=entry.strategy,
            source=self.case.source,
            params=entry.params,
            threads=self._threads(),
            settings=settings_of(self.scenario, self.sealed),
        )
        bounds = sandbox.Bounds(
            timeout_s=time * suite.timeout_s,
            memory_mib=int(memory * suite.memory_mib),
            hidden=hidden(self.case.folder, self.case.boards),
        )
        return sandbox.run(task, episodes, bounds)

    def figure(
        self, episodes: Sequence[Episode], exam: EvalSet, read: Callable[[Answers], Answers] = list
    ) -> tuple[float, list[str]]:
        """Return the primary figure of what the strategy answers to `episodes`, larger is better, -inf where it has
        none, and what it tried in the sandbox. `read` turns answers into what is scored.
        """
        result = self.run(episodes)
        found = figures(exam, read(result.answers))[0] if result.status is Status.DONE else {}
        value = found.get(self.primary.name)
        reached = -math.inf if value is None else round(height(self.primary, value), DIGITS)
        return reached, [f"the strategy {violation}" for violation in result.violations]

    def _threads(self) -> int:
        """Return how many threads the submitted cell had, or one of the same scenario."""
        cells = [cell for cell in self.case.entry.cells if cell.scenario == self.protocol.label]
        cell = next((cell for cell in cells if cell.seed == self.seed), cells[0])
        stated = self.case.entry.environments[cell.environment].get("threads_per_worker", 1)
        return stated if isinstance(stated, int) and 1 <= stated <= 64 else 1


def figures(exam: EvalSet, answers: Sequence[StoredPrediction]) -> tuple[dict[str, float], list[str]]:
    """Return the figures of answers, or what is wrong with them, as a board would."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.npz"
        write_answers(path, answers)
        marked = rescore(exam, path)
    return dict(marked.metrics), list(marked.problems)


def height(metric: Metric, value: float) -> float:
    """Return a figure so that larger is better."""
    return value if metric.better == "higher" else -value


__all__ = ["DIGITS", "SLOWER", "Runner", "figures", "height"]
