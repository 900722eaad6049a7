"""The processes of a run: `Worker` has tasks learned one after another, each in a process of its own; `Mailbox` carries their events.

The worker itself runs no strategy and loads no torch: it fetches what a cell needs, has a process begun, holds it to its limits and passes
on what it says. So a limit, a crash or a kill ends that process alone, and nothing that a strategy leaves behind outlives its cell.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.contracts import Status
from harness.messages import Episodes, Event, Outcome, Progressed, Started, Task
from harness.out_of_memory import what_to_try
from harness.processes.cell import End, Order, scratch_of
from harness.processes.limits import LOOK_S, Limits, Stopped
from harness.processes.link import Gone, Inbox
from harness.processes.mapped import Mapped
from harness.processes.workshop import Process, Workshop, open_workshop
from harness.sealing import Episode
from harness.sessions import session_here

_LONGEST_TAIL = 64 << 10


class Mailbox:
    """Actor: takes in what workers report, for the driver to collect."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def post(self, event: Event) -> None:
        """Take in an event for the driver."""
        self.events.append(event)

    def drain(self) -> list[Event]:
        """Return the events since the last call; of progress, only the newest of every cell."""
        events, self.events = self.events, []
        newest = {event.key: event for event in events if isinstance(event, Progressed)}
        return [event for event in events if not isinstance(event, Progressed) or newest[event.key] is event]


class Worker:
    """Actor: has cells learned one at a time, or a pack of them at once. path: where the driver finds modules, and cells do too."""

    def __init__(self, threads: int, *, path: Sequence[str] = (), workshop: Workshop | None = None) -> None:
        self.threads = threads
        sys.path += [place for place in path if place not in sys.path]
        self.workshop = workshop or open_workshop(threads)
        self._mapped: dict[str, Mapped] = {}
        self._posted: list[Any] = []

    def ready(self) -> None:
        """Return once the libraries are loaded."""
        self.workshop.wait_ready()

    def run(self, task: Task, episodes: Sequence[Episodes], mailbox: Any) -> Outcome:
        """Run one cell or pack in a process of its own, every finished stage of a cell posted to `mailbox` before the next begins.

        Args:
            task: the cell or pack.
            episodes: of every cell: a file of this machine, or references to every stage and query.
            mailbox: handle of the `Mailbox`.
        """
        order = Order(task=task, mapped=self._files(episodes), threads=self.threads, path=sys.path)
        outcome = self._learned(order, mailbox)
        if self._posted:
            import ray

            ray.get(self._posted)
            self._posted.clear()
        return outcome

    def _learned(self, order: Order, mailbox: Any) -> Outcome:
        task = order.task
        if said := _changed(task):
            return Outcome(status=Status.FAILED, reason=said, seconds=0.0, log_tail="")
        for job in task.jobs:
            scratch_of(job).mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        process = self.workshop.begin(_ahead(task))
        limits = Limits(process.tree, timeout_s=task.timeout_s, memory_mib=task.memory_mib, processes=[process.root])
        status, reason, lost = self._attended(order, process, limits, mailbox)
        for job in task.jobs:
            shutil.rmtree(scratch_of(job), ignore_errors=True)
        return Outcome(status=status, reason=reason, seconds=time.perf_counter() - started, log_tail=tail(task.keep / "log.txt"),
                       peak_mib=limits.peak_mib, lost=lost)  # fmt: skip

    def _attended(self, order: Order, process: Process, limits: Limits, mailbox: Any) -> tuple[Status, str, bool]:
        """Give the order, pass on what comes, hold the process to its limits, and see it to its end."""
        inbox = Inbox(process.link)
        end: End | None = None
        try:
            process.link.send(order)
            for job in order.task.jobs:
                self._take(Started(key=job.key, session=session_here(job.conditions.session)), process, mailbox)
            while end is None:
                limits.hold()
                message = inbox.next(LOOK_S)
                if isinstance(message, End):
                    end = message
                elif message is not None:
                    self._take(message, process, mailbox)
        except Stopped as stopped:
            advice = f"; {what_to_try(order.task, 'host')}" if stopped.status is Status.OUT_OF_MEMORY else ""
            end = End(stopped.status, f"{stopped.reason}{advice}")
        except Gone:
            pass
        finally:
            how = process.ended()
            process.link.close_outward()
            inbox.close()
            process.link.close_inward()
        return (end.status, end.reason, False) if end else (Status.FAILED, f"its process {how}", True)

    def _take(self, message: Any, process: Process, mailbox: Any) -> None:
        """Do what a message is for: here, pass it on to the driver; `run` returns when all of them have arrived."""
        self._posted.append(mailbox.post.remote(message))

    def _files(self, episodes: Sequence[Episodes]) -> list[str]:
        """Return files with the episodes of every cell; those that this worker wrote itself for the last task are used again."""
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


def tail(path: Path, lines: int = 200) -> str:
    """Return the last lines of a log, at most 64 KiB of them, empty where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LONGEST_TAIL))
        content = file.read(_LONGEST_TAIL)
    return "\n".join(content.decode("utf-8", errors="replace").splitlines()[-lines:])


def _ahead(task: Task) -> tuple[str, ...]:
    """Return the modules to be loaded before the process is forked: that of the strategy, and what it or its network needs besides."""
    from harness.plugins import registered

    job = task.jobs[0]
    modules = [] if job.source is not None else [registered("strategy")[job.strategy].module]
    return (*modules, *job.ahead, *(["timm"] if "timm" in job.conditions.backbone else []))


def _changed(task: Task) -> str:
    """Say whether what a strategy from a file imports is no longer what its cells were planned with; empty where it is."""
    from harness import by_path, fingerprint

    job = task.jobs[0]
    folder = by_path.folder_of(job.strategy.rpartition(":")[0]) if job.source is not None else ""
    if folder and job.code and fingerprint.of_code("", job.source, folder) != job.code:
        return f"a module that {Path(job.strategy).name} imports changed after the run began: run the same command again"
    return ""


def _fetched(own: Any) -> list[Episode]:
    import ray

    return [Episode(*ray.get([stage, query])) for stage, query in own]


def _name(reference: Any) -> str:
    return str(reference.hex()) if hasattr(reference, "hex") else f"{id(reference):x} "


__all__ = ["Mailbox", "Worker", "tail"]
