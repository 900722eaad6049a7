"""Processes below another: the same that psutil finds by reading all of /proc."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from harness.processes import descendants as module
from harness.processes.descendants import children, descendants


@pytest.fixture
def family() -> Iterator[psutil.Process]:
    """A shell with two children, one of which has a child of its own."""
    shell = subprocess.Popen(
        ["sh", "-c", "sleep 60 & sh -c 'sleep 60 & wait' & wait"], start_new_session=True
    )
    root = psutil.Process(shell.pid)
    while len(root.children(recursive=True)) < 3:
        time.sleep(0.01)
    yield root
    for process in [*root.children(recursive=True), root]:
        process.kill()
    shell.wait()


@pytest.mark.parametrize("listed", [True, False])
def test_all_below_a_process_are_found_each_behind_its_parent(
    family: psutil.Process, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LISTED", listed and module.LISTED)
    assert set(children(family)) == set(family.children())
    found = descendants(family)
    assert len(found) == 3 and set(found) == set(family.children(recursive=True))
    seen = [family]
    for process in found:
        assert process.parent() in seen
        seen.append(process)


def test_a_child_that_another_thread_started_is_found() -> None:
    started: list[subprocess.Popen[bytes]] = []
    end = threading.Event()

    def work() -> None:
        started.append(subprocess.Popen(["sleep", "60"]))
        end.wait()

    thread = threading.Thread(target=work)
    thread.start()
    while not started:
        time.sleep(0.01)
    try:
        assert started[0].pid in [each.pid for each in children(psutil.Process())]
    finally:
        end.set()
        thread.join()
        started[0].kill()
        started[0].wait()


@pytest.mark.parametrize("listed", [True, False])
def test_what_is_below_a_process_that_is_gone_is_not_asked(
    listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LISTED", listed and module.LISTED)
    process = subprocess.Popen(["sleep", "60"])
    gone = psutil.Process(process.pid)
    process.kill()
    process.wait()
    with pytest.raises(psutil.NoSuchProcess):
        descendants(gone)
