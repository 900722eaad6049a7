"""`owb watch`: one look for people and machines, a page that changes until Ctrl-C, a line a look in a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import BLOBS, Owb, world

from harness.contracts import Status
from harness.protocol.cells import Cell, cells, contenders, protocols
from harness.store.leases import Leases, roster_of
from harness.store.mlflow_store import Store
from harness.store.record import Ending

WATCH = """
import sys
from harness.cli import main
try:
    main()
finally:
    print("loaded:", *{"torch", "ray", "mlflow"} & set(sys.modules), ".")
"""


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[tuple[list[Cell], Leases]]:
    """Return cells and a driver that has the first of them; another one has failed."""
    store = Store(str(tmp_path / "store"))
    todo = cells(protocols([BLOBS]), contenders([world("Means")]), 2)
    with Leases(roster_of(store)) as leases:
        leases.claim([todo[0].key])
        store.begin(todo[0], experiment="test", environment={})
        failed = store.begin(todo[1], experiment="test", environment={})
        store.end(failed, Ending(status=Status.FAILED, reason="it [b]broke[/b]\x1b[2J"))
        yield todo, leases


def test_one_look_is_shown_to_people_and_to_machines(
    at_work: tuple[list[Cell], Leases], tmp_path: Path, call_owb: Owb
) -> None:
    todo, leases = at_work
    words = ("watch", "--store", str(tmp_path / "store"))
    said = call_owb(*words, "--once")
    assert (said.code, said.err) == (0, "")
    summary, *rest = said.out.splitlines()
    assert summary.startswith("1 running, an unknown number waiting, 1 failed since ")
    assert " cells a minute" in summary and " left" not in summary
    me = f", process {os.getpid()}"
    assert sum(me in line for line in rest) == 2
    (failure,) = [line for line in rest if str(todo[1]) in line]
    assert failure.endswith(f"  failed  {todo[1]}  it [b]broke[/b]?[2J")
    assert any(line.startswith(str(todo[0])) and me in line for line in rest)

    found = call_owb(*words, "--json").json
    assert [each["pid"] for each in found["drivers"]] == [os.getpid()]
    assert [(each["key"], each["driver"]) for each in found["running"]] == [(todo[0].key, leases.name)]
    assert [each["seed"] for each in found["failures"]] == [1]


def test_nobody_at_work_is_said(tmp_path: Path, call_owb: Owb) -> None:
    said = call_owb("watch", "--store", str(tmp_path / "none"), "--once")
    assert said.code == 0
    assert said.out.startswith("nobody is at work; none ended since ")


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals")
@pytest.mark.usefixtures("at_work")
def test_the_page_changes_until_ctrl_c_which_ends_it_cleanly_and_nothing_heavy_is_loaded(
    tmp_path: Path,
) -> None:
    import pty

    ours, theirs = pty.openpty()
    words = [sys.executable, "-c", WATCH, "watch", "--store", str(tmp_path / "store"), "--every", "0.2"]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "40"}
    with subprocess.Popen(
        words,
        env=env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_terminal,
    ) as process:
        os.close(theirs)
        shown = b""
        while shown.count(b"1 running") < 2:
            shown += os.read(ours, 65536)
        os.write(ours, b"\x03")
        while b"\n" not in shown.partition(b"loaded:")[2]:
            shown += os.read(ours, 65536)
    os.close(ours)
    assert process.returncode == 0, shown
    assert b"Traceback" not in shown and b"Aborted" not in shown
    assert b"loaded: ." in shown


def _terminal() -> None:
    """Make standard input the terminal whose Ctrl-C this process gets, whatever the tests' own parent ignores."""
    import fcntl
    import signal
    import termios

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.usefixtures("at_work")
def test_in_a_pipe_every_look_is_a_line_also_one_that_fails(tmp_path: Path) -> None:
    words = [sys.executable, "-c", WATCH, "watch", "--store", str(tmp_path / "store"), "--every", "0.2"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        first = process.stdout.readline()
        (tmp_path / "store" / "leases.db").write_bytes(b"this is no data base" * 100)
        failed = first
        while " 1 running, " in failed:
            failed = process.stdout.readline()
        process.terminate()
    assert " 1 running, " in first
    assert f"  cannot read {tmp_path / 'store' / 'leases.db'}: file is not a database" in failed
