"""What has tasks learned, one after another, each in a process of its own, and streams what they say to the
driver.

The worker itself runs no strategy and loads no torch: it fetches what a cell needs, has a process begun,
holds it to its limits and passes on what it says. So a limit, a crash or a kill ends that process alone, and
nothing that a strategy leaves behind outlives its cell.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.cell.sealing import Episode
from harness.cell.sessions import session_here
from harness.contracts import Status
from harness.errors import in_one_line
from harness.execution.away import Carried, OwnFolder, packed
from harness.processes.cell import PROGRESS_S, End, Order, scratch_of
from harness.processes.limits import LOOK_S, Limits, Stopped
from harness.processes.link import Gone, Inbox
from harness.processes.mapped import Mapped
from harness.processes.mapped import episodes as mapped_episodes
from harness.processes.messages import Episodes, Event, Heartbeat, Outcome, StageEnded, Started, Task
from harness.processes.out_of_memory import what_to_try
from harness.processes.workshop import Process, Workshop, open_workshop

HEARTBEAT_S = 5.0
_LONGEST_TAIL = 64 << 10
_LARGEST_LOG = 16 << 20
_PROBE = 1 << 20
"""Bytes that a disk has to take, or it is full."""


class Worker:
    """Actor: has cells learned one at a time, or a pack of them at once. path: where the driver finds
    modules, and cells do too.  away: on a node that does not see the folder of the store, the name of the run;
    its cells then lie in a folder of the worker's own.
    """

    def __init__(
        self, threads: int, *, path: Sequence[str] = (), away: str = "", workshop: Workshop | None = None
    ) -> None:
        self.threads = threads
        self._own = OwnFolder(away) if away else None
        sys.path += [place for place in path if place not in sys.path]
        self.workshop = workshop or open_workshop(threads)
        self._mapped: dict[str, Mapped] = {}

    def ready(self) -> int:
        """Return this process's id once the libraries are loaded."""
        self.workshop.wait_ready()
        return os.getpid()

    def run(
        self,
        task: Task,
        episodes: Sequence[Episodes],
        brought: Sequence[Carried] = (),
        progress_s: float = PROGRESS_S,
    ) -> Iterator[Event | Heartbeat | Outcome | Carried]:
        """Run one cell or pack in a process of its own; yield what it says, every finished stage before the
        next begins, and last its end.

        Args:
            task: the cell or pack.
            episodes: of every cell: a file of this machine, or references to every stage and query.
            brought: to a node that does not see the folder of the store: files that the cells continue from.
                Those that they write are yielded.
            progress_s: how often they say how far they are, at most.
        """
        folder = self._own.path if self._own else task.keep.parent
        try:
            for message in self._told(task, episodes, brought, progress_s):
                if isinstance(message, Outcome) and message.status is Status.FAILED:
                    yield replace(message, no_disk=_why_not_written(folder))
                else:
                    yield message
        except OSError as error:
            if not (why := _why_not_written(folder)):
                raise
            yield Outcome(
                status=Status.FAILED, reason=in_one_line(error), seconds=0.0, log_tail="", no_disk=why
            )

    def _told(
        self, task: Task, episodes: Sequence[Episodes], brought: Sequence[Carried], progress_s: float
    ) -> Iterator[Event | Heartbeat | Outcome | Carried]:
        order = Order(
            task=task,
            mapped=self._files(episodes),
            threads=self.threads,
            path=sys.path,
            progress_s=progress_s,
        )
        if self._own is None:
            yield from self._learned(order)
            return
        stages = {
            job.key: sum(1 for _ in mapped_episodes(path))
            for job, path in zip(task.jobs, order.mapped, strict=True)
        }
        with self._own.moved(task, brought) as here:
            jobs = {job.key: job for job in here.jobs}
            known: dict[Path, int] = {}
            for job in here.jobs:
                packed(job, known, read=lambda _: b"")
            for message in self._learned(replace(order, task=here)):
                if isinstance(message, StageEnded) and message.result.stage + 1 < stages[message.key]:
                    written = packed(jobs[message.key], known)
                    if written is not None:
                        yield written
                yield message

    def _learned(self, order: Order) -> Iterator[Any]:
        task = order.task
        if said := _changed(task):
            yield Outcome(status=Status.FAILED, reason=said, seconds=0.0, log_tail="")
            return
        for job in task.jobs:
            scratch_of(job).mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        process = self.workshop.begin(_ahead(task))
        limits = Limits(
            process.tree, timeout_s=task.timeout_s, memory_mib=task.memory_mib, processes=[process.root]
        )
        status, reason, lost = yield from self._attended(order, process, limits)
        for job in task.jobs:
            shutil.rmtree(scratch_of(job), ignore_errors=True)
        yield Outcome(
            status=status,
            reason=reason,
            seconds=time.perf_counter() - started,
            log_tail=tail(task.keep / "log.txt"),
            peak_mib=limits.peak_mib,
            lost=lost,
        )

    def _attended(
        self, order: Order, process: Process, limits: Limits
    ) -> Generator[Any, None, tuple[Status, str, bool]]:
        """Give the order, pass on what comes, hold the process to its limits, and see it to its end."""
        inbox = Inbox(process.link)
        log = order.task.keep / "log.txt"
        end: End | None = None
        lost = False
        try:
            process.link.send(order)
            for job in order.task.jobs:
                yield Started(key=job.key, session=session_here(job.settings.session))
            beat = time.monotonic()
            while end is None:
                limits.hold()
                bound(log)
                message = inbox.next(LOOK_S)
                if isinstance(message, End):
                    end = message
                elif message is not None and (reply := self._answer(message)) is not None:
                    process.link.send(reply)
                elif message is not None or time.monotonic() - beat > HEARTBEAT_S:
                    yield Heartbeat() if message is None else message
                    beat = time.monotonic()
        except Stopped as stopped:
            advice = f"; {what_to_try(order.task, 'host')}" if stopped.status is Status.OUT_OF_MEMORY else ""
            end, lost = End(stopped.status, f"{stopped.reason}{advice}"), stopped.lost
        except Gone:
            pass
        finally:
            how = process.ended()
            process.link.close_outward()
            inbox.close()
            process.link.close_inward()
        return (end.status, end.reason, lost) if end else (Status.FAILED, f"its process {how}", True)

    def _answer(self, message: Any) -> Any:
        """Return what the process is told in answer to a message; here nothing (None): it is passed on to the
        driver.
        """

    def _files(self, episodes: Sequence[Episodes]) -> list[str]:
        """Return files with the episodes of every cell; those that this worker wrote itself for the last task
        are used again.
        """
        before, self._mapped = self._mapped, {}
        files = []
        for own in episodes:
            if isinstance(own, str):
                files.append(own)
                continue
            name = "".join(_name(part) for pair in own for part in pair)
            if name not in self._mapped:
                self._mapped[name] = before.pop(name) if name in before else Mapped(_fetched(own))
            files.append(self._mapped[name].path)
        for mapped in before.values():
            mapped.close()
        return files


def _why_not_written(folder: Path) -> str:
    """Say why nothing can be written to a folder, because its disk is full or read-only; empty where it can."""
    probe = folder / f"probe-{os.getpid()}"
    try:
        probe.write_bytes(bytes(_PROBE))
    except OSError as error:
        return f"its disk cannot be written ({error.strerror}: {folder})"
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return ""


def tail(path: Path, lines: int = 200) -> str:
    """Return the last lines of a log, at most 64 KiB of them, empty where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LONGEST_TAIL))
        content = file.read(_LONGEST_TAIL)
    return "\n".join(content.decode("utf-8", errors="replace").splitlines()[-lines:])


def bound(log: Path) -> None:
    """Cut a log that has grown beyond 16 MiB to its last 64 KiB; what is written to it meanwhile goes on at
    its end.
    """
    try:
        size = log.stat().st_size
        if size <= _LARGEST_LOG:
            return
        kept = tail(log)
        os.truncate(log, 0)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"[{(size - len(kept)) / 2**20:.0f} MiB of the log were dropped here]\n{kept}\n")
    except OSError:  # it is not there, or the disk is full: neither is worth a cell
        return


def _ahead(task: Task) -> tuple[str, ...]:
    """Return the modules to be loaded before the process is forked: that of the strategy, and what it or its
    network needs besides.
    """
    from harness.plugins import registered

    job = task.jobs[0]
    modules = [] if job.source is not None else [registered("strategy")[job.strategy].module]
    return (*modules, *job.ahead, *(["timm"] if "timm" in job.settings.budget.backbone else []))


def _changed(task: Task) -> str:
    """Say whether what a strategy, a component or a network from a file imports is no longer what its cells were
    planned with; empty where it is.
    """
    from harness.code import by_path
    from harness.protocol import fingerprint
    from harness.protocol.cells import code_of_files

    job = task.jobs[0]
    folder = by_path.folder_of(job.strategy.rpartition(":")[0]) if job.source is not None else ""
    lent = code_of_files(job.settings.budget, job.components)
    changed = [name for name, code in lent.items() if job.lent_code and code not in job.lent_code]
    if folder and job.code and fingerprint.of_code("", job.source, folder) != job.code:
        changed.append(job.strategy)
    return (
        f"{Path(changed[0]).name}, or a module that it imports, changed after the run began: run the same "
        "command again"
        if changed
        else ""
    )


def _fetched(own: Any) -> list[Episode]:
    import ray

    return [Episode(*ray.get([stage, query])) for stage, query in own]


def _name(reference: Any) -> str:
    return str(reference.hex()) if hasattr(reference, "hex") else f"{id(reference):x} "


__all__ = ["HEARTBEAT_S", "Worker", "bound", "tail"]
