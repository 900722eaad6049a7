"""Who works on a store and how far they are, for whoever looks on. Only read: no file is made, no record sent.

Records say which cells go on and how others ended; the roster says which driver has a cell, and what it reported of
its work. Times are those of the drivers' clocks, the rate is taken against the clock of this process.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.contracts import Status
from harness.errors import UserError
from harness.store import driver_id
from harness.store.mlflow_store import Store
from harness.store.record import FINAL, Record
from harness.store.report import Progress
from harness.store.roster import Driver, OutOfReach, Sight, seen_in_folder, seen_in_mlflow
from harness.store.tracking import first_line, is_outage

RATE_S = 300.0
"""The time that a rate is taken over, in seconds."""
_BEFORE_S = 3600.0
_LATE_S = 900.0
"""How long after it a cell's end may come into the store and still be counted: a server may have been away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AtWork:
    """A driver that is on the roster. is_gone: its process has ended on this machine without a word.
    silent_s: since its last sign of life was seen, in seconds; not a number at a first look.
    """

    driver: Driver
    is_gone: bool
    silent_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A cell that goes on. driver: who has it, None where nobody is seen to.  progress: None where it is not said."""

    record: Record
    driver: Driver | None
    progress: Progress | None


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen of a store at one moment.

    at: when, in seconds since 1970.  since: from when on ends are counted.  ended: the newest end of every cell that
    ended since then, the latest last.
    """

    at: float
    since: float
    drivers: Sequence[AtWork]
    running: Sequence[Running]
    ended: Sequence[Record]

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """How many cells ended in which way."""
        return dict(Counter(record.status.value for record in self.ended))

    @property
    def failures(self) -> list[Record]:
        """The cells whose end does not follow from themselves alone (`record.FINAL`), the latest last."""
        return [record for record in self.ended if record.status not in FINAL]

    @property
    def waiting(self) -> int | None:
        """How many cells are still to begin, None where a driver does not say. One that two drivers have before them
        counts twice.
        """
        reports = [each.driver.report for each in self.drivers if not each.is_gone and not each.driver.alone]
        said = [report.waiting for report in reports if report]
        return sum(said) if len(said) == len(reports) else None

    @property
    def per_minute(self) -> float:
        """How many cells ended a minute in the last `RATE_S` seconds, or since the first driver began."""
        began = min((each.driver.since for each in self.drivers), default=self.since)
        seconds = min(RATE_S, max(1.0, self.at - began))
        return 60 * sum(self.at - seconds <= record.ended for record in self.ended) / seconds

    @property
    def left_s(self) -> float:
        """In how many seconds all is done at this rate; not a number where that cannot be told."""
        if self.waiting is None or not self.per_minute:
            return math.nan
        return 60 * (self.waiting + len(self.running)) / self.per_minute

    def content(self) -> dict[str, Any]:
        """Return everything for machines."""
        return {
            "at": self.at,
            "since": self.since,
            "drivers": [_driver_content(each) for each in self.drivers],
            "running": [_running_content(each, self.at) for each in self.running],
            "counts": dict(self.counts),
            "waiting": self.waiting,
            "per_minute": self.per_minute,
            "left_s": self.left_s,
            "failures": [
                {**_named(record), "status": record.status, "reason": record.reason, "ended": record.ended}
                for record in self.failures
            ],
        }


class Watching:
    """Looks at a store again and again."""

    def __init__(self, store: Store) -> None:
        """Take a store that sends nothing (`Store(where, sends=False)`)."""
        self.store = store
        self._since = math.nan
        self._known: dict[str, Record] = {}
        self._beats: dict[str, tuple[int, float]] = {}

    def look(self) -> Look:
        """Return what is to be seen now.

        Raises:
            UserError: the store cannot be read.
        """
        try:
            drivers = self._seen().drivers.values() if self.store.exists else ()
            now = time.time()
            if math.isnan(self._since):
                self._since = min((driver.since for driver in drivers), default=now - _BEFORE_S)
                read_from = self._since
            else:
                read_from = max(self._since, now - _LATE_S)
            records = self.store.recent(read_from)
        except UserError:
            raise
        except Exception as error:
            if isinstance(error, OutOfReach) or is_outage(error):
                raise UserError(f"the store does not answer: {first_line(error)}") from error
            raise
        running = [record for record in records if record.status is Status.RUNNING]
        for record in running:
            self._known.pop(record.key, None)
        self._known |= {record.key: record for record in records if record.status is not Status.RUNNING}
        having = {key: driver for driver in drivers for key in driver.keys}
        return Look(
            at=now,
            since=self._since,
            drivers=[self._at_work(driver) for driver in drivers],
            running=[_running(record, having.get(record.key)) for record in running],
            ended=sorted(self._known.values(), key=lambda record: record.ended),
        )

    def _seen(self) -> Sight:
        if self.store.is_local:
            return seen_in_folder(self.store.folder, self.store.patience_s)
        return seen_in_mlflow(self.store.client)

    def _at_work(self, driver: Driver) -> AtWork:
        now = time.monotonic()
        is_new = driver.name not in self._beats
        beat, heard = self._beats.get(driver.name, (driver.beat, now))
        if beat != driver.beat:
            heard = now
        self._beats[driver.name] = driver.beat, heard
        return AtWork(
            driver=driver,
            is_gone=not driver_id.is_alive(driver.process),
            silent_s=math.nan if is_new else now - heard,
        )


def _running(record: Record, driver: Driver | None) -> Running:
    report = driver.report if driver else None
    return Running(record=record, driver=driver, progress=report.of(record.key) if report else None)


def _named(record: Record) -> dict[str, Any]:
    return {"key": record.key, "scenario": record.scenario, "strategy": record.strategy, "seed": record.seed}


def _driver_content(each: AtWork) -> dict[str, Any]:
    driver, report = each.driver, each.driver.report
    return {
        "name": driver.name,
        "host": driver.host,
        "pid": driver.pid,
        "since": driver.since,
        "alone": driver.alone,
        "cells": len(driver.keys),
        "waiting": report.waiting if report else None,
        "elsewhere": dict(report.elsewhere) if report else {},
        "is_gone": each.is_gone,
        "silent_s": each.silent_s,
    }


def _running_content(each: Running, at: float) -> dict[str, Any]:
    found = each.progress
    return {
        **_named(each.record),
        "driver": each.driver.name if each.driver else None,
        "seconds": at - each.record.started,
        "learned": found.learned if found else None,
        "stages": found.stages if found else None,
        "share": found.share if found else None,
    }


__all__ = ["RATE_S", "AtWork", "Look", "Running", "Watching"]
