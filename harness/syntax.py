"""The selection syntax: `name[param=value, other=[1, 2]]`. A list stands for alternatives, each a selection of its own.

>>> [str(selection) for selection in expand("replay[memory=[50, 200], lr=0.1]")]
['replay[memory=50,lr=0.1]', 'replay[memory=200,lr=0.1]']
"""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import yaml

from harness.errors import UserError, unknown


@dataclass(frozen=True, slots=True)
class Selection:
    """A plugin's name and the parameters that were said; defaults are not filled in."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        said = ",".join(f"{key}={_text(value)}" for key, value in self.params.items())
        return f"{self.name}[{said}]" if said else self.name


def expand(text: str) -> list[Selection]:
    """Return every alternative that `text` stands for.

    Raises:
        UserError: unbalanced brackets, a part without `=`, or a parameter said twice.
    """
    text = text.strip()
    name, bracket, rest = text.partition("[")
    if not bracket:
        return [Selection(name)]
    if not rest.endswith("]") or not name:
        raise UserError(f"cannot read {text!r}: expected name[param=value,other=value]")
    params: dict[str, list[Any]] = {}
    for part in split_outside(rest[:-1], ","):
        key, equals, value = part.partition("=")
        if not equals:
            raise UserError(f"cannot read {part.strip()!r} in {text!r}: expected param=value")
        if key.strip() in params:
            raise UserError(f"{key.strip()!r} is said twice in {text!r}")
        params[key.strip()] = _alternatives(value)
    return [Selection(name, dict(zip(params, values, strict=True))) for values in itertools.product(*params.values())]


def single(text: str) -> Selection:
    """Return the one selection that `text` stands for; raise `UserError` where it stands for several."""
    selections = expand(text)
    if len(selections) != 1:
        raise UserError(f"{text!r} stands for {len(selections)} alternatives where one is needed")
    return selections[0]


def chosen(kind: str, text: str, makers: Mapping[str, Callable[..., Any]], *, given: Sequence[str] = ()) -> Callable[..., Any]:
    """Return the one of `makers` that `text` selects, with the parameters said; those in `given` are left for the call.

    Raises:
        UserError: no `kind` of that name, or a parameter it does not have.
    """
    selection = single(text)
    if selection.name not in makers:
        raise unknown(kind, selection.name, makers, ", ".join(makers))
    make = makers[selection.name]
    known = [option for option in inspect.signature(make).parameters if option not in given]
    for option in selection.params:
        if option not in known:
            raise unknown(f"parameter of {kind} {selection.name}", option, known, ", ".join(known) or "none")
    return partial(make, **selection.params)


def split_outside(text: str, separator: str) -> list[str]:
    """Split at a letter outside brackets; parts without content are left out."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if letter == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    if depth:
        raise UserError(f"cannot read {text!r}: brackets do not match")
    return [part for part in parts if part.strip()]


def _alternatives(text: str) -> list[Any]:
    text = text.strip()
    if text.startswith("["):
        return [_value(part) for part in split_outside(text[1:-1], ",")]
    return [_value(text)]


def _value(text: str) -> Any:
    """Read a scalar as YAML does; what holds a bracket is a nested selection and stays text."""
    text = text.strip()
    if "[" in text and not text.startswith("["):
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, bool) and text.lower() not in ("true", "false"):
        return text  # YAML 1.1 takes on, off, yes and no for truth values; here they are names
    if isinstance(value, str):
        try:
            return float(text)  # YAML 1.1 reads 1e-3 as text
        except ValueError:
            return value
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
