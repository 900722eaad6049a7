"""Rankings on the console: one table per protocol, what must be read beside it, failures, and the aggregate
where there are several.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.cli import console

if TYPE_CHECKING:
    from harness.store.record import Record


def show(records: Sequence[Record], *, as_json: bool, every_metric: bool = False) -> None:
    """Print the rankings of `records`; by default the primary metric and two more, so that a row fits a
    terminal.
    """
    from harness.results.aggregate import aggregate
    from harness.results.ranking import rankings
    from harness.results.tables import (
        READING,
        aggregate_table,
        failures_table,
        json_ready,
        ranking_notes,
        ranking_table,
    )

    ranked = rankings(records)
    if as_json:
        console.dump(
            {
                "rankings": json_ready(ranked),
                "aggregate": json_ready(aggregate(ranked)) if len(ranked) > 1 else None,
            }
        )
        return
    for ranking in ranked:
        names = [metric.name for metric in ranking.metrics]
        table = ranking_table(ranking, metrics=names if every_metric else names[:3])
        console.grid(*table, title=f"\n{ranking.scenario}  (protocol {ranking.protocol_hash[:12]})")
        for note in ranking_notes(ranking):
            console.say(f"  {note}")
    if mixed := [record for record in records if record.mixed]:
        others = "; ".join(dict.fromkeys(record.mixed for record in mixed))
        console.say(
            f"{len(mixed)} of {len(records)} cells ran with other libraries than their keys name ({others})"
        )
    if len(ranked) > 1:
        together = aggregate(ranked)
        console.grid(
            *aggregate_table(together),
            title="\nall scenarios, scaled from 0 (lower bound) to 1 (upper bound)",
        )
        for note in together.notes:
            console.say(f"  {note}")
    if any(len(ranking.rows) > 1 and ranking.rows[0].letters for ranking in ranked):
        console.say(f"\n{READING}")
    failures = failures_table(ranked)
    if failures.rows:
        console.grid(*failures, title="\nfailures")


def show_smoke(records: Sequence[Record], *, as_json: bool) -> None:
    """Say of every cell of a smoke run how it ended; its figures mean nothing and are not shown."""
    if as_json:
        console.dump(
            [
                {
                    "scenario": record.scenario,
                    "strategy": record.strategy,
                    "status": record.status,
                    "reason": record.reason,
                    "seconds": record.seconds,
                }
                for record in records
            ]
        )
        return
    rows = [
        [record.status, record.scenario, record.strategy, f"{record.seconds:.1f}", record.reason]
        for record in records
    ]
    console.grid(["status", "scenario", "strategy", "seconds", "reason"], rows)
    console.say("a smoke run tries data, disk and code; what it scored means nothing, and no board takes it")
