"""`owb compare`: two strategies, paired by seed, with the verdict in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness import console
from harness.cli import options
from harness.errors import UserError, unknown

if TYPE_CHECKING:
    from harness.contracts import Metric
    from harness.record import Record

EPILOGUE = options.examples(
    "owb compare replay ewc                          wherever both were run",
    "owb compare replay der --name demo              in one experiment",
    "owb compare happy simgcd -m mean_new            by another figure",
    "owb compare replay 'replay[memory=50]' --json",
)


def compare(
    first: Annotated[str, typer.Argument(help="A strategy as it was run, with its parameters.")],
    second: Annotated[str, typer.Argument(help="The strategy to compare it with.")],
    name: Annotated[str, typer.Option("--name", help="Experiment that holds both; by default all are searched.")] = "",
    metric: Annotated[str, typer.Option("--metric", "-m", help="What to compare by; by default each scenario's first metric.")] = "",
    store: options.Store = "owb-store",
    as_json: options.Json = False,
) -> None:
    """Compare two strategies on every protocol that both ran on, paired by seed."""
    from harness.contracts import Status
    from harness.record import Store

    records = [record for record in Store(store).records(name) if record.status is Status.DONE]
    labels = sorted({record.strategy for record in records})
    for label in (first, second):
        if label not in labels:
            raise unknown("strategy with finished cells", label, labels, f"owb show {name}".strip())
    verdicts = _verdicts(records, first, second, metric)
    if not verdicts:
        raise UserError(f"{first} and {second} have no protocol in common{f' in {name!r}' if name else ''}")
    if as_json:
        console.dump(verdicts)
        return
    for verdict in verdicts:
        console.say(f"{verdict['scenario']}  (protocol {verdict['protocol'][:12]})")
        console.say(f"  {verdict['words']}")


def _verdicts(records: Sequence[Record], first: str, second: str, named: str) -> list[dict[str, Any]]:
    from harness.selection import configured
    from leaderboards.rank import by_protocol

    verdicts = []
    for protocol_hash, group in by_protocol(records).items():
        if not all(any(record.strategy == one for record in group) for one in (first, second)):
            continue
        label = group[0].scenario
        metric = _metric(configured("scenario", label).metrics, named, label)
        figures = [
            {record.seed: record.metrics[metric.name] for record in group if record.strategy == one and metric.name in record.metrics}
            for one in (first, second)
        ]
        seeds = sorted(seed for seed in figures[0].keys() & figures[1].keys() if all(math.isfinite(of[seed]) for of in figures))
        if seeds:
            values = [[of[seed] for seed in seeds] for of in figures]
            verdicts.append({"scenario": label, "protocol": protocol_hash, **_verdict(first, second, *values, metric=metric)})
    return verdicts


def _metric(metrics: Sequence[Metric], named: str, scenario: str) -> Metric:
    """Return the metric called `named`, the first one if nothing is said."""
    by_name = {metric.name: metric for metric in metrics}
    if named and named not in by_name:
        raise unknown("metric", named, by_name, f"owb list {scenario.partition('[')[0]}")
    metric = by_name[named] if named else metrics[0]
    if metric.censored:
        raise UserError(f"{metric.name} is a time that may not be reached, and pairs that reached it say little: choose another --metric")
    return metric


def _verdict(first: str, second: str, a: Sequence[float], b: Sequence[float], *, metric: Metric) -> dict[str, Any]:
    import numpy as np

    from harness.statistics import minimum_detectable_difference, paired_t

    found = paired_t(a, b)
    spread = float(np.std(np.subtract(a, b), ddof=1)) if len(a) > 1 else math.nan
    detectable = minimum_detectable_difference(spread, len(a))
    return {"metric": metric.name, "first": first, "second": second, **found._asdict(), "minimum_detectable_difference": detectable,
            "words": _words(first, second, found, detectable, metric)}  # fmt: skip


def _words(first: str, second: str, found: Any, detectable: float, metric: Metric) -> str:
    name = metric.name.replace("_", " ")
    if found.pairs < 2 or math.isnan(found.p):
        return f"cannot decide: {found.pairs} seed in common gives no spread ({name} differs by {found.difference:+.4f})"
    span = f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}] {name}, paired t p = {found.p:.2g}, {found.pairs} pairs"
    if found.p > 0.05:
        return f"cannot tell {first} and {second} apart: {span}; a true difference of {detectable:.4f} would be found 4 times in 5"
    is_better = (found.difference > 0) == (metric.better == "higher")
    return f"{first} is {'better' if is_better else 'worse'} than {second}: {span}"
