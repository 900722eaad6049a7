"""What runs in the process of a sandboxed task: it confines itself, takes the task, runs it and answers stage
by stage.

A warm parent (`harness.processes.parent`) forks it, so tasks share nothing but libraries that were
loaded before any submitted code was read. Never imported outside.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sklearn  # noqa: F401  (looks around while it is loaded, which a process behind walls may not)

import harness.checks.conformance  # noqa: F401
from harness.sandbox.guard import arm, limit, mount_apart
from harness.sandbox.seccomp import install
from harness.sandbox.wire import Frame, Task, answers_frame, episode_of, packed, unpacked

_LARGEST_INPUT = 8 << 30
_AHEAD = {"avalanche": "avalanche.training", "matplotlib": "matplotlib.pyplot"}
"""Libraries that open sockets or start processes while they are loaded, and the module that does."""


class _Line:
    """The two ends of the way out."""

    def __init__(self, inward: int, outward: int) -> None:
        self.incoming, self.outward = os.fdopen(inward, "rb"), outward

    def next(self) -> Frame:
        """Return the next message."""
        return unpacked(self.incoming.read, largest=_LARGEST_INPUT)

    def tell(self, message: bytes) -> None:
        """Send a message."""
        while message:
            message = message[os.write(self.outward, message) :]

    def stand(self, *, filtered: bool) -> None:
        """Say that the walls stand; with the filter among them, put it up and hand its listener out.

        Raises:
            OSError: this machine has no filter.
        """
        ready = packed({"kind": "ready"})
        if not filtered:
            self.tell(ready)
            return
        listener = install()
        with socket.socket(fileno=os.dup(self.outward)) as line:
            socket.send_fds(line, [ready], [listener])
        os.close(listener)

    def end(self, status: str, reason: str = "") -> None:
        """Say how it ended."""
        self.tell(packed({"kind": "ended", "status": status, "reason": reason[:500]}))


def task(inward: int, outward: int) -> None:
    """Serve one task, in a process forked for it. What the strategy prints goes nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    line = _Line(inward, outward)
    setting = line.next().header
    scratch = Path(setting["scratch"])
    if setting["trusted"]:
        tempfile.tempdir = str(scratch)
        _serve(line, scratch, filtered=False, refuse=False)
        return
    try:
        _confine(setting, scratch)
    except OSError as error:
        line.end("failed", f"cannot be confined: {error.strerror}")
    else:
        if setting["probe"]:
            with contextlib.suppress(OSError):
                line.stand(filtered=True)
            line.end("done")
        else:
            _serve(line, scratch, filtered=setting["filtered"], refuse=True)


def _confine(setting: Mapping[str, Any], scratch: Path) -> None:
    if setting["apart"]:
        mount_apart(scratch, size_mib=setting["scratch_mib"], hidden=setting["hidden"])
    limit(
        memory_mib=setting["memory_mib"],
        cpu_s=setting["cpu_s"],
        file_mib=setting["scratch_mib"],
        processes=256 if setting["apart"] else None,
    )
    os.chdir(scratch)


def _serve(line: _Line, scratch: Path, *, filtered: bool, refuse: bool) -> None:
    from harness.errors import Diverged, Unsuitable

    task = Task.of(line.next().header)
    _import_ahead(task)
    run = {"cell": _cell, "conformance": _conformance, "digest": _digest}[task.kind]
    ready = _prepared(task)
    try:
        line.stand(filtered=filtered)
    except OSError as error:
        line.end("failed", f"cannot be confined: {error.strerror}")
        return
    arm(
        scratch,
        lambda sentence: line.tell(packed({"kind": "violation", "sentence": sentence})),
        refuse=refuse,
    )
    status, reason = "done", ""
    try:
        for message in run(task, ready, scratch, line):
            line.tell(message)
    except Unsuitable as error:
        status, reason = "skipped", str(error)
    except Diverged as error:
        status, reason = "diverged", str(error)
    except MemoryError as error:
        status, reason = "out of memory", str(error) or "allocation failed"
    except BaseException as error:
        status, reason = "failed", f"{type(error).__name__}: {error}"
    line.end(status, reason)


def _import_ahead(task: Task) -> None:
    """Load what looks around while it is loaded before the walls stand: an installed strategy, or of the libraries of
    `_AHEAD` those that a source names. All else that it names is loaded behind them, with itself.
    """
    import torch

    torch.set_num_threads(task.threads)
    if task.source is None:
        from harness.plugins import find

        find("strategy", task.strategy)
        return
    named: set[str] = set()
    for node in ast.walk(ast.parse(task.source)):
        if isinstance(node, ast.Import):
            named |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            named.add(node.module.partition(".")[0])
    for library in named & _AHEAD.keys():
        with contextlib.suppress(Exception):
            importlib.import_module(_AHEAD[library])


def _prepared(task: Task) -> Any:
    """Return the scenario that a task deals from, dealt under its seeds, so that its data are loaded before
    the hook is armed.
    """
    if task.kind == "cell":
        return None
    from harness.selection import configured

    scenario = configured("scenario", task.scenario)
    for seed in task.seeds or (0,):
        scenario.deal(seed)
    return scenario


def _made(task: Task) -> Any:
    from harness.parameters import validated
    from harness.plugins import find
    from harness.selection import as_recorded

    plugin = find("strategy", task.strategy, source=task.source)
    resolved = validated(plugin.cls, task.params)
    if task.exact and as_recorded(plugin.cls, resolved) != as_recorded(plugin.cls, task.params):
        raise ValueError(f"its parameters are {resolved}, not those submitted")
    return plugin.cls


def _cell(task: Task, _: Any, scratch: Path, line: _Line) -> Iterator[bytes]:
    from harness.cell.run import run_cell

    assert task.settings is not None

    def episodes() -> Iterator[Any]:
        query = None
        while True:
            frame = line.next()
            if frame.header["kind"] == "end":
                return
            episode = episode_of(frame, query)
            query = episode.query
            yield episode

    cls, given = _made(task), episodes()
    own, keep = scratch / "strategy", None
    own.mkdir(exist_ok=True)
    if task.interrupted:
        keep = scratch / "kept"
        keep.mkdir()
        first = next(given)
        next(run_cell(cls(**task.params), [first], task.settings, scratch=own, keep=keep))
        given = itertools.chain([first], given)
    for result in run_cell(cls(**task.params), given, task.settings, scratch=own, keep=keep):
        yield answers_frame(result.answers)


def _conformance(task: Task, scenario: Any, scratch: Path, line: _Line) -> Iterator[bytes]:
    from harness.checks.conformance import check_strategy

    cls = _made(task)
    for finding in check_strategy(lambda: cls(**task.params), scenario, reveal=task.reveal):
        yield packed({"kind": "finding", **asdict(finding)})


def _digest(task: Task, scenario: Any, scratch: Path, line: _Line) -> Iterator[bytes]:
    from harness.checks.conformance import digest_of_last

    cls = _made(task)
    yield packed(
        {
            "kind": "digest",
            "digest": digest_of_last(lambda: cls(**task.params), scenario, task.seeds, reveal=task.reveal),
        }
    )


__all__ = ["task"]
