"""A run on a Ray cluster of several nodes that was started by hand: who may work, who leaves, who joins, and
its token.

Every node is a real raylet on this machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
from checkout import ROOT
from raylets import CAN_HIDE, Cluster
from runs import BLOBS, Run, world

from harness.contracts import Status
from harness.store.mlflow_store import Store
from harness.store.record import Record

MINE = """
import numpy as np
from harness.contracts import Prediction, Strategy
from helper import SHIFT

class Mine(Strategy):
    def learn(self, stage):
        self.classes = stage.named_classes

    def predict(self, query):
        scores = self.context.stream("method").normal(size=(len(query.ids), self.classes)) + SHIFT
        return Prediction(classes=scores.argmax(axis=1), scores=scores)
"""
OWB = [sys.executable, "-c", "from harness.cli import main; main()"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a cluster with a token, of a head with one core."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "home" / ".ray").mkdir(parents=True)
    (folder / "home" / ".ray" / "auth_token").write_text("5" * 64)
    with Cluster(folder) as found:
        yield found


@pytest.fixture(scope="module")
def other_code(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a folder with a version of this program in which a line is another, so that no worker runs a cell."""
    folder = tmp_path_factory.mktemp("other")
    for package in ("harness", "leaderboards", "openworld", "scenarios", "strategies"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("boards"))
    with (folder / "harness" / "execution" / "worker.py").open("a") as file:
        file.write("\nWorker.run = None\n")
    return str(folder)


def _owb(cluster: Cluster, *words: str, **further: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*OWB, *words, "--address", cluster.address],
        cwd=cluster.folder,
        env=cluster.environment(OMP_NUM_THREADS="1", **further),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_token_that_is_there_is_used_and_another_one_is_one_sentence(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Ray itself offers no token to an address that is written out, and tries one that is refused for minutes."""
    process = _owb(cluster, "doctor", "--json")
    said, _ = process.communicate(timeout=120)
    (node,) = json.loads(said)["nodes"]["facts"]["nodes"]
    assert (node["name"].partition(" (")[0], node["room"], node["refusal"]) == ("head", 1, "")
    for how, why in (
        ({"RAY_AUTH_TOKEN": "0" * 64}, "it is not the one that RAY_AUTH_TOKEN holds"),
        ({"HOME": str(tmp_path)}, "there is none here"),
        ({"HOME": str(tmp_path), "RAY_AUTH_MODE": "token"}, "there is none here"),
    ):
        process = _owb(cluster, "run", world("Means"), "-s", BLOBS, **how)
        _, said = process.communicate(timeout=120)
        assert (process.returncode, said.count("\n")) == (2, 1), said
        assert said.startswith(
            f"error: the cluster at {cluster.address} asks for a token, and {why}: copy ~/.ray"
        )


@pytest.fixture
def other_timm(tmp_path: Path) -> str:
    """Return a folder by which timm seems to be of another version."""
    (tmp_path / "timm-0.0.1.dist-info").mkdir()
    (tmp_path / "timm-0.0.1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: timm\nVersion: 0.0.1\n"
    )
    return str(tmp_path)


@pytest.mark.slow
def test_nodes_with_other_libraries_are_refused_or_used_and_their_cells_marked(
    cluster: Cluster, other_timm: str, tmp_path: Path
) -> None:
    words = ["run", world("Means"), "-s", BLOBS, "--no-bounds", "-n", "1", "--store", str(tmp_path / "store")]
    process = _owb(cluster, *words, PYTHONPATH=other_timm)
    _, said = process.communicate(timeout=120)
    left_out, end = said.splitlines()
    assert process.returncode == 2
    differs = rf"timm {re.escape(version('timm'))} instead of 0\.0\.1"
    assert re.match(rf"node head \(.*\) is left out: it has other libraries \({differs}\): install", left_out)
    assert re.match(
        rf"error: no node of the cluster is left to work; head \(.*\): it has other libraries \({differs}\): install "
        r"the same versions there, or say --mixed; mend it, and the same command continues$",
        end,
    )

    process = _owb(cluster, "doctor", PYTHONPATH=other_timm)
    shown, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert re.search(
        rf"^error: node head \(.*\): it has other libraries \({differs}\): install", said, re.MULTILINE
    )
    assert re.search("^nodes +0 of 1 can work, 0 workers$", shown, re.MULTILINE)

    process = _owb(cluster, *words, "--mixed", PYTHONPATH=other_timm)
    shown, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert re.search(
        rf"^node head \(.*\) has other libraries \({differs}\): its cells are marked$", said, re.MULTILINE
    )
    store = Store(str(tmp_path / "store"))
    assert [re.fullmatch(differs, each.mixed) is not None for each in store.records()] == [True]
    assert re.search(
        rf"^1 of 1 cells ran with other libraries than their keys name \({differs}\)$", shown, re.MULTILINE
    )
    stated = [
        json.loads(store.file(each, "cell.json").read_text())["environment"] for each in store.records()
    ]
    assert [re.fullmatch(differs, each.get("mixed", "")) is not None for each in stated] == [True]
    assert [each["libraries"]["timm"] for each in stated] == [version("timm")]


@pytest.mark.slow
def test_a_node_with_other_code_is_sent_this_one_and_one_that_leaves_costs_no_cell(
    cluster: Cluster, other_code: str, tmp_path: Path, tiny_run: Run
) -> None:
    """Nodes that join in mid-run are asked and used; predictions are those of a run on this machine."""
    cluster.add("good", RAY_AUTH_MODE="token")
    cluster.add("other", RAY_AUTH_MODE="token", PYTHONPATH=other_code)
    mark, seeds = tmp_path / "mark", 16
    store = str(tmp_path / "joined")
    strategy = f"{world('Announces')}[mark={mark},pause=1.5]"
    run = _owb(
        cluster, "run", strategy, "-s", BLOBS, "-n", str(seeds), "--no-bounds", "--store", store, "--json"
    )
    try:
        _wait_for(lambda: cluster.processes("other") & {pid for pid, _ in _lines(mark)})
        _wait_for(lambda: _at_work(mark) & cluster.processes("good"))
        cluster.kill("good")
        cluster.add("late", RAY_AUTH_MODE="token")
        _, err = run.communicate(timeout=240)
    finally:
        run.kill()
    assert (run.returncode, "Traceback" in err) == (0, False), err
    sent = [line for line in err.splitlines() if " is sent this code: it has other code of this" in line]
    assert [line.startswith("node other (") for line in sent] == [True]
    assert " is left out: " not in err
    assert re.search(
        r"^node good \(.*\) has left the cluster: 1 cell runs again elsewhere$", err, re.MULTILINE
    )
    records = Store(store).records()
    assert [record.status for record in records] == [Status.DONE] * seeds
    alone = tiny_run(
        [f"{world('Announces')}[mark={tmp_path / 'calm'},pause=0.0]"], seeds=seeds, store="alone"
    )
    assert {record.seed: record.digest for record in records} == {
        record.seed: record.digest for record in alone
    }
    stated = json.loads(Store(store).file(records[0], "cell.json").read_text())["environment"]
    assert stated["processor"]

    settings = ["replay[lr=log:1e-3..1]", "-s", "class-incremental[stages=2]"]
    search = ["sweep", *settings, "--search", "asha", "--trials", "1", "--seeds", "1"]
    process = _owb(cluster, *search)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    end = said.splitlines()[-1]
    assert end.startswith("error: a search runs on every node of a cluster, and not all may work; other (")


@pytest.mark.slow
def test_a_run_whose_head_is_killed_says_so_and_the_same_command_continues(tmp_path: Path) -> None:
    """Left to itself, Ray says nothing for a minute and then ends the driver in words of its own."""
    store, mark = str(tmp_path / "store"), tmp_path / "mark"
    words = [f"{world('Announces')}[mark={mark},pause=1.0]", "-s", BLOBS, "-n", "3", "--no-bounds"]
    before: dict[str, str] = {}
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        with Cluster(folder) as cluster:
            run = _owb(cluster, "run", *words, "--store", store)
            if not before:
                _wait_for(lambda: Path(store).exists() and _done(store))
                before = _done(store)
                cluster.kill("head")
            _, err = run.communicate(timeout=120)
            assert "Traceback" not in err
        if folder.name == "first":
            assert run.returncode == 2, err
            port = cluster.address.rpartition(":")[2]
            assert re.match(
                rf"error: the head of the cluster at .*:{port} is gone \(", err.splitlines()[-1]
            ), err
    assert run.returncode == 0, err
    after = _done(store)
    assert len(after) == 3 and before.items() <= after.items()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not CAN_HIDE, reason="needs the right to mount")
def test_nodes_without_a_common_folder_continue_share_and_answer_as_this_machine(
    tmp_path: Path, tiny_run: Run
) -> None:
    """Three of them, which lack this program and a plugin's files too; one is killed in mid-cell. Nothing that a node
    has finished is learned again elsewhere.
    """
    folder, store, own, home = (tmp_path / name for name in ("cluster", "joined", "temporary", "home"))
    for each in (folder, store, own, home):
        each.mkdir()
    (home / "mine.py").write_text(MINE)
    (home / "helper.py").write_text("SHIFT = 0.25\n")
    lacks = [ROOT / package for package in ("harness", "openworld", "scenarios", "strategies")]
    mark, seeds = tmp_path / "mark", 5
    with Cluster(folder, hidden=[store, home, *lacks]) as cluster:
        for name in ("second", "third"):
            cluster.add(name, TMPDIR=str(own))
        strategy = f"{world('Announces')}[mark={mark},pause=2.0]"
        run = _owb(
            cluster, "run", strategy, "-s", BLOBS, "-n", str(seeds), "--no-bounds", "--store", str(store)
        )

        def second_is_in_mid_cell() -> bool:
            learning = {pid: stage for pid, stage in _lines(mark) if psutil.pid_exists(pid)}
            kept = len([*(store / "cells").glob("*/answers-*.pt")])
            is_past_first = any(learning.get(pid) for pid in cluster.processes("second"))
            return is_past_first and kept >= sum(learning.values())

        try:
            _wait_for(second_is_in_mid_cell)
            cluster.kill("second")
            _, err = run.communicate(timeout=240)
        finally:
            run.kill()
        assert (run.returncode, "Traceback" in err) == (0, False), err
        assert "node second" in err
        stages = [stage for _, stage in _lines(mark)]
        assert (stages.count(0), len(stages)) == (seeds, 3 * seeds + 1)
        assert [*(store / "cells").iterdir()] == []

        learners = ["ewc[strength=1.0]", "ewc[strength=2.0]", "ewc[strength=3.0]", f"{home / 'mine.py'}:Mine"]
        words = [*learners, "-s", BLOBS, "-n", "1", "--no-bounds", "--store", str(store)]
        shared = _owb(cluster, "run", *words)
        _, err = shared.communicate(timeout=240)
        assert (shared.returncode, "Traceback" in err) == (0, False), err
        assert len([*(store / "stages").glob("*.pt")]) == 1
        assert [path.name for path in own.glob("owb-*")] == [f"owb-code-{os.getuid()}"]
    calm = f"{world('Announces')}[mark={tmp_path / 'calm'},pause=0.0]"
    alone = tiny_run([calm], seeds=seeds, store="alone") + tiny_run(learners, store="alone")
    assert _digests(Store(str(store)).records()) == _digests(alone)
    assert len(alone) == seeds + len(learners)


def _digests(records: Sequence[Record]) -> dict[tuple[str, int], str]:
    return {(re.sub("mark=.*", "", each.strategy), each.seed): each.digest for each in records}


def _done(store: str) -> dict[str, str]:
    """Return the runs of the cells that are done, by key."""
    return {each.key: each.run_id for each in Store(store).records() if each.status is Status.DONE}


def _lines(mark: Path) -> list[tuple[int, int]]:
    """Return the process and the stage of every stage that was begun."""
    lines = mark.read_text().splitlines() if mark.is_file() else []
    return [(int(process), int(stage)) for process, stage in map(str.split, lines)]


def _at_work(mark: Path) -> set[int]:
    """Return the processes of cells that learn at this moment; a node with one core has one at a time."""
    return {process for process, _ in _lines(mark) if psutil.pid_exists(process)}


def _wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)
