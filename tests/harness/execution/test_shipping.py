"""Code that is sent: a process elsewhere runs it, and nothing else that it finds of this program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from runs import BLOBS

from harness.cell.run import settings_of
from harness.execution.facts import facts, lacks_code, question
from harness.execution.machine import Machine
from harness.execution.shipping import parcel, sent
from harness.execution.unpacking import unpack_code
from harness.plugins import find
from harness.processes.messages import Job, Pack
from harness.protocol.cells import cells, contenders, protocols

MINE = """
from harness.contracts import Strategy
from helper import ANSWER

class Mine(Strategy):
    def learn(self, stage): pass
    def predict(self, query): return ANSWER

class Net:
    pass
"""
ASKED = """
import json, pickle, sys
from harness.execution.facts import facts
from harness.plugins import find, registered
asked, address, source = pickle.load(sys.stdin.buffer)
mine = find("strategy", address, source=source).cls
print(json.dumps([facts(asked), mine.predict(None, None), len(registered("strategy"))]))
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder for temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


def test_a_process_elsewhere_runs_what_was_sent_and_not_what_lies_in_its_folder(
    tmp_path: Path, temporary: Path
) -> None:
    """In the folder where it begins is another version of this program; the plugin's own folder is gone."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    (home / "helpers").mkdir(parents=True)
    (home / "mine.py").write_text(MINE)
    (home / "helper.py").write_text("from helpers.more import ANSWER\n")
    (home / "helpers" / "__init__.py").touch()
    (home / "helpers" / "more.py").write_text("ANSWER = 42\n")
    (home / "unused.py").write_text("")
    for package in ("harness", "openworld", "scenarios", "strategies"):
        (elsewhere / package).mkdir(parents=True)
        (elsewhere / package / "__init__.py").write_text("raise ImportError('the other version')")
    address = f"{home / 'mine.py'}:Mine"
    asked = question(cells(protocols([BLOBS]), contenders([address]), 1), Machine())
    network = f"{home / 'mine.py'}:Net[width=3]"
    asked = replace(asked, lent=(network,))
    here = facts(asked)
    made = parcel(asked)
    there = sent(made, unpack_code(made.archive, made.digest))
    own = Path(there.moved[str(home / "mine.py")]).parent
    assert {path.relative_to(own).as_posix() for path in own.rglob("*.py")} == {
        "mine.py",
        "helper.py",
        "helpers/__init__.py",
        "helpers/more.py",
    }
    shutil.rmtree(home)

    import cloudpickle

    job = _job(address, network)
    moved = there.readdressed(job)
    assert isinstance(moved, Job)
    told = cloudpickle.dumps((there.asked(replace(asked, path=())), moved.strategy, MINE))
    done = subprocess.run(
        [sys.executable, "-c", ASKED],
        env={**os.environ, **there.runtime_env["env_vars"]},
        cwd=elsewhere,
        input=told,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()
    said, answer, strategies = json.loads(done.stdout)
    assert (lacks_code(here, said), answer, strategies > 20) == ("", 42, True)
    assert here["plugins"].keys() == {address, f"{home / 'mine.py'}:Net"}

    assert moved.settings.budget.backbone == f"{own / 'mine.py'}:Net[width=3]"
    assert moved.params == {"file": str(home / "mine.py"), "net": f"{own / 'mine.py'}:Net", "rate": 0.5}
    pack = there.readdressed(Pack(key="pack", jobs=(job, job), keep=tmp_path))
    assert pack.jobs == (moved, moved)


def _job(address: str, backbone: str) -> Job:
    settings = settings_of(find("scenario", BLOBS).cls(), 0)
    path = address.rpartition(":")[0]
    return Job(
        key="cell",
        strategy=address,
        source=MINE,
        params={"file": path, "net": f"{path}:Net", "rate": 0.5},
        settings=replace(settings, budget=replace(settings.budget, backbone=backbone)),
        keep=Path("cell"),
        shared=(),
        timeout_s=1.0,
        memory_mib=1.0,
    )


def test_code_is_unpacked_once_under_its_digest_and_goes_after_a_week(temporary: Path) -> None:
    made = parcel(question([], Machine()))
    assert made == parcel(question([], Machine()))
    first, _ = unpack_code(made.archive, made.digest)
    home = Path(first).parent
    assert Path(first).name == made.digest
    assert home.stat().st_mode & 0o077 == 0, "nobody else may read it or put anything there"
    (Path(first) / "mark").touch()
    assert unpack_code(made.archive, made.digest)[0] == first
    assert (Path(first) / "mark").exists()
    os.utime(first, (0, 0))
    other, _ = unpack_code(made.archive, "other")
    assert {path.name for path in home.iterdir()} == {Path(other).name}


def test_a_folder_that_leads_elsewhere_is_not_unpacked_into(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "trap").mkdir()
    (temporary / f"owb-code-{os.getuid()}").symlink_to(tmp_path / "trap")
    made = parcel(question([], Machine()))
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        unpack_code(made.archive, made.digest)
    assert not any((tmp_path / "trap").iterdir())
