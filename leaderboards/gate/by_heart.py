"""Stage 8, by heart: deals of the board are learned again with classes under other numbers and all images a little
different, under ids, streams and changes that follow from the salt.

Who learned from what was handed over copes; what is known beforehand, by a table or by weights that labels
trained, is of no use. That a figure falls by more than `MAY_FALL` has a chance of at most a half for a learner, so a
scenario is refused where it happens so often in a row that a fair coin does it no more often than `LEVEL`. What is
changed may cost everybody something on a board, so the rivals are asked: nobody is refused whose figure falls by no
more than `MAY_FALL` beyond twice what a rival's does on the very same deals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.cell.sealing import Episode
from harness.contracts import IntArray, StoredPrediction
from harness.plugins import is_by_path
from harness.results.ranking import role_of
from leaderboards.gate.case import Case, where
from leaderboards.gate.fresh import LEVEL, fresh_seed
from leaderboards.gate.renaming import mapped_back, new_names, renamed
from leaderboards.gate.rerun import Say
from leaderboards.gate.runner import Runner, height
from leaderboards.gate.warping import warped
from leaderboards.publishing.board import BoardCell, Entry

MAY_FALL = 0.05
"""How far the primary figure may fall: absolute up to 1, relative beyond."""

RIVALS = 2
"""How many rivals of the board are asked."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Episodes with classes under other numbers and images a little different.

    names: the new number of every class, None where none changed.
    what: what is different, as a report says it.
    """

    episodes: Sequence[Episode]
    names: IntArray | None
    what: str

    def read(self, answers: Sequence[StoredPrediction]) -> list[StoredPrediction]:
        """Return answers under the old numbers."""
        return [answer if self.names is None else mapped_back(answer, self.names) for answer in answers]


def changed(episodes: Sequence[Episode], rng: np.random.Generator) -> Changed | None:
    """Change what can be changed; None where neither classes are named nor inputs are images."""
    names, images = new_names(episodes), warped(episodes, rng)
    done = {"classes renamed": names is not None, "images a little different": images is not None}
    what = " and ".join(name for name, is_done in done.items() if is_done)
    found = episodes if images is None else images
    if names is not None:
        found = [renamed(episode, names) for episode in found]
    return Changed(found, names, what) if what else None


def in_a_row(scenarios: int) -> int:
    """Return how many changes in a row refuse one of `scenarios`: so many heads as a fair coin shows as rarely as
    `LEVEL` over all scenarios together.

    >>> in_a_row(1), in_a_row(4)
    (10, 12)
    """
    return math.ceil(math.log2(scenarios / LEVEL))


def by_heart(case: Case, cells: Sequence[BoardCell], salt: str, say: Say) -> Iterator[str]:
    """Say on which scenarios figures fall further than those of the rivals; `cells` are taken in their order."""
    for label, protocol in case.protocols.items():
        known = [c for c in cells if c.scenario == label and protocol.metrics[0].name in c.metrics]
        if known:
            yield from _falls(case, known, salt, say)


def _falls(case: Case, cells: Sequence[BoardCell], salt: str, say: Say) -> Iterator[str]:
    label, primary = cells[0].scenario, case.protocols[cells[0].scenario].metrics[0]
    changes = [
        (cells[place % len(cells)], fresh_seed(case, salt, f"{label} by heart", place))
        for place in range(in_a_row(len(case.protocols)))
    ]
    falls: list[float] = []
    for cell, seed in changes:
        pair = _Pair(case, cell, seed)
        if pair.other is None:
            return
        after, tried = pair.after()
        yield from (f"{where(cell)}: {problem}" for problem in tried)
        stated, what = cell.metrics[primary.name], pair.other.what
        if not falls:
            now = f"{height(primary, after):.4g}" if math.isfinite(after) else "without"
            say(f"by heart: {where(cell)}: {primary.name} {stated:.4g} as submitted, {now} with {what}")
        may = MAY_FALL * max(1.0, abs(stated))
        if tried or height(primary, stated) - after <= may:
            return
        falls.append(_fall(pair.before()[0], after))
        if falls[-1] <= may:
            return
    for rival in _rivals(case, label):
        theirs = float(np.mean([_Pair(rival, *change).fall() for change in changes[: len(cells)]]))
        if np.mean(falls) <= may + 2 * max(0.0, theirs):
            say(f"by heart: {label}: {rival.entry.label} falls by {theirs:.2f} with {what} as well")
            return
    much = f"falls by {min(falls):.2f} or more" if math.isfinite(min(falls)) else "has no value"
    yield (
        f"{label}: {primary.name} {much} each of {len(falls)} times with {what}, and that of rivals does not: "
        "it knows them from elsewhere than what it was handed"
    )


class _Pair:
    """One deal of the board under the ids and streams of a seed, as it is and changed; `other` is None where nothing
    can be changed.
    """

    def __init__(self, case: Case, cell: BoardCell, seed: int) -> None:
        self.runner = Runner(case, cell.scenario, cell.seed, seed)
        self.episodes, self.exam = self.runner.dealt()
        self.other = changed(self.episodes, np.random.default_rng(seed))

    def before(self) -> tuple[float, list[str]]:
        """Return the primary figure of the deal as it is, and what was tried in the sandbox."""
        return self.runner.figure(self.episodes, self.exam)

    def after(self) -> tuple[float, list[str]]:
        """Return those of the changed deal."""
        assert self.other is not None
        return self.runner.figure(self.other.episodes, self.exam, self.other.read)

    def fall(self) -> float:
        """Return by how much the figure falls."""
        return _fall(self.before()[0], self.after()[0])


def _fall(before: float, after: float) -> float:
    """Return by how much a figure falls; one that was not there cannot."""
    return before - after if math.isfinite(before) else 0.0


def _rivals(case: Case, label: str) -> list[Case]:
    """Return the installed rivals of the board that take least time on a scenario, but for its bounds: each as a
    case with its entry in place of the submitted one.
    """
    protocol, own = case.protocols[label], case.entry
    bounds = protocol.lower_bound, protocol.upper_bound

    def seconds(entry: Entry) -> float:
        stated = [cell.seconds for cell in entry.done if cell.scenario == label]
        return sum(math.inf if each is None else each for each in stated) if stated else math.inf

    def is_rival(entry: Entry) -> bool:
        other = entry.label != own.label and (entry.strategy != own.strategy or own.strategy in bounds)
        return other and role_of(entry.label, *bounds) == "contender" and not is_by_path(entry.strategy)

    rivals = filter(is_rival, case.board.entries)
    return [replace(case, entry=entry, sound=frozenset()) for entry in sorted(rivals, key=seconds)[:RIVALS]]


__all__ = ["MAY_FALL", "RIVALS", "Changed", "by_heart", "changed", "in_a_row"]
