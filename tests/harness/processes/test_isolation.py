"""A cell touches nothing but itself: whatever a strategy leaves behind, the next cell has the bytes that it
has alone.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from checkout import SUPPORT
from runs import BLOBS, Run

from harness import sandbox
from harness.contracts import Status
from harness.plugins import find
from harness.sandbox.checking import SOURCE
from harness.store.mlflow_store import Store
from harness.store.record import Record

HERE = str(SUPPORT / "leaky_worlds.py")
SEEDS = 2
Ends = dict[tuple[str, int], tuple[Status, str]]
FIVE = ("OnItsClass", "InItsModule", "Thread", "Device", "Patch")


def _named(*names: str) -> list[str]:
    return [f"{HERE}:{name}" for name in names]


def _ends(records: Sequence[Record]) -> Ends:
    return {
        (record.strategy.rpartition(":")[2], record.seed): (record.status, record.digest)
        for record in records
    }


ALONE = """
import os, sys, tempfile
from pathlib import Path
import torch
from harness.store.predictions import digest
from harness.protocol.cells import contenders, protocols
from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import build

def cell(name, seed):
    world, strategy = protocols([sys.argv[1]])[0].scenario, contenders([name])[0]
    fields = dict(needed=world.answers, probed=world.probed, kept=world.kept)
    settings = CellSettings(root_seed=learner_seed(seed), budget=world.budget(), **fields)
    with tempfile.TemporaryDirectory() as folder:
        learner, dealt = strategy.plugin.cls(**strategy.params), build(world, seed)
        results = run_cell(learner, dealt.episodes, settings, scratch=Path(folder))
        print(name, seed, digest([answer for result in results for answer in result.answers]), flush=True)

for name in sys.argv[3:]:
    for seed in range(int(sys.argv[2])):
        child = os.fork()
        if child == 0:
            cell(name, seed)
            os._exit(0)
        os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def alone() -> Ends:
    """Every cell in a process that runs nothing else, without a pool."""
    command = [sys.executable, "-c", ALONE, BLOBS, str(SEEDS), *_named(*FIVE, "Leaky")]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(HERE).parent)
    rows = [line.split() for line in said.stdout.splitlines()]
    return {(name.rpartition(":")[2], int(seed)): (Status.DONE, digest) for name, seed, digest in rows}


@pytest.mark.parametrize(
    ("workers", "reverse"),
    [(1, True), (3, False), *(pytest.param(many, False, marks=pytest.mark.slow) for many in (1, 2))],
)
def test_five_that_leak_answer_as_alone(tiny_run: Run, alone: Ends, workers: int, reverse: bool) -> None:
    """On one worker or several, in either order; an honest cell between them too."""
    records = tiny_run(_named(*FIVE, "Leaky"), seeds=SEEDS, workers=workers, reverse=reverse)
    assert {end for end in _ends(records).items() if end[0][0] in (*FIVE, "Leaky")} == set(alone.items())


def test_alarms_settings_children_and_noise_stay_in_their_cell(tiny_run: Run, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    calm = _ends(tiny_run(_named("Leaky"), store="calm"))
    names = [*_named("Alarm", "Settings"), f"{HERE}:Child[mark={mark}]", *_named("Loud", "Leaky")]
    records = tiny_run(names, workers=1)
    assert _ends(records)["Leaky", 0] == calm["Leaky", 0]
    assert {record.status for record in records} == {Status.DONE}
    (left,) = mark.read_text().split()
    assert not psutil.pid_exists(int(left))


def test_a_log_is_bounded(tiny_run: Run, tmp_path: Path) -> None:
    (record,) = tiny_run(_named("Loud"))
    log = Store(str(tmp_path / "store")).file(record, "log.txt")
    assert 0 < log.stat().st_size <= 64 << 10


NAMED = {
    "OnItsClass": (
        "a cell after another seed's cell answers as alone",
        False,
        "it keeps something outside itself",
    ),
    "InItsModule": (
        "a cell after another seed's cell answers as alone",
        False,
        "it keeps something outside itself",
    ),
    "Thread": ("leaves nothing running and no library patched", True, "a thread (drawer)"),
    "Device": ("leaves global state alone", False, "changed: torch's default device"),
    "Patch": (
        "leaves nothing running and no library patched",
        True,
        "torch.nn.functional.cross_entropy replaced",
    ),
    "Alarm": ("leaves nothing running and no library patched", True, "a timer (ITIMER_REAL)"),
    "Reaches": (
        "reaches for nothing but what it is handed",
        True,
        "imports scenarios.datasets.digits, which leads to the truth",
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_owb_check_names_what_a_strategy_leaves_or_reaches_for(name: str) -> None:
    claim, holds, detail = NAMED[name]
    plugin = find("strategy", f"{HERE}:{name}")
    task = sandbox.Task(
        kind="conformance",
        strategy=plugin.address,
        source=plugin.source,
        params={},
        scenario=BLOBS,
        exact=False,
    )
    checked = sandbox.check(task, sandbox.Bounds(trusted=True))
    (finding,) = [finding for finding in checked.findings if finding.claim == claim]
    assert (finding.holds, finding.warns) == (holds, holds)
    assert detail in finding.detail


def test_an_honest_strategy_is_not_warned_of_anything() -> None:
    plugin = find("strategy", f"{HERE}:Leaky")
    task = sandbox.Task(
        kind="conformance",
        strategy=plugin.address,
        source=plugin.source,
        params={},
        scenario=BLOBS,
        exact=False,
    )
    checked = sandbox.check(task, sandbox.Bounds(trusted=True))
    assert [
        finding
        for finding in checked.findings
        if not finding.holds or (finding.warns and finding.claim not in (NAMED["Reaches"][0], SOURCE))
    ] == []
