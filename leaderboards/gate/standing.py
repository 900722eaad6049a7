"""Stage 9, statistics: where the submission would stand on the board, in words. Being worse is no reason to
refuse.
"""

from __future__ import annotations

from harness.results.formats import figure
from harness.results.ranking import Ranking
from harness.results.tables import scale, words
from leaderboards.gate.case import Case
from leaderboards.publishing.board import Board


def standing(case: Case) -> list[str]:
    """Return one sentence per scenario."""
    others = tuple(entry for entry in case.board.entries if entry.label != case.entry.label)
    board = Board(header=case.board.header, entries=(*others, case.entry))
    return [sentence(ranking, case.entry.label) for ranking in board.rankings()]


def sentence(ranking: Ranking, label: str) -> str:
    """Say where `label` stands in a ranking: its figure, its place, and what the test says of it and the best."""
    row = next(row for row in ranking.rows if row.strategy == label)
    name, factor = ranking.primary.name, scale(ranking, ranking.primary.name)
    own = figure(row.intervals[name], factor) or "no figure"
    said = (
        f"{ranking.scenario}: {words(name)} {own}{' %' if factor == 100 else ''} over {len(row.seeds)} "
        f"of {len(ranking.seeds)} seeds"
    )
    if row.role != "contender":
        return f"{said}; it is the {row.role}, which is not placed"
    if row.lacking:
        return f"{said}; it lacks seeds, so it stands after the contenders that have all and is not tested"
    if not row.letters:
        return f"{said}; one seed cannot decide"
    said += f"; place {row.place} of {sum(each.role == 'contender' for each in ranking.rows)} contenders"
    versus = row.versus_best
    if versus is None:
        others = ", ".join(each for each in ranking.leaders if each != label) or "none"
        return f"{said}, the best by mean; not told apart from it: {others}"
    corrected = f"p {versus.p:.2g}, corrected for all pairs"
    if label in ranking.leaders:
        return f"{said}; not told apart from {ranking.best} ({figure(versus, factor)}; {corrected})"
    return f"{said}; worse than {ranking.best} by {figure(versus, factor).lstrip('-')} ({corrected})"


__all__ = ["sentence", "standing"]
