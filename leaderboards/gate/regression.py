"""The regression gate for committed boards: some of their cells run again with the present code, and must not
have become worse.

Drawn is a strategy on a scenario with all its seeds, so that there are pairs to test. It fails where the mean
drop of the primary figure is above a margin and the paired t-test agrees (two-sided 5 %); chance alone moves
single cells. A cell that no longer ends is a failure as well. Parameters that a strategy has got since take
their defaults.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness import sandbox
from harness.cell.run import settings_of
from harness.cell.sealing import build
from harness.contracts import Metric, Status
from harness.protocol.cells import Protocol
from harness.statistics import Comparison, paired_t
from leaderboards.gate.report import counted
from leaderboards.gate.runner import figures
from leaderboards.publishing.board import (
    SOURCE,
    Board,
    BoardCell,
    BoardProtocol,
    Entry,
    entry_folder,
    read_board,
)
from leaderboards.publishing.rescore import eval_set_of
from leaderboards.publishing.submission import without_folders

MARGIN = 0.01
"""How far the mean of the primary figure may drop: absolute up to 1, relative beyond."""

MOST_SECONDS = 60.0
"""What a drawn group took when it was published; longer ones are drawn only where there are no others."""

_LEVEL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """A strategy on a scenario, run again under `seeds`."""

    scenario: str
    strategy: str
    metric: str
    seeds: tuple[int, ...]
    stated: tuple[float, ...]
    again: tuple[float, ...]
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """What became of a board."""

    board: str
    reruns: tuple[Rerun, ...]
    problems: tuple[str, ...]

    def text(self) -> str:
        """Return it for people."""
        lines = [
            f"Board {self.board}: {counted(sum(len(run.seeds) for run in self.reruns), 'cell')} run again"
        ]
        lines += [
            f"    {run.scenario} | {run.strategy} | seeds {', '.join(map(str, run.seeds))}: {run.words}"
            for run in self.reruns
        ]
        lines += [f"    - {problem}" for problem in self.problems]
        return "\n".join([*lines, "    refused" if self.problems else "    holds"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    protocol: BoardProtocol
    entry: Entry
    cells: tuple[BoardCell, ...]

    @property
    def seconds(self) -> float:
        """What its cells took together."""
        return sum(cell.seconds or 0.0 for cell in self.cells)


def regression(folder: Path, *, salt: str = "", cells: int = 2, margin: float = MARGIN) -> Regression:
    """Run at least `cells` done cells of a board again, where it has so many.

    Raises:
        UserError: not a board.
    """
    board = read_board(folder)
    reruns: list[Rerun] = []
    problems: list[str] = []
    for group in _drawn(board, salt, cells):
        scenario = group.protocol.scenario()
        here = BoardProtocol.of(
            Protocol(
                label=group.protocol.label,
                scenario_name=group.protocol.content["scenario"],
                scenario=scenario,
            )
        )
        if here != group.protocol:
            problems.append(
                f"{group.protocol.label} is dealt otherwise by this installation than on the board"
            )
            continue
        run, found = _again(group, folder, board, margin)
        reruns.append(run)
        problems += found
    return Regression(board=board.header.name, reruns=tuple(reruns), problems=tuple(problems))


def _drawn(board: Board, salt: str, cells: int) -> list[_Group]:
    groups = [
        _Group(protocol=protocol, entry=entry, cells=own)
        for protocol in board.header.protocols
        for entry in board.entries
        if (
            own := tuple(
                cell
                for cell in entry.done
                if cell.scenario == protocol.label and protocol.metrics[0].name in cell.metrics
            )
        )
    ]

    def lot(group: _Group) -> tuple[bool, float, str]:
        text = f"{board.header.hash}|{salt}|{group.protocol.label}|{group.entry.label}"
        is_long = group.seconds > MOST_SECONDS
        return is_long, group.seconds if is_long else 0.0, hashlib.sha256(text.encode()).hexdigest()

    chosen: list[_Group] = []
    for group in sorted(groups, key=lot):
        if sum(len(each.cells) for each in chosen) >= cells:
            break
        chosen.append(group)
    return chosen


def _again(group: _Group, folder: Path, board: Board, margin: float) -> tuple[Rerun, list[str]]:
    protocol, entry, suite = group.protocol, group.entry, board.header.suite
    metric = protocol.metrics[0]
    scenario = protocol.scenario()
    path = folder / entry_folder(entry.label) / SOURCE
    source = path.read_text(encoding="utf-8") if path.is_file() else None
    where = f"{protocol.label} | {entry.label}"
    pairs: dict[int, tuple[float, float]] = {}
    problems = []
    for cell in group.cells:
        task = sandbox.Task(
            kind="cell",
            strategy=entry.strategy,
            source=source,
            params=entry.params,
            settings=settings_of(scenario, cell.seed),
            exact=False,
        )
        episodes = build(scenario, cell.seed, reveal=entry.strategy == protocol.upper_bound).episodes
        result = sandbox.run(
            task, episodes, sandbox.Bounds(timeout_s=suite.timeout_s, memory_mib=suite.memory_mib)
        )
        if result.status is not Status.DONE:
            problems.append(
                without_folders(f"{where} | seed {cell.seed}: ended as {result.status}: {result.reason}")
            )
            continue
        found, wrong = figures(eval_set_of(scenario, cell.seed), result.answers)
        problems += [f"{where} | seed {cell.seed}: {problem}" for problem in wrong]
        if metric.name in found:
            pairs[cell.seed] = (cell.metrics[metric.name], found[metric.name])
    stated, again = [pair[0] for pair in pairs.values()], [pair[1] for pair in pairs.values()]
    words, dropped = verdict(stated, again, metric, margin) if pairs else ("no figure", False)
    if dropped:
        problems.append(f"{where}: {words}")
    return Rerun(
        scenario=protocol.label,
        strategy=entry.label,
        metric=metric.name,
        seeds=tuple(pairs),
        stated=tuple(stated),
        again=tuple(again),
        words=words,
    ), problems


def verdict(
    stated: Sequence[float], again: Sequence[float], metric: Metric, margin: float = MARGIN
) -> tuple[str, bool]:
    """Say in words how the figures changed, and whether they dropped by more than the margin and the paired
    test agrees.

    With a single pair there is no test, and the margin decides alone; so it does where all pairs dropped
    alike, which no chance does.
    """
    if list(stated) == list(again):
        return f"{metric.name} as stated", False
    sign = -1.0 if metric.better == "higher" else 1.0
    compared: Comparison = paired_t(again, stated)
    dropped_by = sign * compared.difference
    may = margin * max(1.0, float(np.mean(np.abs(stated))))
    is_alike = len({round(b - a, 12) for a, b in zip(stated, again, strict=True)}) == 1
    agrees = is_alike or math.isnan(compared.p) or compared.p < _LEVEL
    change = "worse" if dropped_by > 0 else "better"
    tested = (
        "one pair, no test"
        if math.isnan(compared.p)
        else f"paired t p = {compared.p:.2g}, {compared.pairs} pairs"
    )
    return f"{metric.name} {change} by {abs(compared.difference):.4f} ({tested})", dropped_by > may and agrees


__all__ = ["MARGIN", "Regression", "Rerun", "regression", "verdict"]
