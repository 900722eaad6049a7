"""Backbones, encoders and augmentations by the text that a protocol says: `cnn[width=16]`, `timm:resnet18`,
`my.py:Net`, and for augmentations several joined by +.

Each is a plugin that is called: a backbone or an encoder with the shape of one item and its parameters
(`make(item_shape, *, width=32)`), an augmentation with its parameters alone. `ENTRY:NAME` is the plugin ENTRY
with its parameter `name`. What takes long or costs a cell to find out can be refused before anything runs:
by `check_parameters`, a static method of a class, or of a function what `checked_by` gives it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, TypeVar

from harness.errors import UserError, unknown
from harness.places import written
from harness.plugins import PLURAL, Kind, entry_of, find, is_by_path, registered
from harness.syntax import Selection, single, split_outside, with_parameters

NetworkKind = Literal["backbone", "encoder"]
CalledKind = NetworkKind | Literal["augmentation"]
F = TypeVar("F", bound=Callable[..., Any])

DECLARED = ("pretrained_on", "overlap")
"""What a selection says of weights for the protocol alone (`harness.weights`)."""

_FILES = re.compile(r"(?:^|(?<=[\[=+,]))\s*([^\[\]=+,'\"]+\.py)(?=:)")


def maker(kind: CalledKind, text: str) -> Callable[..., Any]:
    """Return what makes the network that `text` selects from an item's shape, or its augmentation from
    nothing.

    Raises:
        UserError: nothing of that kind and name, a parameter that it does not have, one that it needs, or
        what it refuses itself.
    """
    selection = _without_declared(single(text))
    entry = entry_of(selection.name)
    plugin = find(kind, entry)
    known = parameters_of(kind, plugin.cls)
    arguments = selection
    if entry != selection.name:
        if "name" not in known:
            raise unknown(kind, selection.name, registered(kind), f"owb list {PLURAL[kind]}")
        arguments = selection.changed(name=selection.name.removeprefix(f"{entry}:"))
    make = with_parameters(kind, plugin.cls, arguments, list(known.values()))
    if check := getattr(plugin.cls, "check_parameters", None):
        check(**make.keywords)
    for name, option in known.items():
        if is_needed(option) and name not in make.keywords:
            how = f"{entry}:NAME" if name == "name" else f"{selection.name}[{name}=...]"
            raise UserError(f"{kind} {selection.name} needs {name}: say {how}")
    return make


def parameters_of(kind: Kind, make: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters that can be said of what makes a network or an augmentation, in order; one of
    them may be `**options`.
    """
    found = list(inspect.signature(make).parameters.items())[0 if kind == "augmentation" else 1 :]
    return {name: option for name, option in found if option.kind is not option.VAR_POSITIONAL}


def is_needed(option: inspect.Parameter) -> bool:
    """Return whether a parameter has to be said."""
    return option.default is option.empty and option.kind is not option.VAR_KEYWORD


def augmentations(text: str) -> list[Any]:
    """Return the augmentations that `text` joins by +, made; raises as `maker`, and what making them raises."""
    return [maker("augmentation", part.strip())() for part in split_outside(text, "+") or [text]]


def kinds_of(text: str) -> set[NetworkKind]:
    """Return as what the network that `text` names is registered; by path it may be either."""
    name = single(text).name
    kinds: tuple[NetworkKind, ...] = ("backbone", "encoder")
    return {kind for kind in kinds if is_by_path(name) or entry_of(name) in registered(kind)}


def checked_by(check: Callable[..., None]) -> Callable[[F], F]:
    """Return a decorator that lets `check`, which takes the parameters that were said, refuse a selection of
    a function before anything runs.
    """

    def mark(make: F) -> F:
        vars(make)["check_parameters"] = check
        return make

    return mark


def addressed(text: str) -> str:
    """Return `text` with the files in it by their whole paths, so that a process with another working folder
    finds them.
    """

    def whole(found: re.Match[str]) -> str:
        path = written(found[1])
        return found[0].replace(found[1], str(path.absolute())) if path.is_file() else found[0]

    return _FILES.sub(whole, text)


def _without_declared(selection: Selection) -> Selection:
    return replace(
        selection, params={name: value for name, value in selection.params.items() if name not in DECLARED}
    )


__all__ = [
    "DECLARED",
    "CalledKind",
    "NetworkKind",
    "addressed",
    "augmentations",
    "checked_by",
    "is_needed",
    "kinds_of",
    "maker",
    "parameters_of",
]
