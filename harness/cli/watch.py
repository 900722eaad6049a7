"""`owb watch`: who is at work on a store, what runs, waits and failed, and how long it will take."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import console, options
from harness.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.store.record import Record
    from harness.store.watching import AtWork, Look, Running, Watching

_FAILURES = 5
EPILOGUE = options.examples(
    "owb watch                                    the store of this folder, until Ctrl-C",
    "owb watch --store http://192.0.2.2:5000      from any machine that reaches the tracking server",
    "owb watch --once                             one look; --json the same for machines",
)


def watch(
    store: options.Store = "owb-store",
    every: Annotated[float, typer.Option("--every", min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Look once and print JSON for machines.")] = False,
) -> None:
    """Watch the runs on a store: who is at work, which cells run and wait, how many end, what failed.

    Nothing is written to the store, and nothing but the store is needed.
    """
    from harness.store.mlflow_store import Store
    from harness.store.watching import Watching

    watching = Watching(Store(store, sends=False))
    if as_json:
        console.dump(watching.look().content())
    elif once:
        console.print_lines(_page(watching.look()))
    else:
        with suppress(KeyboardInterrupt):
            _follow(watching, every)


def _follow(watching: Watching, every: float) -> None:
    """Look until Ctrl-C: a page that changes on a terminal, a line for every look in a pipe."""
    if not console.out.is_terminal:
        while True:
            console.say(_seen(watching))
            time.sleep(every)
    page: Sequence[console.Line] = ()
    with console.live() as show:
        while True:
            try:
                page, trouble = _page(watching.look()), []
            except UserError as error:
                trouble = ["", f"error: {error}"]
            show([*page, *trouble])
            time.sleep(every)


def _seen(watching: Watching) -> str:
    """Return one line on what is seen."""
    try:
        look = watching.look()
    except UserError as error:
        return f"{_clock(time.time())}  {error}"
    return f"{_clock(look.at)}  {_summary(look)}"


def _page(look: Look) -> list[console.Line]:
    """Return the lines for people: what there is most of comes last."""
    lines: list[console.Line] = [_summary(look)]
    if look.drivers:
        header = ["at work", "since", "cells", "waiting", "waits for"]
        lines += ["", *console.grid_lines(header, [_driver(each, look) for each in look.drivers])]
    if look.failures:
        lines += ["", *map(_failure, look.failures[-_FAILURES:])]
    if look.running:
        header = ["running", "stages", "time", "at"]
        lines += ["", *console.grid_lines(header, [_running(each, look) for each in look.running])]
    return lines


def _summary(look: Look) -> str:
    from harness.execution.cost import duration

    ended = [f"{count} {status}" for status, count in sorted(look.counts.items())] or ["none ended"]
    said = f"{', '.join(ended)} since {_clock(look.since)}"
    if not look.drivers:
        return f"nobody is at work; {said}"
    waiting = "an unknown number" if look.waiting is None else look.waiting
    said = f"{len(look.running)} running, {waiting} waiting, {said}"
    if look.per_minute:
        said += f"; {look.per_minute:.3g} cells a minute"
    if look.left_s > 0:
        said += f", about {duration(look.left_s)} left"
    return said


def _driver(each: AtWork, look: Look) -> list[str]:
    from harness.store.leases import Leases

    driver, report = each.driver, each.driver.report
    names = {other.driver.name: other.driver for other in look.drivers}
    waits = [
        f"{count} of {names[name].host}, process {names[name].pid}"
        for name, count in (report.elsewhere.items() if report else ())
        if name in names
    ]
    said = f"{driver.host}, process {driver.pid}"
    if each.is_gone:
        said += ", which is gone"
    elif driver.alone:
        said += ", which has the store for itself"
    elif each.silent_s > 2 * Leases.beat_s:
        said += f", silent for {each.silent_s:.0f} s"
    waiting = str(report.waiting) if report else ""
    return [said, _clock(driver.since), str(len(driver.keys)), waiting, "; ".join(waits)]


def _running(each: Running, look: Look) -> list[str]:
    found = each.progress
    stage = f"{found.learned} of {found.stages}" if found else ""
    stage += f", next {found.share:.0%}" if found and found.share else ""
    where = f"{each.driver.host}, process {each.driver.pid}" if each.driver else "nobody: its driver is gone"
    return [_cell(each.record), stage, f"{max(0.0, look.at - each.record.started):.0f} s", where]


def _failure(record: Record) -> str:
    return f"{_clock(record.ended)}  {record.status}  {_cell(record)}  {record.reason}".rstrip()


def _cell(record: Record) -> str:
    return f"{record.scenario} | {record.strategy} | seed {record.seed}"


def _clock(seconds: float) -> str:
    return "" if math.isnan(seconds) else time.strftime("%H:%M:%S", time.localtime(seconds))
