"""Sensitivity: everything a sweep says, by scenario and by metric, from its definition and the records of its
cells.

Settings of a strategy are compared within one protocol. Where a scenario's parameters vary, every value is a
protocol of its own: a further part has the figure against these parameters, which is a curve and never a
ranking.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness import statistics
from harness.statistics import Better, Interval
from harness.studies.sweep.best import Best, best_of, ranked
from harness.studies.sweep.curves import LEVEL, Effect, Heat, Held, Scatter, effects, heat, scatters
from harness.studies.sweep.definition import Definition, Dimension, Family, Figure
from harness.studies.sweep.measured import Point, SweepTable

if TYPE_CHECKING:
    from harness.store.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A setting on a scenario: its figure over the seeds that have one, and mean seconds a cell of the run
    that most cells are of.

    compares: False where it has cells, but none of that run; `seconds` is then NaN.
    """

    setting: str
    scenario: str
    values: Mapping[str, Any]
    figure: Interval
    seconds: float
    compares: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A part in one metric; `factor` is 100 where it is a share to be shown in per cent.

    effects: of listed dimensions, in a grid.  scatters: in a random sweep.  best: None over several
    protocols.
    rows: every setting, best mean first, those that lack seeds last; over several protocols in the order of
    the sweep.
    lower, upper: the bounds, None where they were not run.
    """

    metric: str
    better: Better
    factor: float
    effects: tuple[Effect, ...]
    scatters: tuple[Scatter, ...]
    heat: Heat | None
    best: Best | None
    rows: tuple[Row, ...]
    lower: Interval | None
    upper: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The settings of a strategy on one scenario, or one metric against parameters of scenarios; views by
    metric, the leading one first.

    protocol: the hash, empty over several.  logarithmic: the dimensions drawn so.  held_by: the strategy's
    setting that the second curve over scenarios keeps.
    """

    kind: Literal["settings", "scenarios"]
    label: str
    protocol: str
    dimensions: tuple[str, ...]
    defaults: Mapping[str, Any]
    logarithmic: tuple[str, ...]
    held_by: str
    views: tuple[View, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A cell without a figure, and why."""

    scenario: str
    setting: str
    seed: int
    status: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything a sweep says."""

    title: str
    seeds: int
    drawn: int | None
    parts: tuple[Part, ...]
    failures: tuple[Failure, ...]


def report_of(definition: Mapping[str, Any], records: Sequence[Record]) -> Report:
    """Return what a sweep says.

    Args:
        definition: made by `definition_of`.
        records: of its cells, block by block, each in the order of `protocol.cells`.
    """
    checked = Definition.model_validate(definition)
    table = SweepTable(checked, records)
    parts: list[Part] = []
    for family in checked.families:
        if checked.dimensions and not checked.is_joint(family):
            known = {part.label for part in parts}
            parts += [
                _settings(table, family, place.label) for place in family.places if place.label not in known
            ]
        if family.dimensions:
            parts.append(_scenarios(table, family))
    return Report(
        title=checked.title,
        seeds=checked.seeds,
        drawn=checked.drawn,
        parts=tuple(parts),
        failures=tuple(_failures(table)),
    )


def _settings(table: SweepTable, family: Family, scenario: str) -> Part:
    """Return how the figures on one scenario depend on the strategy's parameters."""
    definition = table.definition
    is_grid = definition.drawn is None
    held = _held(table, family, [scenario])[0] if is_grid and len(definition.dimensions) > 1 else None
    views = []
    for metric in definition.scenario(scenario).metrics:
        points = [
            _only(point, definition.dimensions)
            for point in table.points(scenario, metric.name, family=family)
        ]
        swept = [point for point in points if point.setting.is_swept]
        views.append(
            _view(
                table,
                metric,
                [scenario],
                effects=effects(swept, definition.dimensions, held=held) if is_grid else (),
                scatters=() if is_grid else scatters(swept, definition.dimensions),
                heat=heat(swept, definition.dimensions),
                best=best_of(points, better=metric.better),
                rows=_ranked(table, points, metric),
            )
        )
    return _part("settings", scenario, definition.dimensions, views, protocol=table.protocol(scenario))


def _scenarios(table: SweepTable, family: Family) -> Part:
    """Return how the figures depend on the scenario's parameters: in a grid on these alone, else on all that
    was drawn.
    """
    definition = table.definition
    is_grid = definition.drawn is None
    every = (*definition.dimensions, *family.dimensions)
    labels = [place.label for place in family.places]
    held, held_by = _held(table, family, labels) if is_grid and definition.dimensions else (None, "")
    views = []
    for metric in _common(table, labels):
        points = [
            _only(point, every)
            for label in labels
            for point in table.points(label, metric.name, family=family)
            if point.setting.is_swept
        ]
        views.append(
            _view(
                table,
                metric,
                labels,
                effects=effects(points, family.dimensions, held=held) if is_grid else (),
                scatters=()
                if is_grid
                else scatters(points, every if definition.is_joint(family) else family.dimensions),
                heat=heat(points, every) if is_grid else None,
                best=None,
                rows=tuple(_row(table, point) for point in points),
            )
        )
    dimensions = every if definition.is_joint(family) else family.dimensions
    return _part("scenarios", family.text, dimensions, views, held_by=held_by)


def _view(table: SweepTable, metric: Figure, scenarios: Sequence[str], **found: Any) -> View:
    def bound(side: Literal["lower", "upper"]) -> Interval | None:
        labels = {getattr(table.definition.scenario(scenario), side) for scenario in scenarios}
        if len(scenarios) > 1 or labels == {""}:
            return None
        return statistics.t_interval(table.figures(scenarios[0], labels.pop(), metric.name), level=LEVEL)

    return View(
        metric=metric.name,
        better=metric.better,
        factor=table.factor(scenarios, metric.name),
        lower=bound("lower"),
        upper=bound("upper"),
        **found,
    )


def _held(table: SweepTable, family: Family, scenarios: Sequence[str]) -> tuple[Held | None, str]:
    """Return the values of the swept setting that is best in the leading metric, the mean over the scenarios,
    and its label.
    """
    metric = _common(table, scenarios)[0]
    values, series = {}, {}
    for setting in (setting for setting in table.definition.settings if setting.is_swept):
        figures = np.mean(
            [table.figures(scenario, setting.label, metric.name) for scenario in scenarios], axis=0
        )
        if np.isfinite(figures).all():
            values[setting.label], series[setting.label] = setting.values, figures
    order = ranked(series, better=metric.better)
    return (values[order[0]], order[0]) if order else (None, "")


def _common(table: SweepTable, scenarios: Sequence[str]) -> list[Figure]:
    """Return the metrics that all scenarios have, in the order of the first."""
    first, *others = (table.definition.scenario(scenario).metrics for scenario in scenarios)
    return [metric for metric in first if all(metric in own for own in others)]


def _only(point: Point, dimensions: Sequence[Dimension]) -> Point:
    """Return the point with its values in these dimensions alone."""
    return point._replace(values={one.key: point.values[one.key] for one in dimensions})


def _ranked(table: SweepTable, points: Sequence[Point], metric: Figure) -> tuple[Row, ...]:
    by_label = {point.setting.label: point for point in points}
    whole = {label: point.figures for label, point in by_label.items() if np.isfinite(point.figures).all()}
    order = [*ranked(whole, better=metric.better), *(label for label in by_label if label not in whole)]
    return tuple(_row(table, by_label[label]) for label in order)


def _row(table: SweepTable, point: Point) -> Row:
    where = (point.scenario, point.setting.label)
    seconds = table.seconds(*where)
    return Row(
        setting=point.setting.label,
        scenario=point.scenario,
        values=point.values,
        figure=statistics.t_interval(point.figures, level=LEVEL),
        seconds=float(np.mean(seconds[np.isfinite(seconds)])) if np.isfinite(seconds).any() else math.nan,
        compares=bool(
            np.isfinite(seconds).any() or not np.isfinite(table.seconds(*where, anywhere=True)).any()
        ),
    )


def _part(
    kind: Literal["settings", "scenarios"],
    label: str,
    dimensions: Sequence[Dimension],
    views: Sequence[View],
    *,
    protocol: str = "",
    held_by: str = "",
) -> Part:
    return Part(
        kind=kind,
        label=label,
        protocol=protocol,
        dimensions=tuple(one.key for one in dimensions),
        defaults={one.key: one.default for one in dimensions},
        logarithmic=tuple(one.key for one in dimensions if one.log),
        held_by=held_by,
        views=tuple(views),
    )


def _failures(table: SweepTable) -> list[Failure]:
    found = []
    for (scenario, seed, strategy), record in table.cells.items():
        leading = table.definition.scenario(scenario).metrics[0].name
        if not math.isfinite(table.figures(scenario, strategy, leading)[seed]):
            reason = record.reason or f"no figure for {leading}"
            found.append(
                Failure(
                    scenario=scenario, setting=strategy, seed=seed, status=str(record.status), reason=reason
                )
            )
    return found


__all__ = ["Failure", "Part", "Report", "Row", "View", "report_of"]
