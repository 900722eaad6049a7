"""What the components of an ablation contribute, by the entries of a board that was made for it."""

from __future__ import annotations

from harness.studies.ablation.effects import Report, report
from harness.studies.ablation.measured import Measured
from leaderboards.publishing.board import Board


def board_report(board: Board) -> Report | None:
    """Return the report of the ablation that the board's suite names, None where it names none."""
    ablation, seeds = board.header.suite.ablation, board.header.suite.seeds
    if ablation is None:
        return None
    measured = []
    for protocol in board.header.protocols:
        cells = {
            (record.strategy, record.seed): record
            for record in board.records(protocol)
            if record.strategy in ablation.arms
        }
        measured.append(Measured(label=protocol.label, metrics=protocol.metrics, seeds=seeds, cells=cells))
    return report(ablation, measured)


__all__ = ["board_report"]
