"""Results of many cells: as rankings, comparisons, and pandas data frames."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.api.naming import AnyStrategy, selection_of
from harness.errors import UserError
from harness.results.comparison import PairedComparison, metric_of, paired_comparison
from harness.results.matchup import in_records
from harness.results.ranking import Ranking, rankings
from harness.results.tables import failures_table, ranking_notes, ranking_table

if TYPE_CHECKING:
    import pandas as pd

    from harness.store.mlflow_store import Store
    from harness.store.record import Record


@dataclass(frozen=True, kw_only=True)
class Results:
    """Cells that ran, one `Record` each, and the store that keeps them. A notebook shows their rankings."""

    records: Sequence[Record]
    store: Store

    def frame(self) -> pd.DataFrame:
        """Return a row per cell: scenario, protocol, strategy, seed, status, reason, every metric, learn_s and
        seconds (s), peak_mib (MiB), key.
        """
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "scenario": record.scenario,
                    "protocol": record.protocol_hash,
                    "strategy": record.strategy,
                    "seed": record.seed,
                    "status": str(record.status),
                    "reason": record.reason,
                    **record.metrics,
                    "learn_s": record.learn_s,
                    "seconds": record.seconds,
                    "peak_mib": record.peak_mib,
                    "key": record.key,
                }
                for record in self.records
            ]
        )

    def curves(self) -> pd.DataFrame:
        """Return a row per cell and stage: scenario, strategy, seed, stage (from 0), and every figure that the
        scenario scores after a stage.
        """
        import pandas as pd

        rows = []
        for record in self.records:
            figures = self.store.stages(record) if record.run_id else {}
            for stage in sorted({stage for curve in figures.values() for stage in curve}):
                rows.append(
                    {
                        "scenario": record.scenario,
                        "strategy": record.strategy,
                        "seed": record.seed,
                        "stage": stage,
                        **{name: curve[stage] for name, curve in figures.items() if stage in curve},
                    }
                )
        return pd.DataFrame(rows)

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

    def _repr_html_(self) -> str:
        """Show the rankings in a notebook."""
        parts, found = [], self.rankings()
        for ranking in found:
            table = ranking_table(ranking, metrics=[metric.name for metric in ranking.metrics[:3]])
            parts.append(
                f"<h4>{html.escape(ranking.scenario)} <small>protocol {ranking.protocol_hash[:12]}</small></h4>"
            )
            parts.append(_html_table(table.header, table.rows))
            parts += [f"<p><small>{html.escape(note)}</small></p>" for note in ranking_notes(ranking)]
        if (failures := failures_table(found)).rows:
            parts += ["<h4>failures</h4>", _html_table(failures.header, failures.rows)]
        return "\n".join(parts)


def _html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<th>{html.escape(cell)}</th>" for cell in header)]
    lines += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


__all__ = ["Results"]
