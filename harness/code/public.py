"""The names of the package `openworld`, the public face of the project, and the modules that they lie in."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

NAME = "openworld"
_HOMES = {
    "harness.api.results": ("Results",),
    "harness.api.running": ("debug", "load", "run"),
    "harness.contracts": (
        "Context",
        "Dataset",
        "Deal",
        "Metric",
        "Prediction",
        "Query",
        "Scenario",
        "Stage",
        "Strategy",
    ),
    "harness.errors": ("Unsuitable", "UserError"),
    "harness.execution.machine": ("Machine",),
    "harness.parameters": ("param",),
}
HOMES: Mapping[str, str] = MappingProxyType(
    {name: module for module, names in _HOMES.items() for name in names}
)
"""Name -> module."""

EVERYTHING = "harness.api.running"
"""What stands for the package as a whole, where code imports it and not a name of it."""

__all__ = ["EVERYTHING", "HOMES", "NAME"]
