"""Results of many cells: as rankings, comparisons, and pandas data frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.api.naming import AnyStrategy, selection_of
from harness.errors import UserError
from harness.results.comparison import PairedComparison, metric_of, paired_comparison
from harness.results.frames import cells_frame, stages_frame
from harness.results.matchup import in_records
from harness.results.plain_page import PlainSection, sections_html
from harness.results.ranking import Ranking, rankings
from harness.results.tables import failures_table, ranking_notes, ranking_table

if TYPE_CHECKING:
    import pandas as pd

    from harness.store.mlflow_store import Store
    from harness.store.record import Record


@dataclass(frozen=True, kw_only=True, repr=False)
class Results:
    """Cells that ran, one `Record` each, and the store that keeps them. A notebook shows their rankings."""

    records: Sequence[Record]
    store: Store

    def frame(self) -> pd.DataFrame:
        """Return a row per cell: see `harness.results.frames.cells_frame`."""
        return cells_frame(self.records)

    def curves(self) -> pd.DataFrame:
        """Return a row per cell and stage: see `harness.results.frames.stages_frame`."""
        return stages_frame(self.records, self.store)

    def rankings(self) -> list[Ranking]:
        """Return a ranking per protocol, as `owb show` prints it."""
        return rankings(self.records)

    def ranking(self) -> Ranking:
        """Return the ranking where there is one protocol.

        Raises:
            UserError: there are several, or none.
        """
        found = self.rankings()
        if len(found) != 1:
            raise UserError(f"these results have {len(found)} protocols: take one of rankings()")
        return found[0]

    def compare(
        self, first: AnyStrategy, second: AnyStrategy, *, metric: str = "", margin: float = 0.0
    ) -> list[PairedComparison]:
        """Return first minus second, paired by seed, for every protocol that both ran on.

        Args:
            first, second: labels of strategies, or the classes or instances that ran.
            metric: by name; the primary one by default.
            margin: also test for equivalence within it.

        Raises:
            UserError: a strategy without finished cells, or a metric that is none or censored.
        """
        pair = (
            selection_of("strategy", first, self.store.folder),
            selection_of("strategy", second, self.store.folder),
        )
        found = [
            paired_comparison(matchup, metric_of(matchup.metrics, metric, matchup.label), margin=margin)
            for matchup in in_records(self.store, pair, self.records)
        ]
        return [each for each in found if each is not None]

    def __repr__(self) -> str:
        """Say how many cells there are and how they ended."""
        ends = Counter(str(record.status) for record in self.records)
        said = ", ".join(f"{count} {status}" for status, count in ends.items())
        return f"<Results of {len(self.records)} cells: {said or 'none'}>"

    def _repr_html_(self) -> str:
        """Show the rankings in a notebook."""
        found = self.rankings()
        sections = [
            PlainSection(
                f"{ranking.scenario} (protocol {ranking.protocol_hash[:12]})",
                ranking_notes(ranking),
                [("", ranking_table(ranking, metrics=[metric.name for metric in ranking.metrics[:3]]))],
            )
            for ranking in found
        ]
        if (failures := failures_table(found)).rows:
            sections.append(PlainSection("failures", [], [("", failures)]))
        return sections_html(sections)


__all__ = ["Results"]
