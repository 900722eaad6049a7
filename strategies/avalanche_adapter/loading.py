"""The one door to avalanche: import it without letting it change the process for everybody else.

Importing avalanche replaces `torch.utils.data.Dataset.__add__` by its own function, so that a plain data set
and an AvalancheDataset can be joined with `+`, and one of the packages it loads adds a folder to `sys.path`.
The adapter needs neither, so both are put back.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any


@cache
def avalanche(module: str) -> Any:
    """Return avalanche's submodule of that dotted name, such as `training.supervised`; torch and `sys.path`
    are left as they were.
    """
    from torch.utils.data import Dataset

    before, path = Dataset.__add__, list(sys.path)
    try:
        with quiet():
            loaded: ModuleType = importlib.import_module(f"avalanche.{module}")
    finally:
        Dataset.__add__ = before  # type: ignore[method-assign]
        sys.path[:] = path
    return loaded


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the log of a cell free of avalanche's warnings about itself: no loggers, no QP solver."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(avalanche|qpsolvers)\b")
        yield
