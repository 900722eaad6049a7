"""Effects: for every contrast of an ablation its difference in every metric, what it costs, and whether these
seeds can tell.

A contrast is a difference d under every seed (`harness.studies.ablation.design.Contrast`), so all tests are
paired. Under one scenario d has Student's interval and p; over several, which are strata, the means within
them are averaged with variances pooled (`statistics.pooled_paired_t`) and signs flip within a stratum. All
contrasts in one metric under one scenario are one family: p is Holm-corrected over it, while every interval
stands for itself. The smallest effect that would be found is that of the hardest step of Holm, whose level is
divided by the family's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness import seeds as streams
from harness import statistics
from harness.contracts import Metric
from harness.protocol.contrasts import Ablation, Contrast
from harness.results.comparison import LEVEL, metric_of
from harness.results.costs import most_of
from harness.results.placing import POWER
from harness.statistics import Better, Comparison, Interval
from harness.statistics.series import Floats
from harness.studies.ablation.measured import Measured

Verdict = Literal[
    "contributes", "hurts", "reinforce each other", "overlap", "changes nothing", "cannot decide"
]


class Cost(NamedTuple):
    """What the first side takes more than the second: seconds and MiB a cell, and both as ratios of means;
    NaN where not measured.

    They are of the pairs that were measured in one run on one machine; `pairs` counts all that have their
    seconds, wherever they were measured.
    """

    seconds: Comparison
    seconds_ratio: float
    peak_mib: Comparison
    peak_ratio: float
    pairs: int

    @property
    def compares(self) -> bool:
        """Whether there are such pairs, or none at all."""
        return not self.pairs or math.isfinite(self.seconds.difference)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One contrast in one metric, unscaled; `factor` is 100 where it is a share to be shown in per cent.

    first, second: means of both sides over the seeds that have both; NaN for an interaction, which has no
    sides.
    p: of the paired t-test.  p_holm: corrected over the family of `family` contrasts.
    sign_flip_p, sign_flip_holm: of sign flips, which take nothing for normal, as it is and corrected alike.
    detectable: the true difference found with probability `POWER`.  cost: None for an interaction.
    """

    contrast: Contrast
    metric: str
    better: Better
    factor: float
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    sign_flip_p: float
    sign_flip_holm: float
    pairs: int
    cells: int
    detectable: float
    family: int
    cost: Cost | None

    @property
    def verdict(self) -> Verdict:
        """What these seeds say."""
        if math.isnan(self.p_holm) or (self.p_holm > 1 - LEVEL and (self.low, self.high) != (0.0, 0.0)):
            return "cannot decide"
        if self.difference == 0.0:
            return "changes nothing"
        is_good = (self.difference > 0) == (self.better == "higher")
        if self.contrast.kind == "interaction":
            return "reinforce each other" if is_good else "overlap"
        return "contributes" if is_good else "hurts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The effects under one scenario, or of the mean over several; by metric, the leading one first.

    protocol: its hash, empty over several scenarios.  reference: the figure of the reference arm, by metric.
    """

    label: str
    protocol: str
    scenarios: tuple[str, ...]
    reference: Mapping[str, Interval]
    effects: Mapping[str, tuple[Effect, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A cell without a figure, and why."""

    scenario: str
    arm: str
    seed: int
    status: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything an ablation says. `notes` limit it, in sentences."""

    ablation: Ablation
    seeds: int
    parts: tuple[Part, ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]


def report(ablation: Ablation, measured: Sequence[Measured], *, metrics: Sequence[str] = ()) -> Report:
    """Return the effects of an ablation.

    Args:
        ablation: its arms and contrasts.
        measured: its cells, one entry per scenario.
        metrics: which ones, the leading one first; by default all that have a mean, in the scenario's order.

    Raises:
        UserError: a scenario without such a metric, or a time that may not be reached.
    """
    chosen = [_metrics(one, metrics) for one in measured]
    parts = [
        _part(one.label, ablation, [one], own, protocol=one.protocol)
        for one, own in zip(measured, chosen, strict=True)
    ]
    common = [metric for metric in chosen[0] if all(_has(metric, own) for own in chosen[1:])]
    leads_alike = bool(common) and all(own[0].name == common[0].name for own in chosen)
    if len(measured) > 1 and leads_alike:
        parts.append(_part(f"mean over {len(measured)} scenarios", ablation, measured, common))
    return Report(
        ablation=ablation,
        seeds=measured[0].seeds,
        parts=tuple(parts),
        failures=tuple(_failures(measured, chosen)),
        notes=tuple(_notes(measured, parts, has_mean=leads_alike)),
    )


def _part(
    label: str,
    ablation: Ablation,
    strata: Sequence[Measured],
    metrics: Sequence[Metric],
    *,
    protocol: str = "",
) -> Part:
    series = {
        metric.name: [one.figures(ablation.reference, metric.name) for one in strata] for metric in metrics
    }
    return Part(
        label=label,
        protocol=protocol,
        scenarios=tuple(one.label for one in strata),
        reference={name: statistics.pooled_t(figures, level=LEVEL) for name, figures in series.items()},
        effects={metric.name: _family(ablation, strata, metric) for metric in metrics},
    )


def _metrics(measured: Measured, named: Sequence[str]) -> list[Metric]:
    if named:
        return [metric_of(measured.metrics, name, measured.label) for name in named]
    return [metric for metric in measured.metrics if not metric.censored]


def _has(metric: Metric, among: Sequence[Metric]) -> bool:
    return any((metric.name, metric.better) == (one.name, one.better) for one in among)


def _family(ablation: Ablation, strata: Sequence[Measured], metric: Metric) -> tuple[Effect, ...]:
    """Return the effects of all contrasts in one metric, corrected together."""
    compared = []
    for contrast in ablation.contrasts:
        sides = _sides(strata, contrast, lambda one, arm: one.figures(arm, metric.name))
        compared.append((contrast, sides, statistics.pooled_paired_t(sides.plus, sides.minus, level=LEVEL)))
    corrected = statistics.holm([found.p for _, _, found in compared])
    family = int(np.count_nonzero(~np.isnan(corrected)))
    strata_of = [statistics.differences_within(sides.plus, sides.minus) for _, sides, _ in compared]
    flipped = [
        statistics.sign_flip_within_strata(own, rng=streams.stream("sign-flip", seed=0)) for own in strata_of
    ]
    flipped_corrected = statistics.holm(flipped)
    factor = min(one.factor(metric.name) for one in strata)
    effects = []
    for place, (contrast, sides, found) in enumerate(compared):
        has_sides = contrast.kind != "interaction"
        effects.append(
            Effect(
                contrast=contrast,
                metric=metric.name,
                better=metric.better,
                factor=factor,
                first=_mean(sides.plus, sides.minus) if has_sides else math.nan,
                second=_mean(sides.minus, sides.plus) if has_sides else math.nan,
                **found._asdict(),
                p_holm=float(corrected[place]),
                sign_flip_p=flipped[place],
                sign_flip_holm=float(flipped_corrected[place]),
                cells=sum(one.seeds for one in strata),
                detectable=statistics.detectable_within_strata(
                    strata_of[place], power=POWER, level=1 - (1 - LEVEL) / max(1, family)
                ),
                family=family,
                cost=_cost(strata, contrast) if has_sides else None,
            )
        )
    return tuple(effects)


class _Sides(NamedTuple):
    """Both sides of a contrast: a series over seeds for every scenario."""

    plus: list[Floats]
    minus: list[Floats]


def _sides(
    strata: Sequence[Measured], contrast: Contrast, series: Callable[[Measured, str], Floats]
) -> _Sides:
    def summed(arms: Sequence[str]) -> list[Floats]:
        return [np.sum([series(one, arm) for arm in arms], axis=0) / contrast.share for one in strata]

    return _Sides(summed(contrast.plus), summed(contrast.minus))


def _cost(strata: Sequence[Measured], contrast: Contrast) -> Cost:
    """Return what the pairs of one session cost, of the one that most of them are of."""
    every = _sides(strata, contrast, lambda one, arm: one.seconds(arm))
    sessions = [one.sessions((*contrast.plus, *contrast.minus)) for one in strata]
    session = most_of([name for own in sessions for name in own if name])
    alike = [np.array([bool(name) and name == session for name in own]) for own in sessions]
    seconds = _only(alike, every)
    peaks = _only(alike, _sides(strata, contrast, lambda one, arm: one.peaks(arm)))
    return Cost(
        seconds=statistics.pooled_paired_t(*seconds, level=LEVEL),
        seconds_ratio=_ratio(seconds),
        peak_mib=statistics.pooled_paired_t(*peaks, level=LEVEL),
        peak_ratio=_ratio(peaks),
        pairs=sum(map(len, statistics.differences_within(*every))),
    )


def _only(chosen: Sequence[NDArray[np.bool_]], sides: _Sides) -> _Sides:
    """Return both sides with NaN for what is not chosen."""
    plus, minus = (
        [np.where(own, values, math.nan) for own, values in zip(chosen, side, strict=True)] for side in sides
    )
    return _Sides(plus, minus)


def _ratio(sides: _Sides) -> float:
    below = _mean(sides.minus, sides.plus)
    return _mean(sides.plus, sides.minus) / below if below > 0 else math.nan


def _mean(own: Sequence[Floats], other: Sequence[Floats]) -> float:
    """Return the mean over strata of the means of `own` where `other` has a figure too; NaN where a stratum
    has none.
    """
    kept = [first[np.isfinite(first) & np.isfinite(second)] for first, second in zip(own, other, strict=True)]
    return float(np.mean([values.mean() for values in kept])) if all(map(len, kept)) else math.nan


def _failures(measured: Sequence[Measured], chosen: Sequence[Sequence[Metric]]) -> list[Failure]:
    found = []
    for one, metrics in zip(measured, chosen, strict=True):
        for (arm, seed), record in one.cells.items():
            if not math.isfinite(one.figures(arm, metrics[0].name)[seed]):
                reason = record.reason or f"no figure for {metrics[0].name}"
                found.append(
                    Failure(scenario=one.label, arm=arm, seed=seed, status=str(record.status), reason=reason)
                )
    return found


def _notes(measured: Sequence[Measured], parts: Sequence[Part], *, has_mean: bool) -> list[str]:
    said = []
    fewest = statistics.fewest_pairs(LEVEL)
    pairs = max(
        (effect.pairs for part in parts for effects in part.effects.values() for effect in effects), default=0
    )
    if 1 < pairs < fewest:
        said.append(
            f"{pairs} pairs cannot reach two-sided 5 % by sign flips ({fewest} are the fewest): "
            "verdicts rest on Student's t, which takes the differences for normal"
        )
    if len(measured) > 1 and not has_mean:
        said.append(
            "no mean over scenarios, which lead with different metrics: name one that all have by --metric"
        )
    censored = dict.fromkeys(metric.name for one in measured for metric in one.metrics if metric.censored)
    if censored:
        said.append(f"without a mean, since they may not be reached: {', '.join(censored)}")
    costs = [
        effect.cost
        for part in parts
        for effects in part.effects.values()
        for effect in effects
        if effect.cost
    ]
    if any(cost.seconds.pairs < cost.pairs for cost in costs):
        said.append(
            "costs compare within one run on one machine alone: other pairs are left out, and where none "
            "remains a cost is not comparable"
        )
    if any(record.together > 1 for one in measured for record in one.cells.values()):
        said.append(
            "some cells learned together and share their seconds equally: such a cost is not a component's "
            "own (--no-together)"
        )
    return said


__all__ = ["Cost", "Effect", "Failure", "Part", "Report", "Verdict", "report"]
