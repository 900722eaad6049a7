"""Plugins as selections ask for them: with every parameter resolved, or as an instance. How selections are written: `harness.syntax`."""

from __future__ import annotations

from typing import Any

from harness.errors import unknown
from harness.parameters import validated
from harness.plugins import Kind, Plugin, find
from harness.syntax import Selection, chosen, expand, single, split_outside


def configured(kind: Kind, text: str) -> Any:
    """Return an instance of the plugin that `text` selects."""
    selection = single(text)
    plugin = find(kind, selection.name)
    return plugin.cls(**resolved(plugin, selection))


def resolved(plugin: Plugin, selection: Selection) -> dict[str, Any]:
    """Return every parameter of the plugin: preset (`preset=NAME`) below what was said, defaults below both."""
    said = dict(selection.params)
    presets = getattr(plugin.cls, "presets", {})
    if "preset" in said and presets:
        name = str(said.pop("preset"))
        if name not in presets:
            raise unknown(f"preset of {plugin.name}", name, presets, f"owb list {plugin.name}")
        said = {**presets[name].values, **said}
    return validated(plugin.cls, said)


__all__ = ["Selection", "chosen", "configured", "expand", "resolved", "single", "split_outside"]
