"""Outside the sandbox: start it, feed it, watch it, and believe nothing it says without a check."""

from __future__ import annotations

import os
import select
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from harness.cell.sealing import Episode
from harness.contracts import Status, StoredPrediction
from harness.processes.fork_server import ForkServer, Place, kill
from harness.processes.limits import Limits, Stopped, own_mib
from harness.processes.workshop import surroundings
from harness.sandbox.arrays import LARGEST_UNPACKED
from harness.sandbox.wire import BadFrame, Frame, Task, answers_of, episode_frame, packed, unpacked

if TYPE_CHECKING:
    from harness.sandbox.seccomp import Listener

_POLL_S = 0.05
_MOST_TOLD = 100
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
    """Return what this machine cannot keep submitted code from, in sentences; nothing where it lends
    namespaces and filters.
    """
    found = walls_here()
    lacks = []
    if not found.namespaces:
        lacks.append(
            "this machine lends no namespaces (unshare), so only an audit hook keeps submitted code from "
            "other files: run it where nothing is to be lost"
        )
    if not found.filtered:
        lacks.append(
            "this machine has no filter of system calls whose verdicts are told outside (seccomp, Linux 5.7 "
            "on x86_64 or aarch64), so that submitted code can silence what tells of its attempts"
        )
    return lacks


def run(task: Task, episodes: Iterable[Episode] = (), bounds: Bounds = Bounds()) -> Result:
    """Run a task in a sandbox of its own. Episodes are handed over one by one, each after the answers to the
    one before.
    """
    gathered = _Gathered(task.kind)
    with _Process(sandbox_here(trusted=bounds.trusted), bounds) as process:
        try:
            process.send(packed(task.header()))
            while not gathered.ready and gathered.ended is None:
                gathered.take(process.receive())
            process.limits.most = 0  # what libraries start while they load ahead is not the submission's
            if task.kind == "cell":
                _hand_over(process, episodes, gathered)
            while gathered.ended is None:
                gathered.take(process.receive())
            status, reason = gathered.ended
        except Stopped as stopped:
            status, reason = stopped.status, stopped.reason
        except BadFrame as error:
            status, reason = Status.FAILED, f"its process sent {error}"
        return gathered.result(status, reason, process.tried)


def _hand_over(process: _Process, episodes: Iterable[Episode], gathered: _Gathered) -> None:
    known: Any = None
    for episode in episodes:
        if gathered.ended is not None:
            return
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
    """What has come back so far of a task of this kind."""

    kind: str
    answers: list[StoredPrediction] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    digest: str = ""
    ready: bool = False
    ended: tuple[Status, str] | None = None

    def take(self, frame: Frame, *, only: int | None = None) -> None:
        """Take in a message; answers must be of the stage that was asked."""
        match frame.header.get("kind"):
            case "ready":
                self.ready = True
            case "answers":
                found = answers_of(frame)
                if any(answer.stage != only for answer in found):
                    raise BadFrame("answers to a stage that was not asked")
                self.answers += found
            case "finding" if self.kind == "conformance":
                said = {name: str(frame.header.get(name)) for name in ("claim", "detail")}
                self.findings.append(
                    {
                        **said,
                        **{name: frame.header.get(name) is True for name in ("holds", "unsuitable", "warns")},
                    }
                )
            case "digest" if self.kind == "digest":
                self.digest = str(frame.header.get("digest"))[:64]
            case "violation":
                if len(self.violations) < _MOST_TOLD:
                    self.violations.append(str(frame.header.get("sentence"))[:300])
            case "ended" if frame.header.get("status") in set(Status):
                self.ended = Status(frame.header["status"]), str(frame.header.get("reason"))[:500]
            case _:
                raise BadFrame(f"a message of no known kind: {str(frame.header)[:100]}")

    def result(self, status: Status, reason: str, tried: Sequence[str]) -> Result:
        """Return everything as a result; `tried` is what was seen from outside."""
        return Result(
            status=status,
            reason=reason,
            answers=tuple(self.answers),
            findings=tuple(self.findings),
            digest=self.digest,
            violations=tuple(dict.fromkeys([*self.violations, *tried])),
        )


class _Sandbox(ForkServer):
    """The parent of all sandboxes; with `apart` in namespaces of its own, with `filtered` its tasks have a
    filter, with `trusted` no walls.

    home: a folder that holds the scratch folder of the task.
    """

    def __init__(self, *, apart: bool = False, filtered: bool = False, trusted: bool = False) -> None:
        self.apart, self.filtered, self.trusted = apart, filtered, trusted
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
        self.filtered = probe or sandbox.filtered
        self.listener: Listener | None = None
        self._refused: dict[str, None] = {}
        theirs_in, self.inward = os.pipe()
        self.outward, theirs_out = socket.socketpair()
        try:
            sandbox.line.ask(theirs_in, theirs_out.fileno())
        except OSError:
            sandbox.close()
            raise
        finally:
            os.close(theirs_in)
            theirs_out.close()
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
                    "filtered": self.filtered,
                    "hidden": unseen,
                    "probe": probe,
                }
            )
        )

    @property
    def tried(self) -> list[str]:
        """What was seen from outside: calls that the kernel refused, and processes besides the task's own."""
        self._listen()
        started = ["starts a process"] if self.limits.most > 1 else []
        return [*self._refused, *started]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.inward)
        self.outward.close()
        if self.listener is not None:
            self.listener.close()
        self.sandbox.settle()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def send(self, message: bytes) -> None:
        """Send a message; raise `Stopped` where the process does not take it in time."""
        rest = memoryview(message)
        while rest:
            if self._is_ready(writing=self.inward):
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
            if not self._is_ready(reading=self.outward.fileno()):
                continue
            part, files, _, _ = socket.recv_fds(self.outward, min(size, 1 << 20), 1)
            self._take(files)
            if not part:
                raise Stopped(Status.FAILED, "its process died")
            parts.append(part)
            size -= len(part)
            self.came += len(part)
        return b"".join(parts)

    def _is_ready(self, *, reading: int | None = None, writing: int | None = None) -> bool:
        """Wait a little until one can read or write; hold the limits and hear what is tried meanwhile."""
        self.limits.hold()
        calls = [] if self.listener is None else [self.listener.descriptor]
        read = calls if reading is None else [*calls, reading]
        came, free, _ = select.select(read, [] if writing is None else [writing], [], _POLL_S)
        if calls and calls[0] in came:
            self._listen()
        return reading in came or bool(free)

    def _listen(self) -> None:
        if self.listener is not None:
            self._refused |= dict.fromkeys(self.listener.refused())

    def _take(self, files: Sequence[int]) -> None:
        """Take the listener, which comes before any submitted code runs; whatever is sent later is closed."""
        from harness.sandbox.seccomp import Listener

        for file in files:
            if self.filtered and self.listener is None:
                self.listener = Listener(file)
            else:
                os.close(file)


class Walls(NamedTuple):
    """What the kernel of this machine holds submitted code with. filtered: its system calls."""

    namespaces: bool
    filtered: bool


_OPEN = Walls(namespaces=False, filtered=False)
_sandboxes: dict[tuple[Walls, bool], _Sandbox] = {}
"""Parents by their walls, and whether their tasks are trusted."""


def sandbox_here(*, trusted: bool = False) -> _Sandbox:
    """Return a parent that is well, started where there is none."""
    walls = _OPEN if trusted else walls_here()
    found = _sandboxes.get((walls, trusted))
    if found is None or not found.is_well:
        found = _Sandbox(apart=walls.namespaces, filtered=walls.filtered, trusted=trusted)
        _sandboxes[walls, trusted] = found
    return found


@cache
def walls_here() -> Walls:
    """Try it: have a process confine itself and do nothing else."""
    if not sys.platform.startswith("linux"):
        return _OPEN
    return (shutil.which("unshare") and _tried(apart=True)) or _tried(apart=False) or _OPEN


def _tried(*, apart: bool) -> Walls | None:
    sandbox = _Sandbox(apart=apart)
    try:
        with _Process(sandbox, Bounds(), probe=True) as process:
            while (said := process.receive().header)["kind"] != "ended":
                pass
            stands, filtered = said["status"] == Status.DONE, process.listener is not None
    except (Stopped, BadFrame, OSError):
        stands, filtered = False, False
    if not stands:
        sandbox.close()
        return None
    walls = Walls(namespaces=apart, filtered=filtered)
    sandbox.filtered = filtered
    _sandboxes[walls, False] = sandbox
    return walls


__all__ = ["Bounds", "Result", "lacking", "run"]
