"""Files of cells that travel: what is sent, where it is written, and which folders are cleared away."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from worlds import Blobs

from harness.cell.run import CellSettings
from harness.execution.away import Carried, OwnFolder, packed, sweep, unpack
from harness.processes.messages import Job

HOLDS = """
import sys, tempfile
from harness.execution.away import OwnFolder
tempfile.tempdir = sys.argv[1]
own = OwnFolder("lost")
(own.path / "left").write_text("over")
print(own.path, flush=True)
sys.stdin.read()
"""


def _job(folder: Path) -> Job:
    return Job(
        key="cell",
        strategy="any",
        source=None,
        params={},
        settings=CellSettings(root_seed=0, budget=Blobs().budget()),
        keep=folder / "cells" / "cell",
        shared=(folder / "stages" / "first.pt", None),
        timeout_s=1.0,
        memory_mib=1.0,
    )


def test_what_was_sent_once_is_not_sent_again_and_lies_elsewhere_as_it_lay_here(tmp_path: Path) -> None:
    here, there = _job(tmp_path / "here"), _job(tmp_path / "there")
    assert packed(here, {}) is None
    here.keep.mkdir(parents=True)
    (here.keep / "log.txt").write_text("stays")
    (here.keep / "answers-000.pt").write_bytes(b"answers")
    (here.keep / "state.pt").write_bytes(b"state")
    known: dict[Path, int] = {}
    first = packed(here, known)
    assert first == Carried(key="cell", files={"answers-000.pt": b"answers", "state.pt": b"state"}, states={})
    assert [*first.files] == ["state.pt", "answers-000.pt"], "answers that a state needs are read after it"
    assert packed(here, known) is None
    path = here.shared[0]
    assert path is not None
    path.parent.mkdir()
    path.write_bytes(b"shared")
    second = packed(here, known)
    assert second == Carried(key="cell", files={}, states={0: b"shared"})
    there.keep.mkdir(parents=True)
    for carried in (first, second):
        unpack(there, carried)
    assert packed(there, {}) == Carried(key="cell", files=first.files, states=second.states)
    assert [path.name for path in there.keep.iterdir() if "part" in path.name] == []


def test_a_file_that_is_sent_reaches_no_other_folder_than_the_cells(tmp_path: Path) -> None:
    job = _job(tmp_path)
    unpack(job, Carried(key="cell", files={"../../outside.pt": b"1"}, states={0: b"2"}))
    assert {path.name for path in job.keep.iterdir()} == {"outside.pt"}
    unpack(job, Carried(key="cell", files={}, states={0: b"3"}))
    path = job.shared[0]
    assert path is not None
    assert path.read_bytes() == b"2", "a state that is there is the same one"
    with pytest.raises(StopIteration):
        unpack(replace(job, key="another"), Carried(key="cell", files={}, states={}))


def test_a_folder_goes_with_its_worker_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    folder = Path(worker.stdout.readline().strip())
    sweep("lost", patience_s=0.3)
    assert (folder / "left").read_text() == "over"
    worker.kill()
    worker.wait()
    worker.stdout.close()
    own = OwnFolder("next")
    assert {path.name for path in tmp_path.iterdir()} == {own.path.name}
