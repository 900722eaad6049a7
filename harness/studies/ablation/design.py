"""Ablations: which configurations of a strategy to run, and which differences between them say what a
component contributes.

A **component** is a parameter whose declaration names alternatives (`param(..., ablate=[...])`), or for which
the user names some. An **arm** is a configuration, written as a selection, so that its cells are those of
`owb run`. A **contrast** is a difference between weighted sums of arms, taken seed by seed. Of the designs,
leave-one-out switches one component of the full strategy at a time, add-one-in switches one on where all
others are off, a factorial takes every combination of two levels each (Box, Hunter and Hunter 1978,
"Statistics for experimenters", chapter 10). Tables are published ablations, kept as presets `tableN-ROW`.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

from pydantic.fields import FieldInfo

from harness.errors import Unsuitable, UserError, unknown
from harness.parameters import former_names, model_of
from harness.plugins import Plugin, find
from harness.protocol.cells import Protocol
from harness.protocol.contrasts import Ablation, Contrast
from harness.selection import Selection, as_declared, expand, resolved, single, split_outside

Design = Literal["leave-one-out", "add-one-in", "factorial"]
DESIGNS: tuple[Design, ...] = get_args(Design)

MOST_ARMS = 64
"""How many arms a factorial may have unless the user allows more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A parameter to switch: the value it has in the strategy as given, and what it is switched to."""

    name: str
    value: Any
    alternatives: tuple[Any, ...]


def ablation(
    strategy: str,
    *,
    design: Design = "leave-one-out",
    components: str = "",
    extra: Sequence[str] = (),
    most_arms: int = MOST_ARMS,
    cells_per_arm: int = 1,
) -> Ablation:
    """Return the arms and contrasts of a design.

    Args:
        strategy: one selection, from which the design departs.
        design: how components are switched.
        components: names, or `name=value` and `name=[value, value]` to say what they are switched to; empty
            for all that are declared.
        extra: further arms as selections, each compared with the reference.
        most_arms: how many arms a factorial may have.
        cells_per_arm: scenarios times seeds, to say how large a refused factorial is.

    Raises:
        UserError: no such design, component or value; a factorial that is too large.
    """
    if design not in DESIGNS:
        raise unknown("design", design, DESIGNS, ", ".join(DESIGNS))
    arms = _Arms(strategy)
    chosen = _chosen(arms, components)
    if design == "factorial":
        _check_size(chosen, most_arms, cells_per_arm)
    if design != "leave-one-out":
        _check_one_alternative(chosen, components, design)
    make = {"leave-one-out": _leave_one_out, "add-one-in": _add_one_in, "factorial": _factorial}[design]
    reference, contrasts = make(arms, chosen)
    return _finished(arms, design, reference, contrasts, extra)


def published(strategy: str, table: str, *, extra: Sequence[str] = ()) -> Ablation:
    """Return the rows of a published table, `NAME-N` or `N`: presets `tableN-ROW`, each compared with the
    strategy as given.

    Raises:
        UserError: no such table, or a strategy that names a preset already.
    """
    arms = _Arms(strategy)
    said = arms.given
    if "preset" in said.params:
        raise UserError(f"the rows of a table are presets, and {said} names one already: leave it out")
    rows = {
        preset: found[1]
        for preset in arms.plugin.cls.presets
        if (found := re.fullmatch(r"table(.+)-[^-]+", preset))
    }
    tables = {f"{arms.plugin.name}-{number}": number for number in rows.values()}
    number = tables.get(table, table)
    if number not in tables.values():
        raise unknown("table", table, tables, ", ".join(tables) or f"{arms.plugin.name} declares none")
    labels = {}
    for preset in (preset for preset, own in rows.items() if own == number):
        labels[preset] = arms.take(Selection(said.name, {"preset": preset, **said.params}))
    reference = arms.add({})  # the row that is the strategy as given, where there is one
    sources = {label: arms.plugin.cls.presets[preset].source for preset, label in labels.items()}
    contrasts = [
        Contrast(
            kind="row", on=sources.get(reference, reference), off=source, plus=(reference,), minus=(label,)
        )
        for label, source in sources.items()
        if label != reference
    ]
    return _finished(arms, f"table {arms.plugin.name}-{number}", reference, contrasts, extra)


def check_feasible(ablation: Ablation, protocols: Sequence[Protocol]) -> None:
    """Refuse arms whose parameters do not go together.

    Raises:
        UserError: all of them named.
    """
    told = refused(ablation.arms, protocols)
    if told:
        raise UserError(f"nothing is run, since some arms cannot be: {told}; choose others by --components")


def refused(arms: Sequence[str], protocols: Sequence[Protocol]) -> str:
    """Make and start a strategy for every arm on every protocol, which costs no training; return what could
    not be, empty if all could.
    """
    from harness.cell.run import CellContext, settings_of

    problems: dict[str, list[str]] = {}
    with TemporaryDirectory() as scratch:
        for arm, protocol in itertools.product(arms, protocols):
            settings = settings_of(protocol.scenario, 0)
            selection = single(arm)
            plugin = find("strategy", selection.name)
            try:
                strategy = plugin.cls(**resolved(plugin, selection))
                strategy.start(
                    CellContext(settings=settings, scratch=Path(scratch), on_progress=lambda *_: None)
                )
            except (UserError, Unsuitable) as error:
                problems.setdefault(f"{arm}: {error}", []).append(protocol.label)
    return "; ".join(
        problem if len(where) == len(protocols) else f"{problem} ({', '.join(where)})"
        for problem, where in problems.items()
    )


class _Arms:
    """The arms so far, by label; configurations that are the same have one label."""

    def __init__(self, strategy: str) -> None:
        said = single(strategy)
        self.plugin: Plugin = find("strategy", said.name)
        self.given = as_declared(self.plugin, said)
        self.params = resolved(self.plugin, self.given)
        self.known: dict[str, tuple[str, dict[str, Any]]] = {}

    def add(self, changes: Mapping[str, Any]) -> str:
        """Return the label of the strategy as given with `changes`."""
        return self.take(Selection(self.given.name, {**self.given.params, **changes}))

    def take(self, selection: Selection) -> str:
        """Return the label of a selection.

        Raises:
            UserError: no such strategy or parameter, or a value that a selection cannot say.
        """
        plugin = find("strategy", selection.name)
        selection = as_declared(plugin, selection)
        own = (plugin.name, resolved(plugin, selection))
        for label, known in self.known.items():
            if known == own:
                return label
        text = str(selection)
        if [resolved(plugin, again) for again in expand(text)] != [own[1]]:
            raise UserError(f"{text} cannot be written as a selection: it reads as something else")
        self.known[text] = own
        return text


def _chosen(arms: _Arms, text: str) -> list[Component]:
    """Return the components that `text` names, all that are declared where it is empty."""
    owner: type = arms.plugin.cls
    fields = model_of(owner).model_fields
    declared = {
        name: levels for name, field in fields.items() if (levels := _alternatives(field, arms.params[name]))
    }
    if not text.strip():
        if not declared:
            raise UserError(
                f"{arms.plugin.name} declares nothing to switch: say what, as in --components lr=0.1 or --arm NAME[...]"
            )
        return [
            Component(name=name, value=arms.params[name], alternatives=levels)
            for name, levels in declared.items()
        ]
    found: dict[str, Component] = {}
    for part in split_outside(text, ","):
        named, equals, _ = (piece.strip() for piece in part.partition("="))
        name = former_names(owner).get(named, named)
        if name not in fields:
            raise unknown("component", name, declared or fields, ", ".join(declared or fields))
        if name in found:
            raise UserError(f"component {name!r} is said twice in {text!r}")
        if not equals and name not in declared:
            raise UserError(
                f"{name} of {arms.plugin.name} declares no alternatives: say one, --components {name}=VALUE"
            )
        said = expand(f"{arms.given.name}[{part}]") if equals else []
        values = (
            tuple(as_declared(arms.plugin, one).params[named] for one in said) if equals else declared[name]
        )
        for value in values:
            if (
                resolved(arms.plugin, Selection(arms.given.name, {**arms.given.params, name: value}))
                == arms.params
            ):
                raise UserError(
                    f"{name} is {_said(value)} in {arms.given} already: say something else to switch to"
                )
        found[name] = Component(name=name, value=arms.params[name], alternatives=values)
    return list(found.values())


def _alternatives(field: FieldInfo, value: Any) -> tuple[Any, ...]:
    """Return what the declaration switches to from `value`; where that is not the default, the default comes
    last.
    """
    extra = field.json_schema_extra
    declared = extra.get("ablate", []) if isinstance(extra, dict) else []
    levels = [*declared, field.default] if isinstance(declared, list) and declared else []
    return tuple(
        level for place, level in enumerate(levels) if level != value and level not in levels[:place]
    )


def _check_size(chosen: Sequence[Component], most_arms: int, cells_per_arm: int) -> None:
    arms = 2 ** len(chosen)
    if arms <= most_arms:
        return
    fitting = max(1, most_arms.bit_length() - 1)
    few = ",".join(component.name for component in chosen[:fitting])
    others = 1 + sum(len(component.alternatives) for component in chosen)
    raise UserError(
        f"a factorial of {len(chosen)} components has {arms:,} arms ({arms * cells_per_arm:,} cells), more "
        f"than {most_arms}: choose at "
        f"most {fitting} of them, such as --components {few}, or take --design leave-one-out ({others} "
        "arms), or raise --most-arms"
    )


def _check_one_alternative(chosen: Sequence[Component], text: str, design: Design) -> None:
    """Refuse several alternatives where they were asked for; of the declared ones the first is taken."""
    for part in split_outside(text, ","):
        name = part.partition("=")[0].strip()
        several = next(component.alternatives for component in chosen if component.name == name)
        if "=" in part and len(several) > 1:
            raise UserError(
                f"{design} switches {name} to one alternative, got {len(several)}: name one, --components "
                f"{name}={_said(several[0])}"
            )


Made = tuple[str, list[Contrast]]


def _leave_one_out(arms: _Arms, chosen: Sequence[Component]) -> Made:
    reference = arms.add({})
    return reference, [
        _of(component, alternative, plus=[reference], minus=[arms.add({component.name: alternative})])
        for component in chosen
        for alternative in component.alternatives
    ]


def _add_one_in(arms: _Arms, chosen: Sequence[Component]) -> Made:
    off = {component.name: component.alternatives[0] for component in chosen}
    reference = arms.add(off)
    contrasts = [
        _of(
            component,
            off[component.name],
            minus=[reference],
            plus=[arms.add({name: value for name, value in off.items() if name != component.name})],
        )
        for component in chosen
    ]
    if len(chosen) > 1:
        contrasts.append(
            Contrast(
                kind="all", on="all together", off="none of them", plus=(arms.add({}),), minus=(reference,)
            )
        )
    return reference, contrasts


def _factorial(arms: _Arms, chosen: Sequence[Component]) -> Made:
    labels: dict[frozenset[str], str] = {}  # by the components that are off
    for switched in itertools.product((False, True), repeat=len(chosen)):
        changes = {
            one.name: one.alternatives[0] for one, is_off in zip(chosen, switched, strict=True) if is_off
        }
        labels[frozenset(changes)] = arms.add(changes)
    contrasts = [
        _of(
            one,
            one.alternatives[0],
            plus=[label for off, label in labels.items() if one.name not in off],
            minus=[label for off, label in labels.items() if one.name in off],
        )
        for one in chosen
    ]
    for first, second in itertools.combinations(chosen, 2):
        alike = {label for off, label in labels.items() if (first.name in off) == (second.name in off)}
        contrasts.append(
            Contrast(
                kind="interaction",
                on=f"{first.name} x {second.name}",
                off="each without the other",
                plus=tuple(label for label in labels.values() if label in alike),
                minus=tuple(label for label in labels.values() if label not in alike),
                share=len(labels) // 4,
            )
        )
    return labels[frozenset()], contrasts


def _of(component: Component, alternative: Any, *, plus: Sequence[str], minus: Sequence[str]) -> Contrast:
    on = f"{component.name}={_said(component.value)}"
    return Contrast(
        kind="component", on=on, off=_said(alternative), plus=tuple(plus), minus=tuple(minus), share=len(plus)
    )


def _said(value: Any) -> str:
    """Return a value as a selection says it."""
    return value if isinstance(value, str) else json.dumps(value)


def _finished(
    arms: _Arms, design: str, reference: str, contrasts: Iterable[Contrast], extra: Sequence[str]
) -> Ablation:
    """Add the user's own arms; what adds components to a reference counts upwards from it, what takes them
    away counts downwards.
    """
    made = list(contrasts)
    for selection in (selection for text in extra for selection in expand(text)):
        label = arms.take(selection)
        if label == reference:
            raise UserError(f"--arm {selection} is the reference itself: say another one")
        on, off = (label, reference) if design == "add-one-in" else (reference, label)
        if not any((one.plus, one.minus) == ((on,), (off,)) for one in made):
            made.append(Contrast(kind="arm", on=on, off=off, plus=(on,), minus=(off,)))
    return Ablation(
        strategy=str(arms.given),
        design=design,
        reference=reference,
        arms=tuple(arms.known),
        contrasts=tuple(made),
    )


__all__ = [
    "DESIGNS",
    "MOST_ARMS",
    "Component",
    "Design",
    "ablation",
    "check_feasible",
    "published",
    "refused",
]
