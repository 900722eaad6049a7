"""What happened on the way, scored once more from the stored predictions: figures after every stage, probes
in it, matrices.

Seeds are put together moment by moment: the mean with Student's interval (`harness.statistics.t_interval`)
over the seeds that have the moment. Matrices are averaged entry by entry.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Axes, Scenario, Scores, StoredPrediction
from harness.statistics import Interval, t_interval
from leaderboards.publishing.rescore import eval_set_of

Moment = tuple[int, int]
"""Stage and gradient step in it."""


class Sitting(NamedTuple):
    """One finished cell and how to read its answers."""

    strategy: str
    seed: int
    read: Callable[[], Sequence[StoredPrediction]]


class Curve(NamedTuple):
    """Mean and interval over seeds at every place of `x`."""

    x: list[float]
    intervals: list[Interval]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """By name of the figure, then by strategy. stages: x counts stages from 1.  probes: x counts steps,
    stages one after another.

    matrices: mean over seeds, NaN where no seed has an entry.  axes: what stands on them, where the scenario
    says it.
    """

    stages: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)
    probes: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)
    matrices: Mapping[str, Mapping[str, NDArray[np.float64]]] = field(default_factory=dict)
    axes: Mapping[str, Axes] = field(default_factory=dict)


def curves_of(scenario: Scenario, sittings: Sequence[Sitting]) -> tuple[Curves, str]:
    """Score every sitting; return the curves, and a sentence on what could not be scored (empty where all
    could).

    One deal at a time is held. The predictions may come from a stranger: whatever scoring makes of them costs
    only their own curve.
    """
    scored: dict[str, list[Scores]] = {}
    lost: list[str] = []
    for seed in sorted({sitting.seed for sitting in sittings}):
        try:
            eval_set = eval_set_of(scenario, seed)
        except Exception as error:  # data that are not installed
            return (
                Curves(),
                f"Curves are left out: seed {seed} cannot be dealt here ({type(error).__name__}: {error}).",
            )
        for sitting in sittings:
            if sitting.seed == seed:
                try:
                    scores = scenario.score(eval_set.truth, list(sitting.read()))
                except Exception as error:
                    lost.append(f"{sitting.strategy} seed {seed} ({type(error).__name__}: {error})")
                else:
                    kept = Scores(
                        final={},
                        per_stage=scores.per_stage,
                        probes=scores.probes,
                        matrices=scores.matrices,
                        axes=scores.axes,
                    )
                    scored.setdefault(sitting.strategy, []).append(kept)
    curves = Curves(
        stages=_by_name(
            scored, lambda scores: {name: _stage_curve(scores, name) for name in _multi_stage(scores)}
        ),
        probes=_by_name(
            scored,
            lambda scores: {
                name: _probe_curve(scores, name) for name in _names([own.probes for own in scores])
            },
        ),
        matrices=_matrices(scored),
        axes={name: axes for own in scored.values() for scores in own for name, axes in scores.axes.items()},
    )
    return (
        curves,
        f"Without curves, because their predictions could not be scored: {'; '.join(lost)}." if lost else "",
    )


def _by_name(
    scored: Mapping[str, Sequence[Scores]], make: Callable[[Sequence[Scores]], Mapping[str, Curve]]
) -> dict[str, dict[str, Curve]]:
    found: dict[str, dict[str, Curve]] = {}
    for strategy, scores in scored.items():
        for name, curve in make(scores).items():
            if curve.x and any(math.isfinite(interval.mean) for interval in curve.intervals):
                found.setdefault(name, {})[strategy] = curve
    return found


def _names(mappings: Sequence[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _multi_stage(scores: Sequence[Scores]) -> list[str]:
    """A figure after the only stage is the final one, and no curve."""
    return [
        name
        for name in _names([own.per_stage for own in scores])
        if max(len(own.per_stage.get(name, ())) for own in scores) > 1
    ]


def _stage_curve(scores: Sequence[Scores], name: str) -> Curve:
    series = [own.per_stage.get(name, ()) for own in scores]
    stages = range(max(map(len, series)))
    intervals = [t_interval([values[stage] for values in series if len(values) > stage]) for stage in stages]
    return Curve([float(stage + 1) for stage in stages], intervals)


def _probe_curve(scores: Sequence[Scores], name: str) -> Curve:
    values: dict[Moment, list[float]] = {}
    for own in scores:
        for stage, step, value in own.probes.get(name, ()):
            values.setdefault((stage, step), []).append(value)
    if len(values) < 2:
        return Curve([], [])
    longest = max(step for _, step in values)
    moments = sorted(values)
    return Curve(
        [float(stage * longest + step) for stage, step in moments],
        [t_interval(values[moment]) for moment in moments],
    )


def _matrices(scored: Mapping[str, Sequence[Scores]]) -> dict[str, dict[str, NDArray[np.float64]]]:
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for strategy, scores in scored.items():
        for name in _names([own.matrices for own in scores]):
            own = [np.asarray(each.matrices[name], dtype=float) for each in scores if name in each.matrices]
            if (
                own[0].ndim == 2
                and min(own[0].shape) > 1
                and all(matrix.shape == own[0].shape for matrix in own)
            ):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", RuntimeWarning)  # an entry that no seed has stays NaN
                    found.setdefault(name, {})[strategy] = np.nanmean(np.stack(own), axis=0)
    return found


__all__ = ["Curve", "Curves", "Sitting", "curves_of"]
