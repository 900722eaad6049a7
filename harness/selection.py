"""Plugins as selections ask for them: with every parameter resolved, or as an instance. How selections are
written: `harness.syntax`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from harness.errors import UserError, unknown
from harness.parameters import former_names, model_of, text_parameters, validated, with_new_names
from harness.plugins import Kind, Plugin, find
from harness.syntax import Selection, chosen, expand, single, split_outside


def configured(kind: Kind, selection: str | Selection) -> Any:
    """Return an instance of the plugin that `selection` names."""
    selection = single(selection) if isinstance(selection, str) else selection
    plugin = find(kind, selection.name)
    return plugin.cls(**resolved(plugin, selection))


def as_declared(plugin: Plugin, selection: Selection) -> Selection:
    """Return the selection with the plugin's text parameters as they were said; its label says them so."""
    owner: type = plugin.cls
    texts = text_parameters(owner)
    nothing = {name for name, value in selection.params.items() if value is None and texts.get(name)}
    return selection.with_texts(texts.keys() - nothing)


def resolved(plugin: Plugin, selection: Selection) -> dict[str, Any]:
    """Return every parameter of the plugin: preset (`preset=NAME`) below what was said, defaults below both."""
    values = with_new_names(plugin.cls, as_declared(plugin, selection).params)
    presets = getattr(plugin.cls, "presets", {})
    if "preset" in values and presets:
        values.pop("preset")
        name = selection.text("preset")
        if name not in presets:
            raise unknown(f"preset of {plugin.name}", name, presets, f"owb list {plugin.name}")
        values = {**with_new_names(plugin.cls, presets[name].values), **values}
    return validated(plugin.cls, values)


def recorded(plugin: Plugin, selection: Selection) -> dict[str, Any]:
    """Return the parameters as keys and records have them."""
    return as_recorded(plugin.cls, resolved(plugin, selection))


def as_recorded(owner: type, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters without those that came `later` and have their default, which keys and records leave out."""
    fields, later = model_of(owner).model_fields, getattr(owner, "later", ())
    return {
        name: value for name, value in params.items() if name not in later or value != fields[name].default
    }


def former_parameters(kind: Kind, text: str) -> Mapping[str, str]:
    """Return the parameters that a selection, or one within it, names as they were called before, each with
    its name now; nothing of what cannot be read.
    """
    found: dict[str, str] = {}
    with suppress(UserError):
        for selection in expand(text):
            owner: type = find(kind, selection.name).cls
            found |= {old: new for old, new in former_names(owner).items() if old in selection.params}
            for value in selection.params.values():
                found |= former_parameters(kind, value) if isinstance(value, str) else {}
    return found


__all__ = [
    "Selection",
    "as_declared",
    "as_recorded",
    "chosen",
    "configured",
    "expand",
    "former_parameters",
    "recorded",
    "resolved",
    "single",
    "split_outside",
]
