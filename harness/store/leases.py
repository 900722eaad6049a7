"""Leases: a cell is claimed before it is begun, so that several drivers of a store split its cells and run none twice.

A driver enters the store's roster (`roster`), says every `Leases.beat_s` seconds that it lives, and leaves. What
it claimed is its own until it releases it, leaves, or lapses. One lapses for whoever has read the roster again and
again and seen no sign of life for `Leases.lapse_s` seconds of its own clock: clocks of two machines are never
compared, so they may differ by any amount, and a time in which nobody reached the store counts against nobody. A
process that is gone from this machine lapses at once.

Who lapses is struck from the roster with all its leases. If it was only frozen, it finds itself struck at the next
look, enters anew with nothing, and leaves unrecorded what it ran (`holds`). Between that question and the record
lies a moment: a driver frozen just there, for longer than `lapse_s`, records its cell beside the one who took it
over. Both records have the same key and the same predictions, and the newer one counts.

While a server does not answer, nobody can enter its roster. A driver that saw no other at its last look goes on, and
writes its claims down when the server is back; one that saw another claims nothing until then.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Self, TypeVar

from harness.errors import UserError
from harness.store import driver_id
from harness.store.report import Report
from harness.store.roster import Driver, FolderRoster, OutOfReach, Roster, RunRoster, Sight

if TYPE_CHECKING:
    from harness.store.mlflow_store import Store

_log = logging.getLogger(__name__)

T = TypeVar("T")

_ASK_AGAIN_S = 5.0
_LOOK_S = 0.2
"""How often a store that another needs for itself is looked at."""


def roster_of(store: Store) -> Roster:
    """Return where the drivers of a store are written down: in its folder, or with its server.

    Raises:
        UserError: it cannot be written.
    """
    return FolderRoster(store.folder, store.patience_s) if store.is_local else RunRoster(store.client)


class Leases:
    """The leases of one driver; a context manager, within which it is on the roster."""

    beat_s = 10.0
    lapse_s = 60.0

    def __init__(self, roster: Roster, *, alone: bool = False) -> None:
        """Take where drivers are written down; `alone`: this one needs the store for itself."""
        self.roster = roster
        self.others: Mapping[str, Driver] = {}
        self.had_company = False
        self._me = Driver(
            process=driver_id.this_driver(),
            host=socket.gethostname(),
            pid=os.getpid(),
            since=time.time(),
            alone=alone,
        )
        self._unwritten: set[str] = set()
        self._unreleased: set[str] = set()
        self._silent_until = 0.0
        self._silent: dict[str, tuple[int, float]] = {}
        self._looked = time.monotonic()
        self._lock = threading.RLock()
        self._report: Report | None = None
        self._has_left, self._woken = False, threading.Event()
        self._beating = threading.Thread(target=self._keep_alive, name="leases", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._enter()
        except OutOfReach as error:
            raise UserError(f"the store does not answer: {error}") from error
        try:
            self._wait_for_one_alone()
        except BaseException:
            self._leave()
            raise
        self._beating.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_left = True
        self._woken.set()
        self._beating.join(timeout=self.beat_s)
        self._leave()

    @property
    def name(self) -> str:
        """What this driver is called in the roster; another name after it was struck and entered anew."""
        return self._me.name

    @property
    def since(self) -> float:
        """When it entered first, in seconds of its clock."""
        return self._me.since

    def claim(self, keys: Collection[str]) -> set[str]:
        """Return those of these cells that are this driver's now: those that nobody else has."""
        with self._lock:
            if any(other.alone for other in self.others.values()):
                return set()
            free = set(keys) - {key for other in self.others.values() for key in other.keys}
            try:
                return self._claimed(free)
            except OutOfReach:
                if self.others:
                    return set()
                self._unwritten |= free
                return free

    def release(self, keys: Collection[str]) -> None:
        """Let others have these cells."""
        with self._lock:
            self._unwritten -= set(keys)
            self._unreleased |= set(keys)
            with suppress(OutOfReach):
                self._catch_up()

    def say(self, report: Report) -> None:
        """Let those who watch know of this driver's work: the first time at once, later with its signs of life."""
        is_first, self._report = self._report is None, report
        if is_first:
            self._woken.set()

    def holds(self, key: str) -> bool:
        """Say whether a cell that was claimed is still this driver's."""
        with self._lock:
            try:
                own = self._asked(self.roster.read).drivers.get(self.name)
            except OutOfReach:
                return True
            return key in self._unwritten or (own is not None and key in own.keys)

    def look(self) -> None:
        """Read who else is there, into `others`, and strike those who lapsed. `had_company` says whether anybody else
        has been there since this driver entered, if only in between.
        """
        with self._lock, suppress(OutOfReach):
            self._take_in(self._asked(self.roster.read))

    def _claimed(self, keys: Collection[str]) -> set[str]:
        self._unreleased -= set(keys)
        self._catch_up()
        mine, sight = self._asked(lambda: self.roster.claim(self.name, keys))
        if not self._take_in(sight):
            mine, sight = self._asked(lambda: self.roster.claim(self.name, keys))
            self._take_in(sight)
        return mine

    def _catch_up(self) -> None:
        """Write down what could not be written when it was said."""
        if self._unreleased:
            self._asked(lambda: self.roster.release(self.name, self._unreleased))
            self._unreleased.clear()
        if self._unwritten:
            _, sight = self._asked(lambda: self.roster.claim(self.name, self._unwritten))
            if self._take_in(sight):
                self._unwritten.clear()

    def _asked(self, action: Callable[[], T]) -> T:
        """Return what the roster answers; where it has just not answered, it is not asked."""
        if time.monotonic() < self._silent_until:
            raise OutOfReach
        try:
            return action()
        except OutOfReach:
            self._silent_until = time.monotonic() + _ASK_AGAIN_S
            raise

    def _take_in(self, sight: Sight) -> bool:
        """Take in what was read; enter anew, and return False, where this driver was struck itself."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, self.beat_s), now
        others = {name: driver for name, driver in sight.drivers.items() if name != self.name}
        self._silent = {name: self._silence(driver, passed) for name, driver in others.items()}
        self.others = {
            name: driver
            for name, driver in others.items()
            if not (self._has_lapsed(driver) and self.roster.strike(name, driver.beat))
        }
        self.had_company |= bool(others) or str(sight.entered) != self.name
        if self.name in sight.drivers:
            return True
        _log.warning("this driver said nothing for %g s: others may take its cells", self.lapse_s)
        self.had_company = True
        self._enter()
        return False

    def _enter(self) -> None:
        self._me = replace(self._me, name=self.roster.enter(self._me))
        self.look()

    def _leave(self) -> None:
        with suppress(Exception):  # where it is out of reach now, this driver lapses there
            self.roster.strike(self.name)

    def _silence(self, driver: Driver, passed: float) -> tuple[int, float]:
        beat, silent_s = self._silent.get(driver.name, (driver.beat, 0.0))
        return driver.beat, silent_s + passed if beat == driver.beat else 0.0

    def _has_lapsed(self, driver: Driver) -> bool:
        return not driver_id.is_alive(driver.process) or self._silent[driver.name][1] > self.lapse_s

    def _wait_for_one_alone(self) -> None:
        """Wait while another needs the store for itself, unless this one does too."""
        is_said = False
        while alone := [other for other in self.others.values() if other.alone and not self._me.alone]:
            if not is_said:
                _log.warning("waiting for the store: another command has it for itself (%s)", alone[0])
                is_said = True
            time.sleep(_LOOK_S)
            self.look()

    def _keep_alive(self) -> None:
        beat = 0
        while True:
            self._woken.wait(self.beat_s)
            self._woken.clear()
            if self._has_left:
                return
            beat += 1
            report = self._report.text() if self._report else ""
            with suppress(
                Exception
            ):  # a server that is down: who is there says so, and nobody lapses meanwhile
                self.roster.beat(self.name, beat, report)
                self.look()


@contextmanager
def alone(store: Store) -> Iterator[None]:
    """Have a store for oneself: runs that would begin meanwhile wait.

    Raises:
        UserError: a run is at work on it.
    """
    with Leases(roster_of(store), alone=True) as leases:
        if leases.others:
            at_work = "; ".join(map(str, leases.others.values()))
            raise UserError(f"a run is at work on this store ({at_work}): wait for it")
        yield


__all__ = ["Leases", "alone", "roster_of"]
