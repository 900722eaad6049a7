"""What is around a cell in its process: global state, and what runs or can be patched."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.checks.leftovers import Traces, left, traces


class Surroundings(NamedTuple):
    """What a cell should leave as it is: global state, and what runs or can be patched in this process."""

    state: dict[str, Any]
    traces: Traces


def surroundings() -> Surroundings:
    """Return what is around now, to be held against what is around after a cell."""
    _load_what_looks_around()
    return Surroundings(_global_state(), traces())


def changed_globals(before: Surroundings) -> str:
    """Say which global state is another one now; empty where none is."""
    now = _global_state()
    changed = [name for name, value in before.state.items() if now[name] != value]
    return f"changed: {', '.join(changed)}" if changed else ""


def left_behind(before: Surroundings) -> str:
    """Say, as a warning, what still runs or was patched; empty where nothing was."""
    found = left(before.traces)
    return f"warning: {', '.join(found)}" if found else ""


def _load_what_looks_around() -> None:
    """Load what changes the environment when it is first loaded."""
    import sklearn  # noqa: F401
    import torch._dynamo  # loaded by the first optimiser otherwise
    import torch.utils.data  # noqa: F401


def _global_state() -> dict[str, Any]:
    import torch

    return {
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": str(torch.get_default_device()),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "Dataset.__add__": torch.utils.data.Dataset.__add__,
        "numpy's error handling": np.geterr(),
        "working folder": Path.cwd(),
        "environment variables": sorted(os.environ.items()),
        "sys.path": list(sys.path),
        "warning filters": len(warnings.filters),
        "recursion limit": sys.getrecursionlimit(),
    }


__all__ = ["Surroundings", "changed_globals", "left_behind", "surroundings"]
