"""Contenders over several scenarios: each scenario is scaled between its bounds first, so that none counts
more for its range.

Seed by seed  s = (x - lower) / (upper - lower):  0 is the lower bound, 1 the upper bound, for metrics in
either direction. The mean over scenarios is taken within a seed, the interval over seeds, and places and letters
follow the rules at the top of `harness.results.ranking`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.results.placing import Figures, interval, notes_on, ranks_of
from harness.results.ranking import Ranking
from harness.statistics import Interval, Letters

Bounds = Mapping[int, tuple[float, float]]
"""(lower, upper) per seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateRow:
    """One contender: `scaled` per scenario, `mean` over them under the `seeds` that every scenario has."""

    strategy: str
    place: str
    letters: Letters
    scaled: Mapping[str, Interval]
    mean: Interval
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """Contenders by mean. `scenarios` are those that could be scaled, `seeds` those under which all of them
    could, `leaders` the best contender and those that are not told apart from it.
    """

    scenarios: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: tuple[AggregateRow, ...]
    leaders: tuple[str, ...]
    notes: tuple[str, ...]


def aggregate(rankings: Sequence[Ranking], *, level: float = 0.95) -> Aggregate:
    """Return the contenders of several rankings by their mean scaled primary figure.

    A scenario without a usable pair of bounds is left out for everybody; so is a seed where the upper bound
    is not better than the lower. The notes say so.
    """
    newest = {ranking.scenario: ranking for ranking in rankings}
    notes = (
        ["of several protocols under the same label the last one counts"]
        if len(newest) < len(rankings)
        else []
    )
    bounds = {label: found for label, ranking in newest.items() if (found := _usable_bounds(ranking, notes))}
    scaled = {label: _scaled(newest[label], found) for label, found in bounds.items()}
    seeds = _common([set(found) for found in bounds.values()])
    if not seeds:
        notes.append("no aggregate: no seed under which every scenario can be scaled")
    contenders = sorted(
        {row.strategy for ranking in newest.values() for row in ranking.rows if row.role == "contender"}
    )
    means = {
        label: _mean_over([figures.get(label, {}) for figures in scaled.values()]) for label in contenders
    }
    order = ranks_of(means, seeds, level=level)
    rows = [
        AggregateRow(
            strategy=label,
            place=order.places[label],
            letters=order.letters.get(label, ()),
            scaled={
                scenario: interval(figures.get(label, {}), level) for scenario, figures in scaled.items()
            },
            mean=interval(means[label], level),
            seeds=tuple(means[label]),
        )
        for label in order.order
    ]
    notes += notes_on(order, seeds, level=level) if seeds else []
    return Aggregate(
        scenarios=tuple(scaled), seeds=seeds, rows=tuple(rows), leaders=order.leaders, notes=tuple(notes)
    )


def _usable_bounds(ranking: Ranking, notes: list[str]) -> Bounds:
    """Return the bounds of every seed where the upper one is better; say in `notes` what is left out."""
    figures = {row.strategy: row.figures[ranking.primary.name] for row in ranking.rows}
    lower, upper = figures.get(ranking.lower or "", {}), figures.get(ranking.upper or "", {})
    if not lower or not upper:
        which = " and ".join(text for text, found in (("lower", lower), ("upper", upper)) if not found)
        notes.append(f"{ranking.scenario} is left out: no {which} bound to scale by")
        return {}
    sign = 1 if ranking.primary.better == "higher" else -1
    usable = {
        seed: (lower[seed], upper[seed])
        for seed in lower
        if seed in upper and sign * (upper[seed] - lower[seed]) > 1e-12
    }
    if not usable:
        notes.append(
            f"{ranking.scenario} is left out: its upper bound is under no seed better than its lower"
        )
        return {}
    for seed in ranking.seeds:
        if seed not in usable:
            why = (
                "the upper bound is not better than the lower"
                if seed in lower and seed in upper
                else "a bound lacks it"
            )
            notes.append(f"seed {seed} of {ranking.scenario} is left out: {why}")
    return usable


def _scaled(ranking: Ranking, bounds: Bounds) -> dict[str, Figures]:
    found: dict[str, Figures] = {}
    for row in ranking.rows:
        figures = row.figures[ranking.primary.name]
        found[row.strategy] = {
            seed: (figures[seed] - low) / (high - low)
            for seed, (low, high) in bounds.items()
            if seed in figures
        }
    return found


def _mean_over(scenarios: Sequence[Figures]) -> dict[int, float]:
    """Return per seed the mean over scenarios, for the seeds that every scenario has."""
    return {
        seed: sum(figures[seed] for figures in scenarios) / len(scenarios)
        for seed in _common([set(each) for each in scenarios])
    }


def _common(sets: Sequence[set[int]]) -> tuple[int, ...]:
    return tuple(sorted(set.intersection(*sets))) if sets else ()


__all__ = ["Aggregate", "AggregateRow", "aggregate"]
