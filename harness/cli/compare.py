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
    "owb compare replay ewc                          in the experiment 'runs'",
    "owb compare replay der --name demo              in another experiment",
    "owb compare replay 'replay[memory=50]' --json",
)


def compare(
    first: Annotated[str, typer.Argument(help="A strategy as it was run, with its parameters.")],
    second: Annotated[str, typer.Argument(help="The strategy to compare it with.")],
    name: Annotated[str, typer.Option("--name", help="Experiment that holds both.")] = "runs",
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
            raise unknown("strategy with finished cells", label, labels, f"owb show {name}")
    verdicts = _verdicts(records, first, second)
    if not verdicts:
        raise UserError(f"{first} and {second} have no protocol in common in {name!r}")
    if as_json:
        console.dump(verdicts)
        return
    for verdict in verdicts:
        console.say(f"{verdict['scenario']}  (protocol {verdict['protocol'][:12]})")
        console.say(f"  {verdict['words']}")


def _verdicts(records: Sequence[Record], first: str, second: str) -> list[dict[str, Any]]:
    from harness.plugins import find
    from harness.selection import single
    from leaderboards.rank import by_protocol

    verdicts = []
    for protocol_hash, group in by_protocol(records).items():
        figures = [{record.seed: record for record in group if record.strategy == label} for label in (first, second)]
        seeds = sorted(figures[0].keys() & figures[1].keys())
        if seeds:
            label = group[0].scenario
            metric = find("scenario", single(label).name).cls.metrics[0]
            values = [[of[seed].metrics[metric.name] for seed in seeds] for of in figures]
            verdicts.append({"scenario": label, "protocol": protocol_hash, **_verdict(first, second, *values, metric=metric)})
    return verdicts


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
