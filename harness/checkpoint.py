"""The state of a strategy between stages, on disk: tensors, arrays, numbers, strings and containers of them, never pickled objects.

`state_of` gathers what a strategy set on itself; objects with `state_dict` and `load_state_dict` (modules, buffers) are asked for it.
Files are written whole and read with `weights_only=True`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.contracts import Strategy
from harness.parameters import model_of


def state_of(strategy: Strategy) -> dict[str, Any]:
    """Return the attributes of `strategy` that are not parameters.

    Raises:
        TypeError: an attribute that is neither plain data nor has a `state_dict`; such a strategy overrides `state`.
    """
    skip = {*model_of(type(strategy)).model_fields, "context"}
    return {name: _plain(value, name) for name, value in vars(strategy).items() if name not in skip}


def restore(strategy: Strategy, state: Mapping[str, Any]) -> None:
    """Set what `state_of` gathered on a freshly started `strategy`."""
    for name, value in state.items():
        current: Any = getattr(strategy, name, None)
        if hasattr(current, "load_state_dict"):
            current.load_state_dict(value)
        else:
            setattr(strategy, name, value)


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` whole: a reader finds the old file or the new one, never half of it."""
    import torch

    temporary = path.with_suffix(f".tmp{os.getpid()}")
    with temporary.open("wb") as file:
        torch.save(dict(content), file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote; admits tensors, numpy arrays and plain data only."""
    import torch

    kinds = {type(np.dtype(name)) for name in ("int64", "int32", "int16", "int8", "uint8", "float64", "float32", "float16", "bool")}
    rebuild = np.zeros(0).__reduce__()[0]  # numpy's own function for rebuilding an array
    admitted: list[Any] = [rebuild, np.ndarray, np.dtype, *kinds]
    with torch.serialization.safe_globals(admitted):
        content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def _plain(value: Any, name: str) -> Any:
    import torch

    if hasattr(value, "state_dict"):
        return value.state_dict()
    if isinstance(value, dict):
        return {key: _plain(item, name) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item, name) for item in value)
    if value is None or isinstance(value, (bool, int, float, str, bytes, np.ndarray, torch.Tensor)):
        return value
    raise TypeError(
        f"attribute {name!r} is a {type(value).__name__}, which cannot be kept between stages: override state() and load_state()"
    )
