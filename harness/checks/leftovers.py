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
    libraries: what each module of a library holds under which name, and each class that it defines.
    """

    threads: dict[int, str]
    processes: dict[int, str]
    timers: dict[str, float]
    libraries: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]]


def traces() -> Traces:
    """Return what runs in this process now, and what the libraries that are loaded hold."""
    return Traces(threads=_threads(), processes=_processes(), timers=_timers(), libraries=dict(_libraries()))


def left(before: Traces) -> list[str]:
    """Return in words what is there now and was not there before."""
    found = [f"a thread ({name})" for number, name in _threads().items() if number not in before.threads]
    found += [
        f"a process ({name})" for number, name in _processes().items() if number not in before.processes
    ]
    found += [
        f"a timer ({name})" for name, seconds in _timers().items() if seconds and not before.timers.get(name)
    ]
    patched = [
        name
        for name, function, other in _replaced(before.libraries)
        if not _wrapped_by_its_own(name, function, other)
    ]
    found += [f"{name} replaced" for name in patched[:_MOST_NAMED]]
    found += (
        [f"{len(patched) - _MOST_NAMED} further functions replaced"] if len(patched) > _MOST_NAMED else []
    )
    return list(dict.fromkeys(found))


def _threads() -> dict[int, str]:
    return {thread.ident or 0: thread.name for thread in threading.enumerate()}


def _processes() -> dict[int, str]:
    return {child.pid: child.name() for child in psutil.Process().children(recursive=True)}


def _timers() -> dict[str, float]:
    return {name: signal.getitimer(getattr(signal, name))[0] for name in _TIMERS if hasattr(signal, name)}


def _libraries() -> Iterator[tuple[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]]]:
    """Yield copies of what the modules of the standard library and of installed packages hold, and of what
    their classes do.
    """
    roots = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
    for name, module in list(sys.modules.items()):
        if not isinstance(module, ModuleType) or not _is_library(module, roots):
            continue
        held = dict(vars(module))
        classes = {
            attribute: dict(vars(value))
            for attribute, value in held.items()
            if issubclass(type(value), type) and getattr(value, "__module__", "") == name
        }
        yield name, (held, classes)


def _replaced(
    before: Mapping[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]],
) -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted names of functions that are others now, with both; those that are gone stay out."""
    for name, (held, classes) in before.items():
        module = sys.modules.get(name)
        if not isinstance(module, ModuleType):
            continue
        yield from _others(name, held, vars(module))
        for attribute, own in classes.items():
            value = vars(module).get(attribute)
            if isinstance(value, type):
                yield from _others(f"{name}.{attribute}", own, vars(value))


def _others(owner: str, held: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the functions of one owner that are others now. There are a hundred thousand in all: an owner that
    holds the very same objects is passed over as a whole.
    """
    if len(held) == len(now) and all(map(operator.is_, held.values(), tuple(now.values()))):
        return
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
