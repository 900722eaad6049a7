"""What a driver says of its own work beside its signs of life, for those who watch (`watching`): what it has still to
begin, what it waits for, and how far its cells are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

_SHORT = 12
_LONGEST = 5000
"""Letters of a report: a tracking server takes 8,000 in a tag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a cell is. learned: stages that are done.  stages: how many there are.  share: of the one in hand that
    is done, 0 to 1.
    """

    learned: int
    stages: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a driver says of its work.

    waiting: cells that it has still to begin.  elsewhere: how many of its cells other drivers have, by their names
    on the roster.  progress: of the cells in its workers, by their keys.
    """

    waiting: int
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    progress: Mapping[str, Progress] = field(default_factory=dict)

    def text(self) -> str:
        """Return the report as text; without progress where that of all cells is too long."""
        cells = {
            key[:_SHORT]: (each.learned, each.stages, round(each.share, 2))
            for key, each in self.progress.items()
        }
        said = json.dumps([self.waiting, dict(self.elsewhere), cells], separators=(",", ":"))
        return said if len(said) <= _LONGEST or not cells else replace(self, progress={}).text()

    def of(self, key: str) -> Progress | None:
        """Return how far a cell is, None where that is not said."""
        return self.progress.get(key) or self.progress.get(key[:_SHORT])


def read_report(text: str | None) -> Report | None:
    """Return the report that a text holds; None where there is none, or it is none of this version's.

    >>> read_report(Report(waiting=3, elsewhere={"2": 1}).text())
    Report(waiting=3, elsewhere={'2': 1}, progress={})
    """
    try:
        waiting, elsewhere, cells = json.loads(text or "")
        return Report(
            waiting=int(waiting),
            elsewhere={str(name): int(count) for name, count in elsewhere.items()},
            progress={
                key: Progress(learned=int(learned), stages=int(stages), share=float(share))
                for key, (learned, stages, share) in cells.items()
            },
        )
    except (ValueError, TypeError, AttributeError):
        return None


__all__ = ["Progress", "Report", "read_report"]
