"""From spaces to a definition: which settings run on which scenarios.

A grid takes every combination. Random settings are drawn from streams named after the space, strategy and
scenario row by row, so that a larger sweep contains the smaller one. The strategy with every dimension at its
default is added to what is compared, and so are the bounds.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness import seeds as streams
from harness.errors import UserError
from harness.parameters import with_new_names
from harness.plugins import find
from harness.selection import Selection, configured, resolved, single
from harness.studies import space as spaces
from harness.studies.space import Choice, Range, Space
from harness.studies.sweep.definition import (
    Block,
    Dealt,
    Definition,
    Dimension,
    Family,
    Place,
    Setting,
    figures_of,
)

MOST_SETTINGS = 256
"""How many settings a grid may have unless the user allows more."""

Pair = tuple[Selection, Selection]
"""A strategy's setting and a scenario's."""


def definition_of(
    strategy: Space,
    scenarios: Sequence[Space],
    *,
    seeds: int,
    drawn: int | None = None,
    sample_seed: int = 0,
    bounds: bool = True,
    most: int = MOST_SETTINGS,
    metrics: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what a sweep asks, JSON-ready.

    Args:
        strategy: its space.
        scenarios: the space of every scenario.
        seeds: how many, from 0.
        drawn: how many settings to draw for every scenario space; None for the grid.
        sample_seed: what is drawn.
        bounds: whether the scenarios' bound strategies run too.
        most: how many settings a grid may have.
        metrics: which ones, the leading one first; all that have a mean by default.

    Raises:
        UserError: nothing varies, a grid through a range or that is too large, fewer settings than asked for,
        or no such metric.
    """
    if not strategy.dimensions and not any(one.dimensions for one in scenarios):
        raise UserError(
            f"nothing varies in {strategy}: give a parameter several values, "
            f"{strategy.name}[param=[value,value]], or a range"
        )
    labels, dealt = _Labels("strategy"), _Labels("scenario")
    rows = _pairs(strategy, scenarios, drawn, sample_seed, most)
    families = tuple(_family(space, pairs, dealt) for space, pairs in rows)
    settings = _settings(strategy, [setting for _, pairs in rows for setting, _ in pairs], labels)
    runs: dict[str, dict[str, None]] = {
        place.label: {} for family in families for place in family.places
    }  # strategies in order
    described = {label: _dealt(label, labels if bounds else None, metrics) for label in runs}
    for family, (space, pairs) in zip(families, rows, strict=True):
        _check_common(family, described)
        for setting, scenario in pairs:
            runs[dealt.of(scenario)][labels.of(setting)] = None
        if drawn is None or not (strategy.dimensions and space.dimensions):
            for place in family.places:
                runs[place.label][labels.of(strategy.default)] = None
    for label, one in described.items():
        runs[label] |= {bound: None for bound in (one.lower, one.upper) if bound}
    there = {label for strategies in runs.values() for label in strategies}
    return Definition(
        space=str(strategy),
        dimensions=_dimensions(strategy),
        settings=tuple(setting for setting in settings if setting.label in there),
        families=families,
        scenarios=tuple(described.values()),
        blocks=_blocks(runs),
        seeds=seeds,
        drawn=drawn,
        sample_seed=sample_seed,
        metrics=tuple(metrics),
    ).model_dump(mode="json")


def _pairs(
    strategy: Space, scenarios: Sequence[Space], drawn: int | None, sample_seed: int, most: int
) -> list[tuple[Space, list[Pair]]]:
    if drawn is None:
        _check_size(strategy, scenarios, most)
        settings = strategy.grid()
        return [(space, list(itertools.product(settings, space.grid()))) for space in scenarios]
    rows = []
    for space in scenarios:
        rngs = [
            streams.stream("sweep", seed=sample_seed, of=one.kind, space=str(one))
            for one in (strategy, space)
        ]
        rows.append(
            (space, [(setting, scenario) for setting, scenario in _drawn(strategy, space, drawn, rngs)])
        )
    return rows


def _drawn(strategy: Space, scenario: Space, n: int, rngs: Sequence[Any]) -> list[tuple[Selection, ...]]:
    if not strategy.dimensions and not scenario.dimensions:
        return [(strategy.default, scenario.default)]  # beside scenarios that vary, one that does not
    return spaces.sample_together([strategy, scenario], n, rngs)


def _check_size(strategy: Space, scenarios: Sequence[Space], most: int) -> None:
    """Refuse a grid that is too large before it is made; one through a range is told of by `Space.grid`."""
    sizes = [
        one.size
        for one in (strategy, *scenarios)
        if not any(isinstance(dimension, Range) for dimension in one.dimensions)
    ]
    if len(sizes) < 1 + len(scenarios):
        return
    counts = [size for size in sizes if size is not None]
    count = counts[0] * sum(counts[1:])
    if count > most:
        raise UserError(
            f"a grid of {count:,} settings is more than {most}: list fewer values, or draw some of them by "
            f"--random {min(64, most)}, or "
            f"allow them by --most {count}"
        )


class _Labels:
    """The label under which a selection was first seen; selections that mean the same have one label."""

    def __init__(self, kind: spaces.Kind) -> None:
        self.kind = kind
        self.known: dict[str, str] = {}

    def of(self, selection: Selection) -> str:
        plugin = find(self.kind, selection.name)
        meaning = json.dumps([plugin.name, resolved(plugin, selection)], sort_keys=True, default=str)
        return self.known.setdefault(meaning, str(selection))


def _settings(space: Space, swept: Sequence[Selection], labels: _Labels) -> list[Setting]:
    """Return the settings swept, then the default where it is not among them."""
    found: dict[str, dict[str, Any]] = {}
    for one in swept:
        found.setdefault(labels.of(one), _values(space, one))
    default = labels.of(space.default)
    settings = [
        Setting(label=label, values=values, is_default=label == default) for label, values in found.items()
    ]
    if default in found:
        return settings
    return [
        *settings,
        Setting(label=default, values=_values(space, space.default), is_swept=False, is_default=True),
    ]


def _family(space: Space, pairs: Sequence[Pair], labels: _Labels) -> Family:
    values = {labels.of(scenario): _values(space, scenario) for _, scenario in pairs}
    places = tuple(Place(label=label, values=own) for label, own in values.items())
    return Family(text=str(space), dimensions=_dimensions(space), places=places)


def _values(space: Space, selection: Selection) -> dict[str, Any]:
    """Return the value of every dimension by key, also where the selection leaves it at its default."""
    plugin = find(space.kind, space.name)
    full = {**resolved(plugin, selection), **with_new_names(plugin.cls, selection.params)}
    return {_key(space, dimension.name): full.get(dimension.name) for dimension in space.dimensions}


def _dealt(label: str, labels: _Labels | None, metrics: Sequence[str]) -> Dealt:
    scenario = configured("scenario", label)
    names = (scenario.lower_bound, scenario.upper_bound) if labels else ("", "")
    lower, upper = (labels.of(single(name)) if labels and name else "" for name in names)
    return Dealt(label=label, metrics=figures_of(scenario.metrics, metrics, label), lower=lower, upper=upper)


def _check_common(family: Family, described: Mapping[str, Dealt]) -> None:
    """Refuse scenarios that have no metric in common, of which there would be no curve."""
    own = [set(described[place.label].metrics) for place in family.places]
    if not set.intersection(*own):
        raise UserError(
            f"the scenarios of {family.text} have no metric in common: give them by a --scenario each"
        )


def _dimensions(space: Space) -> tuple[Dimension, ...]:
    defaults: Mapping[str, Any] = _values(space, space.default)
    found = []
    for one in space.dimensions:
        key = _key(space, one.name)
        if isinstance(one, Choice):
            found.append(Dimension(key=key, values=one.values, default=defaults[key]))
        else:
            found.append(Dimension(key=key, low=one.low, high=one.high, log=one.log, default=defaults[key]))
    return tuple(found)


def _key(space: Space, name: str) -> str:
    return f"scenario.{name}" if space.kind == "scenario" else name


def _blocks(runs: Mapping[str, Mapping[str, None]]) -> tuple[Block, ...]:
    """Return the scenarios that have the same strategies together."""
    together: dict[tuple[str, ...], list[str]] = {}
    for scenario, strategies in runs.items():
        together.setdefault(tuple(strategies), []).append(scenario)
    return tuple(Block(scenarios=tuple(own), strategies=strategies) for strategies, own in together.items())


__all__ = ["MOST_SETTINGS", "definition_of"]
