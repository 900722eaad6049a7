"""What all stages after the schema look at: the submission, its entry, the board it is for, and how to ask
the truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.contracts import StoredPrediction
from harness.store.predictions import read_answers
from leaderboards.publishing.board import SOURCE, Board, BoardCell, BoardProtocol, Entry
from leaderboards.publishing.rescore import EvalSet, eval_set_of
from leaderboards.publishing.submission import Submission, submitted_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One submission before the gate. `boards`: the folder of all boards.  `sound`: names of the files that
    may be read.
    """

    folder: Path
    boards: Path
    submission: Submission
    entry: Entry
    board: Board
    sound: frozenset[str]
    exams: dict[tuple[str, int], EvalSet] = field(default_factory=dict)

    @property
    def protocols(self) -> Mapping[str, BoardProtocol]:
        """The board's protocols by label."""
        return {protocol.label: protocol for protocol in self.board.header.protocols}

    @property
    def source(self) -> str | None:
        """The text of the strategy's file, None where it is one that is installed."""
        return (self.folder / SOURCE).read_text(encoding="utf-8") if SOURCE in self.sound else None

    @property
    def readable(self) -> Sequence[BoardCell]:
        """The done cells of known protocols and seeds, each once, whose predictions may be read."""
        seeds = range(self.board.header.suite.seeds)
        known = {
            (cell.scenario, cell.seed): cell
            for cell in self.entry.done
            if cell.scenario in self.protocols and cell.seed in seeds
        }
        return [cell for cell in known.values() if submitted_file(cell) in self.sound]

    def predictions(self, cell: BoardCell) -> Path:
        """Return where the predictions of a cell lie."""
        return self.folder / submitted_file(cell)

    def answers(self, cell: BoardCell) -> list[StoredPrediction]:
        """Return the predictions of a cell.

        Raises:
            UserError: not a file of predictions.
        """
        return read_answers(self.predictions(cell))

    def exam(self, scenario: str, seed: int) -> EvalSet:
        """Return what is asked and the truth; dealt once, kept without the inputs."""
        if (scenario, seed) not in self.exams:
            self.exams[scenario, seed] = eval_set_of(self.protocols[scenario].scenario(), seed)
        return self.exams[scenario, seed]


def where(cell: BoardCell) -> str:
    """Return how a report names a cell."""
    return f"{cell.scenario} | seed {cell.seed}"


def arrays_of(answers: Sequence[StoredPrediction]) -> Iterator[tuple[str, StoredPrediction, str]]:
    """Yield (when, answer, field) for every array."""
    for answer in answers:
        when = f"stage {answer.stage}" if answer.step is None else f"stage {answer.stage}, step {answer.step}"
        yield from ((when, answer, name) for name in answer.arrays)


__all__ = ["Case", "arrays_of", "where"]
