"""`owb list`: what is installed, without importing any of it; or one plugin's parameters."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from harness.cli import console, options
from harness.errors import unknown
from harness.plugins import PLURAL, Kind, find, registered, summaries

EPILOGUE = options.examples(
    "owb list                  everything",
    "owb list strategies       one kind",
    "owb list replay           one plugin with its parameters, bounds and defaults",
    "owb list --json           for machines",
)


def list_plugins(
    what: Annotated[
        str | None, typer.Argument(help="strategies, scenarios, datasets, or the name of one plugin.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List strategies, scenarios and data sets, or the parameters of one."""
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
    kinds = [kind for kind in PLURAL if name in registered(kind) or _is_class(kind, name)]
    path_kinds: list[Kind] = ["strategy"] if ":" in name else []
    if not kinds and not path_kinds:
        every = [*PLURAL.values(), *(plugin for kind in PLURAL for plugin in registered(kind))]
        raise unknown("name", name, every, "owb list")
    kind = (kinds or path_kinds)[0]
    shown = next((key for key, point in registered(kind).items() if point.attr == name), name)
    plugin = find(kind, shown)
    rows = parameters(plugin.cls)
    if as_json:
        console.dump(
            {
                "kind": kind,
                "name": plugin.name,
                "summary": (plugin.cls.__doc__ or "").partition("\n")[0],
                "parameters": rows,
            }
        )
        return
    console.say(f"{kind} {plugin.name}: {(plugin.cls.__doc__ or '').partition(chr(10))[0]}")
    header = ["parameter", "type", "default", "range", "meaning"]
    console.grid(
        header,
        [[row["name"], row["type"], str(row["default"]), row["range"], row["meaning"]] for row in rows],
    )
    for preset, content in getattr(plugin.cls, "presets", {}).items():
        said = ", ".join(f"{name}={value}" for name, value in content.values.items()) or "the defaults"
        console.say(f"preset={preset}: {said}  ({content.source})")


def _is_class(kind: Kind, name: str) -> bool:
    return any(point.attr == name for point in registered(kind).values())


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
