"""What a cell leaves behind in its process: threads, processes, timers, and functions of libraries that it
has replaced.

Every cell has a process of its own, so none of it reaches another cell of a run. It does reach whoever uses
the strategy elsewhere: in a notebook, in another harness, after a second `learn`.
"""

from __future__ import annotations

import operator
import signal
import sys
import sysconfig
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import psutil

_FUNCTIONS = (FunctionType, BuiltinFunctionType)
_TIMERS = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Traces:
    """What can be left behind, as it is now. threads: by number, with names.  processes: by id, with names.
    libraries: what each module of a library, and each class that it defines, holds under which name.
    """

    threads: dict[int, str]
    processes: dict[int, str]
    timers: dict[str, float]
    libraries: dict[str, dict[str, Any]]


def traces() -> Traces:
    """Return what runs in this process now, and what the libraries that are loaded hold."""
    return Traces(
        threads={thread.ident or 0: thread.name for thread in threading.enumerate()},
        processes={child.pid: child.name() for child in psutil.Process().children(recursive=True)},
        timers={
            name: signal.getitimer(getattr(signal, name))[0] for name in _TIMERS if hasattr(signal, name)
        },
        libraries=dict(_libraries()),
    )


def left(before: Traces, after: Traces) -> list[str]:
    """Return in words what is there after and was not there before."""
    found = [f"a thread ({name})" for number, name in after.threads.items() if number not in before.threads]
    found += [
        f"a process ({name})" for number, name in after.processes.items() if number not in before.processes
    ]
    found += [
        f"a timer ({name})"
        for name, seconds in after.timers.items()
        if seconds and not before.timers.get(name)
    ]
    patched = [
        name
        for name, function, other in _replaced(before.libraries, after.libraries)
        if not _wrapped_by_its_own(name, function, other)
    ]
    found += [f"{name} replaced" for name in patched[:_MOST_NAMED]]
    found += (
        [f"{len(patched) - _MOST_NAMED} further functions replaced"] if len(patched) > _MOST_NAMED else []
    )
    return list(dict.fromkeys(found))


def _libraries() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield copies of what the modules of the standard library and of installed packages hold, and of what
    their classes do.
    """
    roots = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
    for name, module in list(sys.modules.items()):
        if not isinstance(module, ModuleType) or not _is_library(module, roots):
            continue
        held = dict(vars(module))
        yield name, held
        for attribute, value in held.items():
            if issubclass(type(value), type) and getattr(value, "__module__", "") == name:
                yield f"{name}.{attribute}", dict(vars(value))


def _replaced(
    before: Mapping[str, dict[str, Any]], after: Mapping[str, dict[str, Any]]
) -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted names of functions that are others now, with both; those that are gone stay out.

    There are a hundred thousand; so that owners which hold the very same objects are passed over as a whole.
    """
    for owner, held in before.items():
        now = after.get(owner, held)
        if len(held) == len(now) and all(map(operator.is_, held.values(), now.values())):
            continue
        for name, function in held.items():
            if type(function) in _FUNCTIONS and now.get(name, function) is not function:
                yield f"{owner}.{name}", function, now[name]


def _wrapped_by_its_own(name: str, function: Any, other: Any) -> bool:
    """Whether the package that a function is of has wrapped it itself, as torch does with `step` of
    optimisers for its profiler.
    """
    package = getattr(sys.modules.get(name.partition(".")[0]), "__file__", None)
    code = getattr(other, "__code__", None)
    if getattr(other, "__wrapped__", None) is not function or package is None or code is None:
        return False
    return Path(code.co_filename).is_relative_to(Path(package).parent)


def _is_library(module: ModuleType, roots: tuple[str, ...]) -> bool:
    """Whether it is of the standard library or of an installed package, wherever on the search path that is."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return module.__name__ in sys.builtin_module_names
    return file.startswith(roots) or "site-packages" in file or "dist-packages" in file


__all__ = ["Traces", "left", "traces"]
