"""Spaces of settings: a selection in which parameters have several values, listed or given by a range.

    lr=0.1               fixed
    lr=[0.01,0.1]        a list of choices
    lr=1e-4..1e-1        a range, uniform; whole numbers where the parameter is one
    lr=log:1e-4..1e-1    a range, uniform in the logarithm

A setting is a selection like any other, so that its cells are those of `owb run`. What is drawn from a range
has four significant digits, or a selection could not say it. Settings are drawn one after another: more of
them begin with those that fewer were.

>>> space = read_space("strategy", "replay[memory=[50,200],lr=log:0.01..1]")
>>> space.dimensions[0].values, space.dimensions[1].log, str(space.selection({"memory": 50, "lr": 0.123456}))
((50, 200), True, 'replay[memory=50,lr=0.1235]')
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from harness.errors import UserError, unknown
from harness.parameters import former_names, kinds_of, model_of
from harness.plugins import Plugin, find
from harness.selection import Selection, as_declared, expand, resolved, split_outside

DIGITS = 4
"""Significant digits of what is drawn from a range."""

Kind = Literal["strategy", "scenario"]

_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"\s*(?P<log>log:)?\s*(?P<low>{_NUMBER})\s*\.\.\s*(?P<high>{_NUMBER})\s*")
_TRIES_PER_SETTING = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A parameter and the values it may take, in the order said, two at least."""

    name: str
    values: tuple[Any, ...]

    @property
    def size(self) -> int:
        """How many values it has."""
        return len(self.values)

    @property
    def ends(self) -> tuple[Any, ...]:
        """Every value."""
        return self.values

    def nearest(self, value: Any) -> Any:
        """Return `value`, which must be one of the choices."""
        if value not in self.values:
            raise unknown(
                f"choice of {self.name}", _said(value), [_said(one) for one in self.values], str(self)
            )
        return self.values[self.values.index(value)]

    def draw(self, rng: np.random.Generator) -> Any:
        """Return one of the values, all equally likely."""
        return self.values[int(rng.integers(len(self.values)))]

    def __str__(self) -> str:
        return f"{self.name}=[{','.join(map(_said, self.values))}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A parameter and the bounds between which it lies, both included; whole: it takes whole numbers; log:
    even in the logarithm.
    """

    name: str
    low: float
    high: float
    log: bool
    whole: bool

    @property
    def size(self) -> int | None:
        """How many values it has; None where it is not whole."""
        return int(self.high) - int(self.low) + 1 if self.whole else None

    @property
    def ends(self) -> tuple[float, float]:
        """Both bounds."""
        return (self.nearest(self.low), self.nearest(self.high))

    def nearest(self, value: Any) -> Any:
        """Return the value that a selection can say next to `value`, within the bounds."""
        if self.whole:
            return int(min(max(round(float(value)), self.low), self.high))
        return float(min(max(float(f"{float(value):.{DIGITS}g}"), self.low), self.high))

    def draw(self, rng: np.random.Generator) -> Any:
        """Return a value; each whole number of a uniform range is equally likely."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        return self.nearest(
            math.exp(rng.uniform(math.log(low), math.log(high))) if self.log else rng.uniform(low, high)
        )

    def __str__(self) -> str:
        low, high = map(_said, (int(self.low), int(self.high)) if self.whole else (self.low, self.high))
        return f"{self.name}={'log:' if self.log else ''}{low}..{high}"


Dimension = Choice | Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What a plugin's parameters may be. Made by `read_space`.

    fixed: parameters said with one value, `preset` among them.  dimensions: those with several, in the order
    said.
    """

    kind: Kind
    name: str
    fixed: Mapping[str, Any]
    dimensions: tuple[Dimension, ...]

    @property
    def size(self) -> int | None:
        """How many settings there are; None where a range has no end of values."""
        sizes = [dimension.size for dimension in self.dimensions]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    @property
    def default(self) -> Selection:
        """The plugin with what is fixed, every dimension at the plugin's own default."""
        return self.selection({})

    def selection(self, values: Mapping[str, Any]) -> Selection:
        """Return the setting that has `values`; numbers within a range are rounded to what a selection can
        say.

        Raises:
            UserError: no such dimension, a value that is not a choice or that the plugin refuses, or one that
            a selection cannot say.
        """
        known = {dimension.name: dimension for dimension in self.dimensions}
        for name in values:
            if name not in known:
                raise unknown(f"dimension of {self.name}", name, known, ", ".join(known) or "none")
        said = {name: dimension.nearest(values[name]) for name, dimension in known.items() if name in values}
        return _checked(find(self.kind, self.name), Selection(self.name, {**self.fixed, **said}))

    def grid(self) -> list[Selection]:
        """Return every combination of the choices.

        Raises:
            UserError: a dimension is a range, or a combination that the plugin refuses.
        """
        for dimension in self.dimensions:
            if isinstance(dimension, Range):
                low, high = dimension.ends
                raise UserError(
                    f"{dimension} is a range, which a grid cannot go through: list values, "
                    f"{dimension.name}=[{_said(low)},{_said(high)}], "
                    "or draw settings by --random N"
                )
        choices = [dimension.ends for dimension in self.dimensions]
        names = [dimension.name for dimension in self.dimensions]
        return [
            self.selection(dict(zip(names, values, strict=True))) for values in itertools.product(*choices)
        ]

    def draw(self, rng: np.random.Generator) -> Selection:
        """Return one setting, every dimension drawn by itself, in order."""
        return self.selection({dimension.name: dimension.draw(rng) for dimension in self.dimensions})

    def sample(self, n: int, rng: np.random.Generator) -> list[Selection]:
        """Return n settings that differ, drawn one after another: a longer sample from an equal stream begins
        with the shorter one.

        Raises:
            UserError: there are fewer, or a combination that the plugin refuses.
        """
        return [setting for (setting,) in sample_together([self], n, [rng])]

    def __str__(self) -> str:
        said = [f"{name}={_said(value)}" for name, value in self.fixed.items()] + [
            str(dimension) for dimension in self.dimensions
        ]
        return f"{self.name}[{','.join(said)}]" if said else self.name


def sample_together(
    spaces: Sequence[Space], n: int, rngs: Sequence[np.random.Generator]
) -> list[tuple[Selection, ...]]:
    """Return n rows that differ, a setting of every space in each, drawn one after another from the stream of
    that space.

    Raises:
        UserError: there are fewer, or a combination that a plugin refuses.
    """
    sizes = [space.size for space in spaces]
    where = " with ".join(map(str, spaces))
    check_enough(n, None if None in sizes else math.prod(size for size in sizes if size is not None), where)
    found: dict[tuple[str, ...], tuple[Selection, ...]] = {}
    for _ in range(_TRIES_PER_SETTING * n):
        if len(found) == n:
            break
        row = tuple(space.draw(rng) for space, rng in zip(spaces, rngs, strict=True))
        found.setdefault(tuple(map(str, row)), row)
    check_enough(n, len(found), where)
    return list(found.values())


def check_enough(wanted: int, there: int | None, where: str) -> None:
    """Raise `UserError` where fewer settings are there than wanted; None stands for no end of them."""
    if there is not None and there < wanted:
        raise UserError(
            f"{wanted} settings that differ were asked for, and {where} has {there}: ask for at most {there}"
        )


def read_space(kind: Kind, text: str) -> Space:
    """Read a selection whose parameters may be lists or ranges.

    Raises:
        UserError: no such plugin or parameter, text that is no selection, a range of what is no number or
            whose bounds are not in order, or a bound or choice that the parameter refuses.
    """
    name, bracket, rest = text.strip().partition("[")
    if bracket and (not name or not rest.endswith("]")):
        raise UserError(
            f"cannot read {text!r}: expected name[param=value,other=[value,value],third=low..high]"
        )
    plugin = find(kind, name)
    fixed: dict[str, Any] = {}
    dimensions: list[Dimension] = []
    for part in split_outside(rest[:-1], ","):
        said = [as_declared(plugin, one) for one in expand(f"{name}[{part}]")]
        named = part.partition("=")[0].strip()
        parameter = former_names(plugin.cls).get(named, named)
        if parameter in fixed or any(parameter == dimension.name for dimension in dimensions):
            raise UserError(f"{parameter!r} is said twice in {text!r}")
        found = _range(plugin, parameter, part.partition("=")[2]) or _choices(
            plugin, parameter, [one.params[named] for one in said]
        )
        if isinstance(found, Choice) and found.size == 1:
            fixed[parameter] = found.values[0]
        else:
            dimensions.append(found)
    space = Space(kind=kind, name=name, fixed=fixed, dimensions=tuple(dimensions))
    _check_values(plugin, space)
    return space


def _range(plugin: Plugin, parameter: str, text: str) -> Range | None:
    """Return the range that `text` is, None where it is none."""
    found = _RANGE.fullmatch(text)
    number = _number_of(plugin, parameter)
    if found is None:
        if number and (".." in text or "log:" in text):
            raise UserError(
                f"cannot read {parameter}={text.strip()}: expected low..high or log:low..high with two "
                "numbers, not in a list"
            )
        return None
    if number is None:
        raise UserError(
            f"{parameter} of {plugin.name} is not a number: list its values, {parameter}=[value,value], in "
            "place of a range"
        )
    low, high, log = float(found["low"]), float(found["high"]), found["log"] is not None
    if number is int and not (low.is_integer() and high.is_integer()):
        raise UserError(
            f"{parameter} of {plugin.name} takes whole numbers, and {text.strip()} has bounds that are none"
        )
    if not low < high:
        raise UserError(f"a range goes from low to high, and {parameter}={text.strip()} does not")
    if log and low <= 0:
        raise UserError(f"a range in the logarithm begins above 0, and {parameter}={text.strip()} does not")
    return Range(name=parameter, low=low, high=high, log=log, whole=number is int)


def _choices(plugin: Plugin, parameter: str, values: Sequence[Any]) -> Choice:
    """Return the values that differ once the parameter has taken them."""
    if not values:
        raise UserError(f"{parameter} of {plugin.name} is given no value: {parameter}=[] names none")
    kept = {
        json.dumps(float(value) if isinstance(value, int) and not isinstance(value, bool) else value): value
        for value in reversed(values)
    }
    return Choice(name=parameter, values=tuple(reversed(kept.values())))


def _number_of(plugin: Plugin, parameter: str) -> type[int] | type[float] | None:
    """Return the kind of number that a parameter takes, None where it takes none.

    Raises:
        UserError: no such parameter.
    """
    owner: type = plugin.cls
    fields = model_of(owner).model_fields
    if parameter == "preset" and getattr(plugin.cls, "presets", {}):
        return None
    if parameter not in fields:
        raise unknown(f"parameter of {plugin.name}", parameter, fields, f"owb list {plugin.name}")
    kinds = kinds_of(fields[parameter].annotation)
    return float if float in kinds else int if int in kinds else None


def _check_values(plugin: Plugin, space: Space) -> None:
    """Refuse a bound or choice that the plugin takes neither beside the first values of the other dimensions
    nor beside their last.
    """
    beside = [{other.name: other.ends[place] for other in space.dimensions} for place in (0, -1)]
    if not space.dimensions:
        resolved(plugin, Selection(space.name, space.fixed))
    for dimension in space.dimensions:
        for value in dimension.ends:
            problems = [
                _problem(plugin, Selection(space.name, {**space.fixed, **others, dimension.name: value}))
                for others in beside
            ]
            if all(problems):
                raise UserError(f"{dimension}: {problems[0]}")


def _problem(plugin: Plugin, selection: Selection) -> str:
    try:
        resolved(plugin, selection)
    except UserError as error:
        return str(error)
    return ""


def _checked(plugin: Plugin, selection: Selection) -> Selection:
    """Return the selection if its text reads back as itself."""
    text = str(selection)
    try:
        meant = resolved(plugin, selection)
    except UserError as error:
        raise UserError(f"{text} cannot be: {error}") from None
    if [resolved(plugin, again) for again in expand(text)] != [meant]:
        raise UserError(f"{text} cannot be written as a selection: it reads as something else")
    return selection


def _said(value: Any) -> str:
    """Return a value as a selection says it."""
    return value if isinstance(value, str) else json.dumps(value)


__all__ = ["Choice", "Dimension", "Kind", "Range", "Space", "check_enough", "read_space", "sample_together"]
