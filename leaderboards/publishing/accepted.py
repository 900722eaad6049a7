"""The versions of submissions that a board took in, oldest first, and the places that each of them moved.

A version is written once, when it is accepted, with the day; what is rendered from the list is the same
whenever it is rendered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import Field

from harness.results.ranking import Ranking
from leaderboards.publishing.metadata import Content, Line, Sha256, read_content

ACCEPTED = "accepted.yaml"
_Text = Annotated[str, Field(max_length=1000)]


class Moved(Content):
    """A place that changed; empty where the strategy had none before or has none after."""

    scenario: _Text
    strategy: _Text
    before: _Text
    after: _Text

    @property
    def words(self) -> str:
        """Where it was and is, such as "place 2-5, was 1-4"."""
        if not self.after:
            return f"no longer there, was {self.before}"
        return f"place {self.after}, {f'was {self.before}' if self.before else 'new'}"


class Version(Content):
    """A version of a submission. label: of its entry.  day: when it was accepted (UTC)."""

    name: Line
    revision: Annotated[int, Field(ge=1)]
    digest: Sha256
    label: _Text
    day: date
    moved: tuple[Moved, ...]


class Accepted(Content):
    """The content of `accepted.yaml`."""

    versions: tuple[Version, ...] = ()

    @property
    def current(self) -> Mapping[str, Version]:
        """The version of every submission that is on the board, by name."""
        return {version.name: version for version in self.versions}


def read_accepted(folder: Path) -> Accepted:
    """Read `accepted.yaml` of a board folder; a board that took in nothing has none.

    Raises:
        UserError: it does not hold what it should.
    """
    path = folder / ACCEPTED
    return read_content(path, Accepted) if path.exists() else Accepted()


def moved(before: Iterable[Ranking], after: Iterable[Ranking]) -> tuple[Moved, ...]:
    """Return the places that differ, in the order of the rankings after; what has none there comes last."""
    was, now = _places(before), _places(after)
    return tuple(
        Moved(scenario=where[0], strategy=where[1], before=was.get(where, ""), after=now.get(where, ""))
        for where in dict.fromkeys([*now, *was])
        if was.get(where, "") != now.get(where, "")
    )


def _places(rankings: Iterable[Ranking]) -> dict[tuple[str, str], str]:
    return {(ranking.scenario, row.strategy): row.place for ranking in rankings for row in ranking.rows}


__all__ = ["ACCEPTED", "Accepted", "Moved", "Version", "moved", "read_accepted"]
