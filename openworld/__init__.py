"""What notebooks and authors of plugins need, in one place; nothing heavy is imported until it is used.

>>> import openworld
>>> sorted(openworld.__all__)[:4]
['Context', 'Dataset', 'Deal', 'Machine']
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from harness.code.public import HOMES

if TYPE_CHECKING:
    from harness.api.results import Results
    from harness.api.running import debug, load, run
    from harness.contracts import Context, Dataset, Deal, Metric, Prediction, Query, Scenario, Stage, Strategy
    from harness.errors import Unsuitable, UserError
    from harness.execution.machine import Machine
    from harness.parameters import param


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'openworld' has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "Context",
    "Dataset",
    "Deal",
    "Machine",
    "Metric",
    "Prediction",
    "Query",
    "Results",
    "Scenario",
    "Stage",
    "Strategy",
    "Unsuitable",
    "UserError",
    "debug",
    "load",
    "param",
    "run",
]
