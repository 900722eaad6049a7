"""Hyperparameters that carry their meaning: bounds, unit, default, what an ablation switches to, the first
stage they influence.

>>> class Example:
...     memory: int = param(200, "stored examples", ge=1, unit="examples")
>>> validated(Example, {"memory": 50})
{'memory': 50}
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from harness.errors import UserError, unknown

C = TypeVar("C", bound=type[Any])


def param(
    default: Any,
    meaning: str = "",
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    unit: str | None = None,
    ablate: Sequence[Any] = (),
    since_stage: int = 0,
    formerly: str = "",
    selects: str = "",
) -> Any:
    """Declare a parameter.

    Args:
        default: value when nothing is said.
        meaning: one phrase for help texts and boards.
        ge, gt, le, lt: bounds.
        unit: what the number counts or measures.
        ablate: values an ablation switches to.
        since_stage: first stage that the parameter can change, in its answers or in what is kept of it (a
            buffer that is filled after stage 0 counts as stage 0); cells that differ in nothing else share
            the stages before it.
        formerly: the name it had before, which is read as well. Protocols keep it where they are written,
            so that their hashes stay.
        selects: the kind of plugins that it names, several joined by +, whose code counts as the strategy's own:
            `component`, or empty.
    """
    extra: dict[str, Any] = {
        "unit": unit,
        "ablate": list(ablate),
        "since_stage": since_stage,
        "formerly": formerly,
        "selects": selects,
    }
    return Field(default, description=meaning, ge=ge, gt=gt, le=le, lt=lt, json_schema_extra=extra)


@cache
def model_of(owner: type) -> type[BaseModel]:
    """Return the pydantic model of the parameters that `owner` and its bases declare."""
    if issubclass(owner, BaseModel):
        return owner
    fields: dict[str, Any] = {}
    for base in reversed(owner.__mro__):
        declared = {name: value for name, value in vars(base).items() if isinstance(value, FieldInfo)}
        types = inspect.get_annotations(base, eval_str=True) if declared else {}
        fields |= {name: (types[name], value) for name, value in declared.items()}
    config = ConfigDict(extra="forbid", frozen=True)
    return create_model(owner.__name__, __config__=config, **fields)


@cache
def former_names(owner: type) -> Mapping[str, str]:
    """Return the names that parameters of `owner` had before, each with the name now."""
    found = {}
    for name, field in model_of(owner).model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and (former := extra.get("formerly")):
            found[str(former)] = name
    return found


def with_new_names(owner: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` under the names that parameters of `owner` have now.

    Raises:
        UserError: one parameter under both its names.
    """
    now = former_names(owner)
    for former in now.keys() & values.keys():
        if now[former] in values:
            raise UserError(f"{former} is the former name of {now[former]}: set one of them")
    return {now.get(name, name): value for name, value in values.items()}


@cache
def text_parameters(owner: type) -> Mapping[str, bool]:
    """Return the parameters of `owner` that are text, free or one of some words, and whether null is a value
    of theirs too; those with a former name under both.
    """
    texts = {}
    for name, field in model_of(owner).model_fields.items():
        kinds = kinds_of(field.annotation)
        if {str} <= kinds <= {str, type(None)}:
            texts[name] = type(None) in kinds
    return texts | {old: texts[new] for old, new in former_names(owner).items() if new in texts}


def validated(owner: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters of `owner`, defaults filled in, as plain JSON-ready values.

    Raises:
        UserError: an unknown name or a value out of range, in one sentence.
    """
    model = model_of(owner)
    values = with_new_names(owner, values)
    for name in values:
        if name not in model.model_fields:
            raise unknown(
                f"parameter of {owner.__name__}", name, model.model_fields, f"owb list {owner.__name__}"
            )
    try:
        return with_new_names(owner, model(**values).model_dump(mode="json"))
    except ValidationError as error:
        raise UserError("; ".join(_sentence(owner, problem) for problem in error.errors())) from None


def renamed(**names: str) -> Callable[[C], C]:
    """Return a class decorator: what was called OLD before and is now called NEW, in `renamed(OLD="NEW")`, can
    still be given to the constructor and be read, with a warning.
    """

    def decorate(cls: C) -> C:
        init = cls.__init__

        @functools.wraps(init)
        def start(self: Any, *args: Any, **values: Any) -> None:
            for old in names.keys() & values.keys():
                _warn(cls, old, names[old])
                values[names[old]] = values.pop(old)
            init(self, *args, **values)

        cls.__init__ = start
        for old, new in names.items():
            setattr(cls, old, property(functools.partial(_read, cls, old, new)))
        return cls

    return decorate


def take_former_methods(cls: type, **names: str) -> None:
    """Let `cls` override methods by the names they had before, in `take_former_methods(cls, OLD="NEW")`, with a
    warning.
    """
    for old, new in names.items():
        if old in vars(cls) and new not in vars(cls):
            _warn(cls, old, new)
            setattr(cls, new, vars(cls)[old])


def former_classes(module: dict[str, Any], **names: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module whose classes had other names before, OLD="NEW"; each use warns."""

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module['__name__']!r} has no attribute {name!r}")
        warnings.warn(f"{name} is now called {names[name]}", FutureWarning, stacklevel=3)
        return module[names[name]]

    return find


def _read(cls: type, old: str, new: str, owner: Any) -> Any:
    _warn(cls, old, new)
    return getattr(owner, new)


def _warn(cls: type, old: str, new: str) -> None:
    warnings.warn(f"{old} of {cls.__name__} is now called {new}", FutureWarning, stacklevel=3)


def kinds_of(annotation: Any) -> set[Any]:
    """Return the types that an annotation stands for."""
    if get_origin(annotation) is Literal:
        return {type(word) for word in get_args(annotation)}
    if get_origin(annotation) is Annotated:
        return kinds_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return set().union(*map(kinds_of, get_args(annotation)))
    return {annotation}


def _sentence(owner: type, problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or owner.__name__
    rule = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    given = problem["input"] if problem["loc"] else ""
    return (
        f"{where} should be {rule}, got {given!r} ({owner.__name__})"
        if problem["type"] != "value_error"
        else f"{rule}"
    )
