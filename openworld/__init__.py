"""What notebooks and authors of plugins need, in one place: all of the contract (`harness.contracts`), and what runs
and loads results. Nothing heavy is imported until it is used.

>>> import openworld
>>> "Strategy" in openworld.__all__
True
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the one list of these names: `harness.code.public` reads it too
    from harness.api.data import as_dataset as as_dataset
    from harness.api.results import Results as Results
    from harness.api.running import debug as debug
    from harness.api.running import load as load
    from harness.api.running import run as run
    from harness.contracts import *  # noqa: F403
    from harness.errors import Unsuitable as Unsuitable
    from harness.errors import UserError as UserError
    from harness.execution.machine import Machine as Machine


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return [*_homes()]
    if name not in _homes():
        raise AttributeError(f"module 'openworld' has no attribute {name!r}")
    return getattr(import_module(_homes()[name]), name)


def __dir__() -> list[str]:
    return [*_homes()]


def _homes() -> Mapping[str, str]:
    """Return the module of every name; raise `ImportError` where the harness is another distribution's."""
    from openworld.command import foreign

    if said := foreign():
        raise ImportError(said)
    from harness.code.public import homes

    return homes()
