"""Rankings: what the records of one protocol say about who is better, by how much, and whether that can be
said at all.

One row per strategy label. Rules, in this order:

1. A seed counts for a strategy when its cell is done and has a figure for the primary metric; every other
cell is listed as a failure.
2. Contenders that have every seed stand in the order of their mean and are compared each with each, paired by
seed, Holm over all pairs (`harness.statistics.compare_all`). Two share a letter exactly when the test does not
tell them apart (`compact_letters`). A place is the range that the test leaves open (`rank_ranges`): "2-5" of 7
says that one is better and two are worse.
3. Contenders that lack seeds come after them, ordered by the mean of the seeds they have, without letters, and
share one place range marked "*": what is missing may be the hard part. Without any figure the place is "-".
4. With a single seed nothing can be decided: places are "?".
5. The bounds, and every variant of the bound strategies, are shown but never placed.
6. A censored metric (a time that may not be reached) has no mean: its median over all done cells is shown,
with how many reached it. No
   ranking goes by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from harness import statistics
from harness.contracts import Metric, Status
from harness.errors import UserError
from harness.results.costs import common, where_measured
from harness.results.placing import Figures, Ranks, interval, minimum_detectable, notes_on, ranks_of
from harness.statistics import Comparison, Interval, Letters, Times
from harness.syntax import single

if TYPE_CHECKING:
    from harness.store.record import Record

Role = Literal["contender", "upper bound", "lower bound"]
_DONE = (Status.DONE, Status.CACHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A cell without a figure, and why."""

    seed: int
    status: Status
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One strategy in a ranking.

    letters: shared with another row exactly when the test does not tell them apart; none where it was not made.
    seeds: those with a figure for the primary metric.  lacking: the other seeds of the ranking, failed or
    never run.
    figures: per metric, the figure of every seed that has one.  intervals: per metric that is not censored,
    over these seeds.
    times: per censored metric, over all done cells.
    versus_best: this minus the best contender in the primary metric over common seeds; None for the best
    itself. Its interval stands for itself; its p is Holm-corrected over all pairs of complete contenders and
    NaN for everyone else.
    seconds: mean over done cells.  peak_mib: largest of all cells.  Both are of the cells that were measured
    in one run on one machine with most of the ranking's; NaN where there are none, and `compares` is then
    False if there are others.
    """

    strategy: str
    role: Role
    place: str
    letters: Letters
    seeds: tuple[int, ...]
    lacking: tuple[int, ...]
    failures: tuple[Failure, ...]
    figures: Mapping[str, Figures]
    intervals: Mapping[str, Interval]
    times: Mapping[str, Times]
    versus_best: Comparison | None
    seconds: float
    peak_mib: float
    compares: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """All strategies on one protocol. Rows: contenders by mean, then the upper bound, then the lower bound.

    best: the first contender, None where none has a figure.  leaders: the best and those that are not told
    apart from it; empty where nothing was tested.
    lower, upper: the labels that stand for the bounds, or None.  minimum_detectable: the difference in the
    primary metric that this ranking had a chance of `POWER` to find; NaN where unknown.
    """

    scenario: str
    protocol_hash: str
    metrics: tuple[Metric, ...]
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    best: str | None
    leaders: tuple[str, ...]
    lower: str | None
    upper: str | None
    minimum_detectable: float
    notes: tuple[str, ...]

    @property
    def primary(self) -> Metric:
        """The metric that places are given by."""
        return self.metrics[0]


def by_protocol(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Return the records of every protocol hash, in order of first appearance."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.protocol_hash, []).append(record)
    return groups


def rankings(records: Iterable[Record]) -> list[Ranking]:
    """Return one ranking per protocol; metrics and bounds come from the scenario that the records name.

    Raises:
        UserError: a scenario that is not installed.
    """
    from harness.selection import configured

    found = []
    for group in by_protocol(records).values():
        scenario = configured("scenario", group[0].scenario)
        ranking = rank(
            group,
            metrics=scenario.metrics,
            lower_bound=scenario.lower_bound,
            upper_bound=scenario.upper_bound,
            not_known=scenario.not_known,
        )
        excluded = scenario.board_exclusion_reason()
        found.append(replace(ranking, notes=(*([excluded] if excluded else []), *ranking.notes)))
    return found


def rank(
    records: Sequence[Record],
    *,
    metrics: Sequence[Metric],
    lower_bound: str,
    upper_bound: str,
    level: float = 0.95,
    not_known: str = "",
) -> Ranking:
    """Rank the records of one protocol; of several records for the same strategy and seed the last one
    counts.

    Args:
        records: oldest first.
        metrics: of the scenario, the primary one first.
        lower_bound: name of the strategy that bounds from below.
        upper_bound: name of the strategy that bounds from above.
        level: of intervals and tests.
        not_known: what the data do not tell, for the notes.

    Raises:
        UserError: no records, or records of several protocols; a primary metric that is censored.
    """
    if metrics[0].censored:
        raise UserError(
            f"{metrics[0].name} may not be reached at all, so no ranking goes by it; the first metric must "
            "be one with a mean"
        )
    hashes = list(by_protocol(records))
    if len(hashes) != 1:
        known = ", ".join(text[:12] for text in hashes) or "none"
        raise UserError(f"a ranking needs records of exactly one protocol, got {len(hashes)}: {known}")
    newest = {(record.strategy, record.seed): record for record in records}
    seeds = tuple(sorted({seed for _, seed in newest}))
    entries = _entries(newest.values(), metrics, lower_bound, upper_bound)
    primary = metrics[0]
    field = {
        entry.label: entry.figures[primary.name] for entry in entries.values() if entry.role == "contender"
    }
    order = ranks_of(field, seeds, better=primary.better, level=level)
    bounds = [
        entry.label
        for role in ("upper bound", "lower bound")
        for entry in entries.values()
        if entry.role == role
    ]
    best = entries[order.best] if order.best else None
    place = common(newest.values())
    rows = tuple(
        _row(entries[label], best, order, metrics, seeds, level, place) for label in [*order.order, *bounds]
    )
    upper, lower = _bound(upper_bound, entries, primary), _bound(lower_bound, entries, primary)
    notes = [
        *notes_on(order, seeds, level=level),
        *(bound.problem for bound in (upper, lower) if bound.problem),
    ]
    if len(newest) < len(records):
        notes.append(
            f"{len(records) - len(newest)} older records of the same strategies and seeds are left out"
        )
    if not_known:
        notes.append(not_known)
    return Ranking(
        scenario=records[-1].scenario,
        protocol_hash=hashes[0],
        metrics=tuple(metrics),
        seeds=seeds,
        rows=rows,
        best=order.best,
        leaders=order.leaders,
        lower=lower.label,
        upper=upper.label,
        minimum_detectable=minimum_detectable(field, order, seeds, level=level),
        notes=tuple(notes),
    )


class _Entry(NamedTuple):
    """The records of one strategy by seed, and their finite figures."""

    label: str
    role: Role
    records: list[Record]
    figures: dict[str, dict[int, float]]


def _entries(
    records: Iterable[Record], metrics: Sequence[Metric], lower_bound: str, upper_bound: str
) -> dict[str, _Entry]:
    found: dict[str, _Entry] = {}
    for record in sorted(records, key=lambda record: (record.strategy, record.seed)):
        role = role_of(record.strategy, lower_bound, upper_bound)
        entry = found.setdefault(
            record.strategy, _Entry(record.strategy, role, [], {metric.name: {} for metric in metrics})
        )
        entry.records.append(record)
        for name, figures in entry.figures.items():
            figure = record.metrics.get(name, math.nan)
            if record.status in _DONE and math.isfinite(figure):
                figures[record.seed] = figure
    return found


def role_of(label: str, lower_bound: str, upper_bound: str) -> Role:
    """Return what a strategy is in the ranking of a scenario with these bounds; one with components is a contender,
    since they are what is asked about.
    """
    said = single(label)
    if "components" in said.params or said.name not in (lower_bound, upper_bound):
        return "contender"
    return "upper bound" if said.name == upper_bound else "lower bound"


def _row(
    entry: _Entry,
    best: _Entry | None,
    order: Ranks,
    metrics: Sequence[Metric],
    seeds: tuple[int, ...],
    level: float,
    place: str,
) -> Row:
    primary = metrics[0].name
    own = entry.figures[primary]
    done = [record for record in entry.records if record.status in _DONE]
    seconds = [record for record in done if math.isfinite(record.seconds)]
    peaks = [record for record in entry.records if math.isfinite(record.peak_mib)]
    seconds_there = [record.seconds for record in seconds if where_measured(record) == place]
    peaks_there = [record.peak_mib for record in peaks if where_measured(record) == place]
    return Row(
        strategy=entry.label,
        role=entry.role,
        place=order.places.get(entry.label, ""),
        letters=order.letters.get(entry.label, ()),
        seeds=tuple(own),
        lacking=tuple(seed for seed in seeds if seed not in own),
        failures=tuple(_failure(record, primary) for record in entry.records if record.seed not in own),
        figures=entry.figures,
        intervals={
            metric.name: interval(entry.figures[metric.name], level)
            for metric in metrics
            if not metric.censored
        },
        times={metric.name: _times(done, metric.name) for metric in metrics if metric.censored},
        versus_best=_versus(entry, best, order, primary, level),
        seconds=sum(seconds_there) / len(seconds_there) if seconds_there else math.nan,
        peak_mib=max(peaks_there, default=math.nan),
        compares=bool(seconds_there or peaks_there or not (seconds or peaks)),
    )


def _times(done: Iterable[Record], metric: str) -> Times:
    """A done cell without the figure did not reach it."""
    return statistics.times_reached([record.metrics.get(metric, math.nan) for record in done])


def _failure(record: Record, primary: str) -> Failure:
    reason = f"no figure for {primary}" if record.status in _DONE else record.reason
    return Failure(seed=record.seed, status=record.status, reason=reason)


def _versus(
    entry: _Entry, best: _Entry | None, order: Ranks, primary: str, level: float
) -> Comparison | None:
    if best is None or entry.label == best.label:
        return None
    if (entry.label, best.label) in order.comparisons:
        return order.comparisons[entry.label, best.label]
    own, other = entry.figures[primary], best.figures[primary]
    common = [seed for seed in own if seed in other]
    compared = statistics.paired_t(
        [own[seed] for seed in common], [other[seed] for seed in common], level=level
    )
    return compared._replace(p=math.nan)


class _Bound(NamedTuple):
    label: str | None
    problem: str = ""


def _bound(name: str, entries: Mapping[str, _Entry], primary: Metric) -> _Bound:
    """Find the label that stands for a bound: the bare name, else its only variant."""
    variants = [
        label
        for label, entry in entries.items()
        if label.partition("[")[0] == name and entry.role != "contender"
    ]
    if name not in variants and len(variants) != 1:
        why = (
            f"it has {len(variants)} variants and none with default parameters"
            if variants
            else "it was not run"
        )
        return _Bound(None, f"the bound {name!r} is missing: {why}")
    label = name if name in variants else variants[0]
    if not entries[label].figures[primary.name]:
        return _Bound(label, f"the bound {label!r} has no figure: none of its cells is done")
    return _Bound(label)


__all__ = ["Failure", "Ranking", "Role", "Row", "by_protocol", "rank", "rankings", "role_of"]
