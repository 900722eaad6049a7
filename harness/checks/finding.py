"""One claim of a strategy or scenario, put to the test."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.contracts import Scenario, Strategy
from harness.errors import Unsuitable, UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One claim and whether it held; `unsuitable` where the strategy refused to take part, so that nothing
    was put to the test.

    warns: it holds, but what is found is said in `detail`, because it will matter elsewhere.
    """

    claim: str
    holds: bool
    detail: str = ""
    unsuitable: bool = False
    warns: bool = False


class Ended(Exception):
    """A cell that was run elsewhere ended without its answers; the text says how."""


def found(claim: str, test: Callable[[], str], *, of: type | None = None, method: str = "") -> Finding:
    """Run one test, which returns what broke the claim (nothing if it held).

    Args:
        of: the class that is tested; the file and line of it where it raised are named.
        method: what of it the claim is about: where it begins is named where nothing was raised.
    """
    try:
        problem = test()
    except Unsuitable as refusal:
        return Finding(claim=claim, holds=True, detail=str(refusal), unsuitable=True)
    except Ended as ended:
        return Finding(claim=claim, holds=False, detail=str(ended))
    except Exception as error:
        what = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        place = _raised_at(error, of) or _begins_at(of, method)
        return Finding(claim=claim, holds=False, detail=f"{what}{place}")
    kind, rest, detail = problem.partition(": ")
    if kind in ("note", "warning") and rest:
        return Finding(claim=claim, holds=True, detail=detail, warns=kind == "warning")
    return Finding(
        claim=claim, holds=not problem, detail=f"{problem}{_begins_at(of, method)}" if problem else ""
    )


def _raised_at(error: BaseException, of: type | None) -> str:
    """Return the innermost line of the class, or of a class that it is made from, that an error came through."""
    files = set() if of is None else {inspect.getsourcefile(part) for part in of.__mro__ if _is_plugin(part)}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in files:
            return f" ({Path(frame.filename).name}:{frame.lineno})"
    return ""


def _begins_at(of: type | None, method: str) -> str:
    """Return where a method of the class begins."""
    for part in of.__mro__ if of is not None else ():
        if method in vars(part) and _is_plugin(part):
            function = inspect.unwrap(vars(part)[method])
            return f" ({Path(function.__code__.co_filename).name}:{function.__code__.co_firstlineno})"
    return ""


def _is_plugin(part: type) -> bool:
    """Return whether a class is a strategy or scenario, and not the contract of either."""
    return issubclass(part, (Strategy, Scenario)) and part.__module__ != Strategy.__module__


__all__ = ["Ended", "Finding", "found"]
