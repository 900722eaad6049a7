"""Rankings on the console: one table per protocol, what must be read beside it, failures, and the aggregate where there are several."""

from __future__ import annotations

from collections.abc import Sequence

from harness import console
from harness.record import Record


def show(records: Sequence[Record], *, as_json: bool, every_metric: bool = False) -> None:
    """Print the rankings of `records`; by default the primary metric and two more, so that a row fits a terminal."""
    from leaderboards.aggregate import aggregate
    from leaderboards.rank import rankings
    from leaderboards.render import aggregate_table, failures_table, json_ready, ranking_notes, ranking_table

    ranked = rankings(records)
    if as_json:
        console.dump({"rankings": json_ready(ranked), "aggregate": json_ready(aggregate(ranked)) if len(ranked) > 1 else None})
        return
    for ranking in ranked:
        names = [metric.name for metric in ranking.metrics]
        table = ranking_table(ranking, metrics=names if every_metric else names[:3])
        console.grid(*table, title=f"\n{ranking.scenario}  (protocol {ranking.protocol_hash[:12]})")
        for note in ranking_notes(ranking):
            console.say(f"  {note}")
    if len(ranked) > 1:
        together = aggregate(ranked)
        console.grid(*aggregate_table(together), title="\nall scenarios, scaled from 0 (lower bound) to 1 (upper bound)")
        for note in together.notes:
            console.say(f"  {note}")
    failures = failures_table(ranked)
    if failures.rows:
        console.grid(*failures, title="\nfailures")
