"""Outside the sandbox: start it, feed it, watch it, and believe nothing it says without a check."""

from __future__ import annotations

import os
import select
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.cell.sealing import Episode
from harness.contracts import Status, StoredPrediction
from harness.processes.fork_server import ForkServer, Place, kill
from harness.processes.limits import Limits, Stopped, own_mib
from harness.processes.workshop import surroundings
from harness.sandbox.arrays import LARGEST_UNPACKED
from harness.sandbox.wire import BadFrame, Frame, Task, answers_of, episode_frame, packed, unpacked

_POLL_S = 0.05
_UNSHARE = (
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    "--ipc",
    "--uts",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the sandbox may use, and the folders whose content it must not see.

    trusted: the user's own code, on the user's own machine: no walls, and what it tries is told, not refused.
    """

    timeout_s: float = 600.0
    memory_mib: int = 4096
    scratch_mib: int = 256
    hidden: Sequence[Path] = ()
    trusted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How it went. answers: of a cell, in order.  findings: of conformance.  digest: of a digest.
    violations: what was tried and is not allowed.
    """

    status: Status
    reason: str
    answers: tuple[StoredPrediction, ...] = ()
    findings: tuple[dict[str, Any], ...] = ()
    digest: str = ""
    violations: tuple[str, ...] = ()


def lacking() -> list[str]:
    """Return what this machine cannot keep submitted code from, in sentences; nothing where namespaces are
    lent.
    """
    if lends_namespaces():
        return []
    return [
        "this machine lends no namespaces (unshare), so only an audit hook keeps submitted code from the "
        "network and from other files: "
        "run it where nothing is to be lost"
    ]


def run(task: Task, episodes: Iterable[Episode] = (), bounds: Bounds = Bounds()) -> Result:
    """Run a task in a sandbox of its own. Episodes are handed over one by one, each after the answers to the
    one before.
    """
    gathered = _Gathered()
    with _Process(sandbox_here(trusted=bounds.trusted), bounds) as process:
        try:
            process.send(packed(task.header()))
            if task.kind == "cell":
                _hand_over(process, episodes, gathered)
            while gathered.ended is None:
                gathered.take(process.receive())
        except Stopped as stopped:
            return gathered.result(stopped.status, stopped.reason, process.children_seen)
        except BadFrame as error:
            return gathered.result(Status.FAILED, f"its process sent {error}", process.children_seen)
    status, reason = gathered.ended
    return gathered.result(status, reason, process.children_seen)


def _hand_over(process: _Process, episodes: Iterable[Episode], gathered: _Gathered) -> None:
    known: Any = None
    for episode in episodes:
        process.send(episode_frame(episode, query_is_known=episode.query is known))
        known = episode.query
        stage = episode.stage.index
        while not any(answer.stage == stage and answer.step is None for answer in gathered.answers):
            gathered.take(process.receive(), only=stage)
            if gathered.ended is not None:
                return
    process.send(packed({"kind": "end"}))


@dataclass(slots=True)
class _Gathered:
    """What has come back so far."""

    answers: list[StoredPrediction] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    digest: str = ""
    ended: tuple[Status, str] | None = None

    def take(self, frame: Frame, *, only: int | None = None) -> None:
        """Take in a message; answers must be of the stage that was asked."""
        match frame.header.get("kind"):
            case "answers":
                found = answers_of(frame)
                if any(answer.stage != only for answer in found):
                    raise BadFrame("answers to a stage that was not asked")
                self.answers += found
            case "finding":
                said = {name: str(frame.header.get(name)) for name in ("claim", "detail")}
                self.findings.append(
                    {
                        **said,
                        **{name: frame.header.get(name) is True for name in ("holds", "unsuitable", "warns")},
                    }
                )
            case "digest":
                self.digest = str(frame.header.get("digest"))[:64]
            case "violation":
                self.violations.append(str(frame.header.get("sentence"))[:300])
            case "ended" if frame.header.get("status") in set(Status):
                self.ended = Status(frame.header["status"]), str(frame.header.get("reason"))[:500]
            case _:
                raise BadFrame(f"a message of no known kind: {str(frame.header)[:100]}")

    def result(self, status: Status, reason: str, children: int) -> Result:
        """Return everything as a result."""
        started = ["starts a process"] if children else []
        return Result(
            status=status,
            reason=reason,
            answers=tuple(self.answers),
            findings=tuple(self.findings),
            digest=self.digest,
            violations=tuple(dict.fromkeys([*self.violations, *started])),
        )


class _Sandbox(ForkServer):
    """The parent of all sandboxes; with `apart` in namespaces of its own, with `trusted` without walls.

    home: a folder that holds the scratch folder of the task.
    """

    def __init__(self, *, apart: bool = False, trusted: bool = False) -> None:
        self.apart, self.trusted = apart, trusted
        self.home = Path(tempfile.mkdtemp(prefix="owb-sandbox-"))
        scratch = str(self.home / "scratch")
        places = dict.fromkeys(("HOME", "TMPDIR", "OWB_CACHE"), scratch)
        told = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", **places}
        place = Place(self.home, told, prefix=_UNSHARE if apart else (), apart=True)
        if trusted:
            place = Place(Path.cwd(), surroundings(1))
        super().__init__("harness.sandbox.child:task", place)

    def settle(self) -> None:
        """Kill what is left of the task and wait until it is gone; where it does not go, end the parent too."""
        kill(self.tasks())
        try:
            self.line.ended()
        except OSError:
            self.close()

    def close(self) -> None:
        """End it and everything in it, and clear its folder away."""
        super().close()
        shutil.rmtree(self.home, ignore_errors=True)


class _Process:
    """The process of one task with its pipes; a context manager that leaves nothing of it running."""

    def __init__(self, sandbox: _Sandbox, bounds: Bounds, *, probe: bool = False) -> None:
        self.sandbox = sandbox
        self.scratch = sandbox.home / "scratch"
        self.scratch.mkdir(exist_ok=True)
        self.may_send, self.came = LARGEST_UNPACKED, 0
        theirs_in, self.inward = os.pipe()
        self.outward, theirs_out = os.pipe()
        try:
            sandbox.line.ask(theirs_in, theirs_out)
        except OSError:
            sandbox.close()
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self.limits = Limits(
            sandbox.tasks,
            timeout_s=bounds.timeout_s,
            memory_mib=bounds.memory_mib,
            every=_POLL_S,
            measure=own_mib,
        )
        os.set_blocking(self.inward, False)
        limits = {
            "scratch_mib": bounds.scratch_mib,
            "memory_mib": bounds.memory_mib,
            "cpu_s": int(bounds.timeout_s * 8) + 60,
        }
        unseen = [str(folder) for folder in bounds.hidden]
        self.send(
            packed(
                {
                    **limits,
                    "scratch": str(self.scratch),
                    "apart": sandbox.apart,
                    "trusted": sandbox.trusted,
                    "hidden": unseen,
                    "probe": probe,
                }
            )
        )

    @property
    def children_seen(self) -> int:
        """How many processes there were besides the task's own."""
        return max(0, self.limits.most - 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.inward)
        os.close(self.outward)
        self.sandbox.settle()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def send(self, message: bytes) -> None:
        """Send a message; raise `Stopped` where the process does not take it in time."""
        rest = memoryview(message)
        while rest:
            self.limits.hold()
            if select.select([], [self.inward], [], _POLL_S)[1]:
                try:
                    rest = rest[os.write(self.inward, rest) :]
                except BrokenPipeError:
                    return  # it ended; what it said last is still to be read

    def receive(self) -> Frame:
        """Return the next message.

        Raises:
            Stopped: none comes in time.
            BadFrame: it is none, or with it the task has sent more than a submission may hold.
        """
        self.came = 0
        frame = unpacked(self._read, largest=self.may_send)
        self.may_send -= max(self.came, sum(array.nbytes for array in frame.arrays.values()))
        if self.may_send < 0:
            raise BadFrame(f"more than {LARGEST_UNPACKED >> 20} MiB in all")
        return frame

    def _read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            self.limits.hold()
            if not select.select([self.outward], [], [], _POLL_S)[0]:
                continue
            part = os.read(self.outward, min(size, 1 << 20))
            if not part:
                raise Stopped(Status.FAILED, "its process died")
            parts.append(part)
            size -= len(part)
            self.came += len(part)
        return b"".join(parts)


_sandboxes: dict[str, _Sandbox] = {}
"""Parents by their walls: "trusted" for none, "hook", "namespaces"."""


def sandbox_here(*, trusted: bool = False) -> _Sandbox:
    """Return a parent that is well, started where there is none."""
    apart = not trusted and lends_namespaces()
    walls = "trusted" if trusted else "namespaces" if apart else "hook"
    if walls not in _sandboxes or not _sandboxes[walls].is_well:
        _sandboxes[walls] = _Sandbox(apart=apart, trusted=trusted)
    return _sandboxes[walls]


@cache
def lends_namespaces() -> bool:
    """Try it: have a process confine itself and do nothing else."""
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        return False
    sandbox = _Sandbox(apart=True)
    try:
        with _Process(sandbox, Bounds(), probe=True) as process:
            lends = process.receive().header.get("status") == Status.DONE
    except (Stopped, BadFrame, OSError):
        lends = False
    if lends:
        _sandboxes["namespaces"] = sandbox
    else:
        sandbox.close()
    return lends


__all__ = ["Bounds", "Result", "lacking", "run"]
