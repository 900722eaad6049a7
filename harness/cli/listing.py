"""`owb list`: what is installed, without importing any of it; or one plugin's parameters."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from harness.cli import console, options
from harness.errors import unknown
from harness.plugins import PLURAL, Kind, Plugin, find, is_by_path, registered, summaries, summary_of

EPILOGUE = options.examples(
    "owb list                  everything",
    "owb list strategies       one kind",
    "owb list replay           one plugin with its parameters, bounds and defaults",
    "owb list my.py:Net        the same of one in a file",
    "owb list --json           for machines",
)


def list_plugins(
    what: Annotated[
        str | None,
        typer.Argument(
            help=f"{', '.join(PLURAL.values())}, or the name of one plugin.",
            autocompletion=options.names_of(*PLURAL),
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List what is installed, kind by kind, or the parameters of one plugin."""
    kinds: dict[str, Kind] = {plural: kind for kind, plural in PLURAL.items()}
    if what is None or what in kinds:
        chosen = list(kinds.values()) if what is None else [kinds[what]]
        found = {PLURAL[kind]: summaries(kind) for kind in chosen}
        if as_json:
            console.dump(found)
            return
        for position, (plural, rows) in enumerate(found.items()):
            if position:
                console.say()
            console.grid([plural, ""], list(rows.items()))
        return
    _show_parameters(what, as_json)


def _show_parameters(name: str, as_json: bool) -> None:
    found = _named(name)
    if not found:
        every = [*PLURAL.values(), *(plugin for kind in PLURAL for plugin in registered(kind))]
        raise unknown("name", name, every, "owb list")
    if as_json:
        console.dump([_content(plugin) for plugin in found] if len(found) > 1 else _content(found[0]))
        return
    for plugin in found:
        content = _content(plugin)
        console.say(f"{plugin.kind} {plugin.name}: {content['summary']}")
        columns = ["name", "type", "default", "range", "meaning"]
        console.grid(
            ["parameter", *columns[1:]],
            [[str(row[column]) for column in columns] for row in content["parameters"]],
        )
        for preset, values in getattr(plugin.cls, "presets", {}).items():
            said = ", ".join(f"{name}={value}" for name, value in values.values.items()) or "the defaults"
            console.say(f"preset={preset}: {said}  ({values.source})")


def _named(name: str) -> list[Plugin]:
    """Return the plugins of that name, one for each kind that has it, or the one in a file."""
    if is_by_path(name):
        return [find(_kind_of(find("backbone", name).cls), name)]
    return [
        find(kind, key)
        for kind in PLURAL
        for key, point in registered(kind).items()
        if name in (key, point.attr)
    ]


def _kind_of(found: Any) -> Kind:
    """Return what a class or function in a file is; one that is called with the shape of an item is a
    network.
    """
    from harness.contracts import Scenario, Strategy

    if isinstance(found, type) and (issubclass(found, Strategy | Scenario) or hasattr(found, "load")):
        return (
            "strategy"
            if issubclass(found, Strategy)
            else "scenario"
            if issubclass(found, Scenario)
            else "dataset"
        )
    if hasattr(found, "hooks"):
        return "component"
    if hasattr(found, "measure"):
        return "probe"
    return "backbone" if "item_shape" in inspect.signature(found).parameters else "augmentation"


def _content(plugin: Plugin) -> dict[str, Any]:
    rows = (
        _of_call(plugin.kind, plugin.cls)
        if plugin.kind in ("backbone", "encoder", "augmentation")
        else parameters(plugin.cls)
    )
    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "summary": summary_of(plugin.cls.__doc__),
        "parameters": rows,
    }


def _of_call(kind: Kind, make: Any) -> list[dict[str, Any]]:
    """Return every parameter of what is called to make a network or an augmentation, as its signature has
    them.
    """
    from harness.networks import is_needed, parameters_of

    return [
        {
            "name": str(option).partition(":")[0].partition("=")[0].strip(),  # with the stars of **options
            "type": "any" if option.annotation is option.empty else _words(option.annotation),
            "default": None if option.default is option.empty else option.default,
            "range": "",
            "unit": None,
            "meaning": "needed" if is_needed(option) else "",
        }
        for option in parameters_of(kind, make).values()
    ]


def _words(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def parameters(cls: Any) -> list[dict[str, Any]]:
    """Return every parameter of a plugin class with type, default, range, unit and meaning."""
    from harness.parameters import model_of

    rows = []
    for name, schema in model_of(cls).model_json_schema().get("properties", {}).items():
        bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
        limits = [f"{sign} {schema[key]:g}" for key, sign in bounds.items() if key in schema]
        choices = " | ".join(map(str, schema["enum"])) if "enum" in schema else schema.get("type", "any")
        rows.append(
            {
                "name": name,
                "type": choices,
                "default": schema.get("default"),
                "range": ", ".join(limits),
                "unit": schema.get("unit"),
                "meaning": schema.get("description", ""),
                "ablate": schema.get("ablate", []),
                "since_stage": schema.get("since_stage", 0),
            }
        )
    return rows
