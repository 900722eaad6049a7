"""Where two strategies met on a board: the protocols under which both were run, with the figures that stand
there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.protocol.cells import Protocol
from harness.results.matchup import Cells, Matchup, Pair, Read, check_pair
from harness.results.ranking import role_of
from harness.store.predictions import read_answers
from leaderboards.publishing.board import Board, BoardCell, BoardProtocol, Entry, predictions_file, read_board


def on_board(folder: Path, pair: Pair) -> list[Matchup]:
    """Return the matchups on a board, with the figures that stand on it.

    Raises:
        UserError: not a board, or a strategy without finished cells on it.
    """
    board = read_board(folder)
    entries = {entry.label: entry for entry in board.entries if entry.done}
    check_pair(pair, sorted(entries), f"owb board show {folder.name}")
    found = []
    for protocol in board.header.protocols:
        own = tuple(
            {cell.seed: cell for cell in entries[label].done if cell.scenario == protocol.label}
            for label in pair
        )
        if not all(own):
            continue
        here = Protocol(
            label=protocol.label, scenario_name=protocol.content["scenario"], scenario=protocol.scenario()
        )
        first, second = ({seed: cell.metrics for seed, cell in side.items()} for side in own)
        found.append(
            Matchup(
                pair=pair,
                protocol=here,
                protocol_hash=protocol.hash,
                metrics=protocol.metrics,
                cells=(first, second),
                read=_from_board(folder, [entries[label] for label in pair], own),
                field=_field(board, protocol, pair),
            )
        )
    return found


def _field(board: Board, protocol: BoardProtocol, pair: Pair) -> dict[str, Cells]:
    """Return the figures of both sides and of every contender, of those that have all seeds."""
    bounds = protocol.lower_bound, protocol.upper_bound
    found: dict[str, Cells] = {}
    for entry in board.entries:
        cells = {cell.seed: cell.metrics for cell in entry.done if cell.scenario == protocol.label}
        is_asked = entry.label in pair or role_of(entry.label, *bounds) == "contender"
        if is_asked and len(cells) == board.header.suite.seeds:
            found[entry.label] = cells
    return found


def _from_board(folder: Path, entries: Sequence[Entry], cells: Sequence[Mapping[int, BoardCell]]) -> Read:
    return lambda side, seed: read_answers(folder / predictions_file(entries[side], cells[side][seed]))
