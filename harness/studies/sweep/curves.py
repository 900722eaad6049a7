"""A figure against one parameter: with the others at their best setting, or averaged over them; how far it
moves; heat maps; scatters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from harness import statistics
from harness.statistics import Interval
from harness.statistics.series import Floats
from harness.studies.sweep.definition import Dimension
from harness.studies.sweep.dependence import moves, spearman
from harness.studies.sweep.measured import Point

LEVEL = 0.95
Verdict = Literal["moves it", "changes nothing", "cannot decide"]
Trend = Literal["rises with it", "falls with it", "cannot decide"]
Held = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Means with Student intervals over seeds, one for every value; NaN where none has a figure.

    held: what the others are held at; empty where they are averaged over.  settings: how many combinations of
    the others are in every mean.
    """

    held: Held
    values: tuple[Any, ...]
    intervals: tuple[Interval, ...]
    settings: int


class Move(NamedTuple):
    """How far a curve goes: from its lowest mean, at `low_at`, to its highest, at `high_at`.

    p: of `moves`.  p_holm: corrected over the dimensions.  seeds: how many are behind it.
    """

    size: float
    low: float
    high: float
    low_at: Any
    high_at: Any
    p: float
    p_holm: float
    seeds: int

    @property
    def verdict(self) -> Verdict:
        """What these seeds say."""
        if self.size == 0.0 and self.p_holm == 1.0:
            return "changes nothing"
        return "moves it" if self.p_holm <= 1 - LEVEL else "cannot decide"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a listed dimension does: with the others averaged over (its main effect), and with the others at
    their best.

    Where the two differ, the parameters work together. best, best_move: None where there are no others to
    hold.
    """

    dimension: str
    curve: Curve
    move: Move
    best: Curve | None
    best_move: Move | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """A figure of every drawn setting, its mean over seeds, against one dimension.

    rho, p, p_holm: Spearman's, NaN where the values are no numbers.  levels: the mean over the settings that
    have a value, where values were listed, with its interval over settings.
    """

    dimension: str
    values: tuple[Any, ...]
    figures: tuple[float, ...]
    rho: float
    p: float
    p_holm: float
    levels: Mapping[str, Interval]

    @property
    def verdict(self) -> Trend:
        """What these settings say."""
        if not self.p_holm <= 1 - LEVEL:
            return "cannot decide"
        return "rises with it" if self.rho > 0 else "falls with it"


class Heat(NamedTuple):
    """The mean over seeds of every combination of two dimensions, NaN where no seed has a figure; lacking:
    seeds without one.
    """

    down: str
    across: str
    down_values: tuple[Any, ...]
    across_values: tuple[Any, ...]
    means: tuple[tuple[float, ...], ...]
    lacking: tuple[tuple[int, ...], ...]


def effects(
    points: Sequence[Point], dimensions: Sequence[Dimension], *, held: Held | None
) -> tuple[Effect, ...]:
    """Return what each dimension does; `held` is what the others have in the second curve, None where there
    is none.
    """
    averaged = _moved(points, dimensions, {})
    at_best = _moved(points, dimensions, held) if held is not None else [(None, None)] * len(dimensions)
    return tuple(
        Effect(dimension=dimension.key, curve=curve, move=move, best=best, best_move=best_move)
        for dimension, (curve, move), (best, best_move) in zip(dimensions, averaged, at_best, strict=True)
    )


def scatters(points: Sequence[Point], dimensions: Sequence[Dimension]) -> tuple[Scatter, ...]:
    """Return every dimension's scatter over the settings that have a figure under every seed."""
    kept = [point for point in points if np.isfinite(point.figures).all()]
    means = [float(point.figures.mean()) for point in kept]
    against = {one.key: tuple(point.values[one.key] for point in kept) for one in dimensions}
    raw = [spearman(values, means) if all(map(_is_number, values)) else None for values in against.values()]
    corrected = statistics.holm([one.p if one else math.nan for one in raw])
    return tuple(
        Scatter(
            dimension=dimension.key,
            values=against[dimension.key],
            figures=tuple(means),
            rho=one.rho if one else math.nan,
            p=one.p if one else math.nan,
            p_holm=float(p),
            levels={
                str(level): statistics.t_interval(
                    [y for x, y in zip(against[dimension.key], means, strict=True) if x == level]
                )
                for level in dimension.values
            },
        )
        for dimension, one, p in zip(dimensions, raw, corrected, strict=True)
    )


def heat(points: Sequence[Point], dimensions: Sequence[Dimension]) -> Heat | None:
    """Return the map where there are two listed dimensions, else None."""
    if len(dimensions) != 2 or not all(dimension.values for dimension in dimensions):
        return None
    down, across = dimensions
    by_place = {(point.values[down.key], point.values[across.key]): point.figures for point in points}
    rows = [[by_place.get((a, b), np.zeros(0)) for b in across.values] for a in down.values]
    return Heat(
        down.key,
        across.key,
        down.values,
        across.values,
        tuple(tuple(statistics.t_interval(figures).mean for figures in row) for row in rows),
        tuple(tuple(int(np.count_nonzero(~np.isfinite(figures))) for figures in row) for row in rows),
    )


def _averaged(points: Sequence[Point], dimension: Dimension) -> tuple[Floats, int]:
    """Return the mean over the settings of the others, float64 (values, seeds), and how many settings are in
    it under any seed.

    Under a seed, only settings of the others count that have a figure at every value (but those without any
    figure), so that no value is compared over other settings than the next one.
    """
    others = list(dict.fromkeys(_others(point, dimension) for point in points))
    figures = np.full((len(dimension.values), len(others), len(points[0].figures)), math.nan)
    for point in points:
        figures[
            dimension.values.index(point.values[dimension.key]), others.index(_others(point, dimension))
        ] = point.figures
    alive = np.isfinite(figures).any(axis=(1, 2))
    whole = np.isfinite(figures[alive]).all(axis=0)  # (others, seeds)
    counts = whole.sum(axis=0)
    sums = np.where(whole, figures, 0.0).sum(axis=1)
    means = np.divide(sums, counts, out=np.full_like(sums, math.nan), where=(counts > 0) & alive[:, None])
    return means, int(whole.any(axis=1).sum()) if alive.any() else 0


def _moved(points: Sequence[Point], dimensions: Sequence[Dimension], held: Held) -> list[tuple[Curve, Move]]:
    """Return every dimension's curve where the others have the values in `held`, those it does not name
    averaged over; p corrected.
    """
    series, curves = [], []
    for dimension in dimensions:
        others = {key: value for key, value in held.items() if key != dimension.key}
        kept = [point for point in points if all(point.values[key] == value for key, value in others.items())]
        means, settings = _averaged(kept, dimension)
        intervals = tuple(statistics.t_interval(own, level=LEVEL) for own in means)
        series.append(means)
        curves.append(Curve(held=others, values=dimension.values, intervals=intervals, settings=settings))
    raw = [moves(means[np.isfinite(means).any(axis=1)]) for means in series]
    return [
        (curve, _move(curve, p, float(corrected)))
        for curve, p, corrected in zip(curves, raw, statistics.holm(raw), strict=True)
    ]


def _move(curve: Curve, p: float, p_holm: float) -> Move:
    means = np.array([interval.mean for interval in curve.intervals])
    if not np.isfinite(means).any():
        return Move(math.nan, math.nan, math.nan, None, None, p, p_holm, 0)
    low, high = int(np.nanargmin(means)), int(np.nanargmax(means))
    seeds = max(interval.n for interval in curve.intervals)
    return Move(
        float(means[high] - means[low]),
        float(means[low]),
        float(means[high]),
        curve.values[low],
        curve.values[high],
        p,
        p_holm,
        seeds,
    )


def _others(point: Point, dimension: Dimension) -> tuple[tuple[str, Any], ...]:
    return tuple((key, value) for key, value in point.values.items() if key != dimension.key)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


__all__ = [
    "LEVEL",
    "Curve",
    "Effect",
    "Heat",
    "Move",
    "Scatter",
    "Trend",
    "Verdict",
    "effects",
    "heat",
    "scatters",
]
