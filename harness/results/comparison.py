"""What can be said of two strategies by their figures: under one protocol, and over several; in numbers and
in words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from harness import seeds, statistics
from harness.contracts import Metric
from harness.errors import UserError, unknown
from harness.results.matchup import Matchup, Pair
from harness.statistics import Comparison, Equivalence
from harness.statistics.series import Strata

LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedComparison:
    """The first strategy minus the second in one metric: Student's interval and p of this pair alone, what sign
    flips say, what could have been found.

    scenarios: the labels it is over, several where it is the mean over scenarios.  protocol: the hash, empty
    over several.
    p_holm: corrected over all pairs of a board's contenders, which then decides; None without a board.
    equivalence: within the margin that was asked for, else None.  notes: what limits it, in sentences.
    """

    scenario: str
    scenarios: tuple[str, ...]
    protocol: str
    metric: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    pairs: int
    p_holm: float | None
    sign_flip_p: float
    minimum_detectable_difference: float
    equivalence: Equivalence | None
    words: str
    notes: tuple[str, ...]


def metric_of(metrics: Sequence[Metric], named: str, scenario: str) -> Metric:
    """Return the metric called `named`, the first one if nothing is said.

    Raises:
        UserError: no such metric, or one that is a time which may not be reached.
    """
    by_name = {metric.name: metric for metric in metrics}
    if named and named not in by_name:
        raise unknown("metric", named, by_name, f"owb list {scenario.partition('[')[0]}")
    metric = by_name[named] if named else metrics[0]
    if metric.censored:
        raise UserError(
            f"{metric.name} is a time that may not be reached, and pairs that reached it say little: "
            "choose another --metric"
        )
    return metric


def paired_comparison(matchup: Matchup, metric: Metric, *, margin: float = 0.0) -> PairedComparison | None:
    """Compare both sides under one protocol, paired by seed; None where they share no seed with a figure."""
    a, b = matchup.pairs(metric.name)
    if not a:
        return None
    differences = statistics.paired_differences(a, b)
    spread = float(np.std(differences, ddof=1)) if len(a) > 1 else math.nan
    corrected = _corrected(matchup, metric)
    hardest = 1 - (1 - LEVEL) / (corrected.pairs if corrected else 1)
    return _verdict(
        matchup.pair,
        metric,
        statistics.paired_t(a, b, level=LEVEL),
        scenarios=(matchup.label,),
        protocol=matchup.protocol_hash,
        flipped=_flipped([differences]),
        corrected=corrected,
        detectable=statistics.minimum_detectable_difference(spread, len(a), level=hardest),
        equivalence=statistics.two_one_sided(a, b, margin=margin, level=LEVEL) if margin else None,
    )


def over_scenarios(
    matchups: Sequence[Matchup], metric: Metric, *, margin: float = 0.0
) -> PairedComparison | None:
    """Compare the mean over scenarios, variance pooled, signs flipped within each; None where fewer than two
    have pairs.

    Figures are taken as they are: the metric must be the same in all.
    """
    pairs = {matchup.label: matchup.pairs(metric.name) for matchup in matchups}
    pairs = {label: both for label, both in pairs.items() if both[0]}
    if len(pairs) < 2:
        return None
    a, b = zip(*pairs.values(), strict=True)
    differences = statistics.differences_within(a, b)
    return _verdict(
        matchups[0].pair,
        metric,
        statistics.pooled_paired_t(a, b, level=LEVEL),
        scenarios=tuple(pairs),
        protocol="",
        flipped=_flipped(differences),
        corrected=None,
        detectable=statistics.detectable_within_strata(differences, level=LEVEL),
        equivalence=statistics.two_one_sided_within_strata(a, b, margin=margin, level=LEVEL)
        if margin
        else None,
    )


class _Corrected(NamedTuple):
    """Holm's p of the two that are compared, and over how many pairs."""

    p: float
    pairs: int


def _corrected(matchup: Matchup, metric: Metric) -> _Corrected | None:
    series = {
        label: [cells[seed].get(metric.name, math.nan) for seed in sorted(cells)]
        for label, cells in matchup.field.items()
    }
    series = {label: own for label, own in series.items() if all(map(math.isfinite, own))}
    if not all(label in series for label in matchup.pair):
        return None
    compared = statistics.compare_all(series, level=LEVEL)
    return _Corrected(compared[matchup.pair].p, len(compared) // 2)


def _flipped(differences: Strata) -> float:
    return statistics.sign_flip_within_strata(differences, rng=seeds.stream("sign-flip", seed=0))


def _verdict(
    pair: Pair,
    metric: Metric,
    found: Comparison,
    *,
    scenarios: tuple[str, ...],
    protocol: str,
    flipped: float,
    corrected: _Corrected | None,
    detectable: float,
    equivalence: Equivalence | None,
) -> PairedComparison:
    words = _words(pair, metric, found, corrected, detectable)
    if equivalence:
        words = f"{words}; {_equivalence_words(equivalence)}"
    return PairedComparison(
        scenario=scenarios[0] if len(scenarios) == 1 else f"mean over {len(scenarios)} scenarios",
        scenarios=scenarios,
        protocol=protocol,
        metric=metric.name,
        first=pair[0],
        second=pair[1],
        **found._asdict(),
        p_holm=corrected.p if corrected else None,
        sign_flip_p=flipped,
        minimum_detectable_difference=detectable,
        equivalence=equivalence,
        words=words,
        notes=tuple(_notes(found, flipped)),
    )


def _words(
    pair: Pair, metric: Metric, found: Comparison, corrected: _Corrected | None, detectable: float
) -> str:
    first, second = pair
    name = metric.name.replace("_", " ")
    if math.isnan(found.p):
        seeds_in_common = f"{found.pairs} seed{'' if found.pairs == 1 else 's'}"
        return f"cannot decide: {seeds_in_common} in common gives no spread ({name} differs by {found.difference:+.4f})"
    span = (
        f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}] {name}, paired t p = "
        f"{found.p:.2g}, {found.pairs} pairs"
    )
    if corrected:
        span += f"; p = {corrected.p:.2g} by Holm over {corrected.pairs} pairs of strategies, which decides"
    chance = f"a true difference of {detectable:.4f} would be found 4 times in 5"
    if (corrected.p if corrected else found.p) > 1 - LEVEL:
        return f"cannot tell {first} and {second} apart: {span}; {chance}"
    is_better = (found.difference > 0) == (metric.better == "higher")
    return f"{first} is {'better' if is_better else 'worse'} than {second}: {span}; {chance}"


def _equivalence_words(found: Equivalence) -> str:
    if math.isnan(found.p):
        return f"cannot decide whether they are equivalent within {found.margin:g}"
    span = f"90 % interval [{found.low:+.4f}, {found.high:+.4f}], two one-sided t p = {found.p:.2g}"
    return f"{'equivalent' if found.p <= 1 - LEVEL else 'not shown to be equivalent'} within {found.margin:g}: {span}"


def _notes(found: Comparison, flipped: float) -> list[str]:
    if math.isnan(found.p):
        return []
    fewest = statistics.fewest_pairs(LEVEL)
    if found.pairs < fewest:
        smallest = statistics.smallest_sign_flip_p(found.pairs)
        return [
            f"{found.pairs} pairs cannot reach two-sided 5 % by sign flips (smallest p {smallest:.4g}, "
            f"{fewest} pairs are the fewest): "
            "the verdict rests on Student's t, which takes the differences for normal"
        ]
    return [f"sign flips, which take nothing for granted, give p = {flipped:.2g}"]


__all__ = ["LEVEL", "PairedComparison", "metric_of", "over_scenarios", "paired_comparison"]
