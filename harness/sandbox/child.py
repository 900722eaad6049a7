"""What runs in the process of a sandboxed task: it confines itself, takes the task, runs it and answers stage
by stage.

A warm parent (`harness.processes.parent`) forks it, so tasks share nothing but libraries that were
loaded before any submitted code was read. Never imported outside.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sklearn  # noqa: F401  (looks around while it is loaded, which a process behind walls may not)

import harness.checks.conformance  # noqa: F401
from harness.sandbox.guard import arm, limit, mount_apart
from harness.sandbox.wire import Task, answers_frame, episode_of, packed, unpacked

_LARGEST_INPUT = 8 << 30
_NOT_AHEAD = ("scenarios", "leaderboards", "mlxtend")
"""Modules that are never imported on behalf of a strategy."""


def task(inward: int, outward: int) -> None:
    """Serve one task, in a process forked for it. What the strategy prints goes nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    incoming = os.fdopen(inward, "rb")

    def tell(message: bytes) -> None:
        while message:
            message = message[os.write(outward, message) :]

    def read(size: int) -> bytes:
        return incoming.read(size)

    setting = unpacked(read, largest=_LARGEST_INPUT).header
    scratch = Path(setting["scratch"])
    if setting["trusted"]:
        tempfile.tempdir = str(scratch)
        _serve(Task.of(unpacked(read, largest=_LARGEST_INPUT).header), scratch, read, tell, refuse=False)
        return
    try:
        if setting["apart"]:
            mount_apart(scratch, size_mib=setting["scratch_mib"], hidden=setting["hidden"])
        most = 256 if setting["apart"] else None
        limit(
            memory_mib=setting["memory_mib"],
            cpu_s=setting["cpu_s"],
            file_mib=setting["scratch_mib"],
            processes=most,
        )
        os.chdir(scratch)
    except OSError as error:
        tell(_ended("failed", f"cannot be confined: {error.strerror}"))
        return
    if setting["probe"]:
        tell(_ended("done"))
        return
    _serve(Task.of(unpacked(read, largest=_LARGEST_INPUT).header), scratch, read, tell)


def _ended(status: str, reason: str = "") -> bytes:
    return packed({"kind": "ended", "status": status, "reason": reason[:500]})


def _serve(
    task: Task,
    scratch: Path,
    read: Callable[[int], bytes],
    tell: Callable[[bytes], None],
    *,
    refuse: bool = True,
) -> None:
    from harness.errors import Diverged, Unsuitable

    _import_ahead(task)
    run = {"cell": _cell, "conformance": _conformance, "digest": _digest}[task.kind]
    ready = _prepared(task)
    arm(scratch, lambda sentence: tell(packed({"kind": "violation", "sentence": sentence})), refuse=refuse)
    status, reason = "done", ""
    try:
        for message in run(task, ready, scratch, read):
            tell(message)
    except Unsuitable as error:
        status, reason = "skipped", str(error)
    except Diverged as error:
        status, reason = "diverged", str(error)
    except MemoryError as error:
        status, reason = "out of memory", str(error) or "allocation failed"
    except BaseException as error:
        status, reason = "failed", f"{type(error).__name__}: {error}"
    tell(_ended(status, reason))


def _import_ahead(task: Task) -> None:
    """Load what the strategy imports before the hook is armed, for the same reason; never the strategy
    itself.
    """
    import torch

    torch.set_num_threads(task.threads)
    if task.source is None:
        from harness.plugins import find

        find("strategy", task.strategy)
        return
    names: list[str] = []
    for node in ast.walk(ast.parse(task.source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    for name in names:
        if name.partition(".")[0] not in _NOT_AHEAD:
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def _prepared(task: Task) -> Any:
    """Return the scenario that a task deals from, dealt under its seeds, so that its data are loaded before
    the hook is armed.
    """
    if task.kind == "cell":
        return None
    from harness.selection import configured

    os.environ.update(task.environment)
    scenario = configured("scenario", task.scenario)
    for seed in task.seeds or (0,):
        scenario.deal(seed)
    return scenario


def _made(task: Task) -> Any:
    from harness.parameters import validated
    from harness.plugins import find

    plugin = find("strategy", task.strategy, source=task.source)
    resolved = validated(plugin.cls, task.params)
    if task.exact and resolved != dict(task.params):
        raise ValueError(f"its parameters are {resolved}, not those submitted")
    return plugin.cls


def _cell(task: Task, _: Any, scratch: Path, read: Callable[[int], bytes]) -> Iterator[bytes]:
    from harness.cell.run import run_cell

    assert task.settings is not None

    def episodes() -> Iterator[Any]:
        query = None
        while True:
            frame = unpacked(read, largest=_LARGEST_INPUT)
            if frame.header["kind"] == "end":
                return
            episode = episode_of(frame, query)
            query = episode.query
            yield episode

    strategy = _made(task)(**task.params)
    own = scratch / "strategy"
    own.mkdir(exist_ok=True)
    for result in run_cell(strategy, episodes(), task.settings, scratch=own):
        yield answers_frame(result.answers)


def _conformance(task: Task, scenario: Any, scratch: Path, read: Callable[[int], bytes]) -> Iterator[bytes]:
    from harness.checks.conformance import check_strategy

    cls = _made(task)
    for finding in check_strategy(lambda: cls(**task.params), scenario, reveal=task.reveal):
        yield packed({"kind": "finding", **asdict(finding)})


def _digest(task: Task, scenario: Any, scratch: Path, read: Callable[[int], bytes]) -> Iterator[bytes]:
    from harness.checks.conformance import digest_of_last

    cls = _made(task)
    yield packed(
        {
            "kind": "digest",
            "digest": digest_of_last(lambda: cls(**task.params), scenario, task.seeds, reveal=task.reveal),
        }
    )


__all__ = ["task"]
