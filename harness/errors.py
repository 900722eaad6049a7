"""Mistakes of a user, told in one sentence.

`UserError` is caught once, at the top of the command line, and printed without a traceback. Everything else
keeps its traceback and is stored with the cell it broke.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

Memory = Literal["host", "device"]

_SAID_BY_TORCH = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What torch says in a plain RuntimeError: its allocators on the host, the CUDA driver, and cuBLAS."""


class UserError(Exception):
    """Something the user can mend: the text says what is wrong and, where there is one, the nearest valid
    choice.
    """


class Unsuitable(Exception):
    """Raised by a strategy that cannot take part in a scenario; its cell ends as `skipped` with this text as
    the reason.
    """


class Diverged(Exception):
    """Raised when training leaves the finite numbers; the cell ends as `diverged`."""


def unknown(kind: str, name: str, valid: Iterable[str], see: str) -> UserError:
    """Return the error for a name that does not exist, with the nearest one that does.

    >>> print(unknown("strategy", "replya", ["replay", "ewc"], "owb list strategies"))
    unknown strategy 'replya'; did you mean 'replay'? (all: owb list strategies)
    """
    near = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {kind} {name!r}{hint} (all: {see})")


def in_one_line(error: BaseException) -> str:
    """Say what went wrong and where, in one line; what a user can mend in its own words."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, UserError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"


def shortage(error: BaseException) -> Memory | None:
    """Return which memory an error says there is too little of, None where it is another error."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return "device"
    text = str(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(said in text for said in _SAID_BY_TORCH)
    ):
        return "device" if "CU" in text else "host"
    return None
