"""Processes for tasks: forked from a parent that holds no thread, begun anew where there is no fork; stages
reach them by mapping.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from runs import world
from worlds import Blobs

from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import Episode, build
from harness.contracts import Query, Stage, Status
from harness.execution.away import Carried
from harness.execution.worker import Worker, tail
from harness.plugins import find
from harness.processes.fork_server import ForkServer, Place
from harness.processes.limits import Limits, Stopped
from harness.processes.mapped import Mapped, episodes
from harness.processes.messages import Event, Job, Outcome, StageEnded
from harness.processes.parent import OFTEN
from harness.processes.workshop import FORKS, Forked, Fresh, Workshop, open_workshop
from harness.store.predictions import digest

BLOBS = Blobs()
SETTINGS = CellSettings(
    root_seed=learner_seed(0),
    budget=BLOBS.budget(),
    needed=BLOBS.answers,
    probed=BLOBS.probed,
    kept=BLOBS.kept,
)


@pytest.fixture(scope="module", params=["forked", "fresh"])
def workshop(request: pytest.FixtureRequest) -> Iterator[Workshop]:
    opened = open_workshop(1, forks=request.param == "forked")
    yield opened
    opened.close()


def _run(workshop: Workshop, name: str, folder: Path, **limits: float) -> tuple[Outcome, list[Event]]:
    """Run a strategy of worlds.py on blobs by a worker in this process; Ray only carries events, and here a
    list does.
    """
    plugin = find("strategy", world(name))
    job = Job(
        key=name,
        strategy=plugin.name,
        source=plugin.source,
        params=plugin.cls().__dict__,
        settings=SETTINGS,
        keep=folder,
        shared=(),
        **{"timeout_s": 60.0, "memory_mib": 4096.0, **limits},
    )
    mapped = Mapped(build(BLOBS, 0).episodes)
    try:
        *events, outcome = Worker(1, workshop=workshop).run(job, [mapped.path])
    finally:
        mapped.close()
    assert isinstance(outcome, Outcome)
    return outcome, events


def test_a_cell_answers_the_same_bytes_forked_and_fresh(workshop: Workshop, tmp_path: Path) -> None:
    results = run_cell(
        find("strategy", world("Trains")).cls(), build(BLOBS, 0).episodes, SETTINGS, scratch=tmp_path
    )
    here = digest([answer for result in results for answer in result.answers])
    outcome, events = _run(workshop, "Trains", tmp_path)
    assert (outcome.status, outcome.reason, outcome.lost) == (Status.DONE, "", False)
    assert (
        digest(
            [answer for event in events if isinstance(event, StageEnded) for answer in event.result.answers]
        )
        == here
    )


@pytest.mark.parametrize("workshop", ["forked"], indirect=True)
def test_a_worker_says_where_nothing_can_be_written(workshop: Workshop, tmp_path: Path) -> None:
    """The folder of the cells is a file here; a disk that is full or read-only fails in the same places."""
    (tmp_path / "cells").touch()
    outcome, events = _run(workshop, "Means", tmp_path / "cells" / "cell")
    why = f"its disk cannot be written (Not a directory: {tmp_path / 'cells'})"
    assert (outcome.status, outcome.no_disk, events) == (Status.FAILED, why, [])
    outcome, _ = _run(workshop, "Raises", tmp_path)
    assert (outcome.status, outcome.no_disk) == (Status.FAILED, "")


@pytest.mark.parametrize("workshop", ["forked"], indirect=True)
def test_a_cell_continues_on_a_node_that_sees_no_folder_of_the_one_that_was_lost(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker has a folder of its own; all that reaches the second is what the first has said."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mark, calm = tmp_path / "mark", tmp_path / "calm"
    plugin = find("strategy", world("Announces"))
    here = run_cell(
        plugin.cls(pause=0.0, mark=str(calm)), build(BLOBS, 0).episodes, SETTINGS, scratch=tmp_path
    )
    job = Job(
        key="cell",
        strategy=plugin.name,
        source=plugin.source,
        params={"mark": str(mark), "pause": 0.3},  # else the next stage may end before the last was carried
        settings=SETTINGS,
        keep=Path("/nowhere/cells/cell"),
        shared=(Path("/nowhere/stages/first.pt"), None),
        timeout_s=60.0,
        memory_mib=4096.0,
    )
    mapped = Mapped(build(BLOBS, 0).episodes)
    lost = Worker(1, workshop=workshop, away="one").run(job, [mapped.path])
    written = []
    for message in lost:
        written += [message] if isinstance(message, Carried) else []
        if isinstance(message, StageEnded) and message.result.stage == 1:
            break
    lost.close()  # type: ignore[attr-defined]
    assert [path.name for path in tmp_path.glob("owb-cells-one-*/*")] == ["lock"]
    assert [(sorted(each.files), sorted(each.states)) for each in written] == [
        (["answers-000.pt", "state.pt"], [0]),
        (["answers-001.pt", "state.pt"], []),
    ]
    *events, outcome = Worker(1, workshop=workshop, away="other").run(job, [mapped.path], written)
    mapped.close()
    assert isinstance(outcome, Outcome)
    assert (outcome.status, [each for each in events if isinstance(each, Carried)]) == (Status.DONE, [])
    assert [line.split()[1] for line in mark.read_text().splitlines()][-1:] == ["2"]
    assert len(mark.read_text().splitlines()) in (3, 4)  # the first may have begun its last stage
    results = [event.result for event in events if isinstance(event, StageEnded)]
    assert digest([answer for each in results for answer in each.answers]) == digest(
        [answer for each in here for answer in each.answers]
    )


def test_a_death_and_both_limits_are_told(workshop: Workshop, tmp_path: Path) -> None:
    ends = {}
    for name, limits in {"Dies": {}, "Eats": {"memory_mib": 1200.0}, "Sleeps": {"timeout_s": 3.0}}.items():
        outcome, _ = _run(workshop, name, tmp_path, **limits)
        ends[name] = outcome.status, outcome.reason.partition(";")[0].partition(" (")[0], outcome.lost
    assert ends["Dies"] == (Status.FAILED, "its process was killed by SIGKILL", True)
    assert ends["Eats"][0] is Status.OUT_OF_MEMORY
    assert ends["Eats"][1].endswith("the limit is 1200 MiB")
    assert ends["Sleeps"] == (Status.TIMEOUT, "over its time limit of 3 s", False)


def test_the_parent_that_forks_holds_no_thread_and_outlives_what_it_forked(tmp_path: Path) -> None:
    workshop = open_workshop(2)
    if isinstance(workshop, Fresh):
        pytest.skip("no fork here")
    workshop.wait_ready()
    parent = psutil.Process(workshop.fork_server.process.pid)
    assert parent.num_threads() == workshop.fork_server.line.threads == 1
    for name in ("Dies", "Sleeps", "Means"):
        outcome, _ = _run(workshop, name, tmp_path, timeout_s=2.0)
    assert outcome.status is Status.DONE
    assert parent.is_running()
    (warm,) = (
        parent.children()
    )  # one further parent, with the modules that these strategies need; of tasks nothing is left
    assert (warm.num_threads(), warm.children()) == (1, [])
    workshop.close()
    assert not parent.is_running()
    _, alive = psutil.wait_procs([warm], timeout=30)
    assert not alive


def _large() -> list[Episode]:
    rng = np.random.default_rng(0)
    query = Query(ids=np.arange(3), inputs=rng.normal(size=(3, 4)).astype(np.float32))
    stages = [
        Stage(
            index=index,
            ids=np.arange(5),
            inputs=rng.normal(size=(5, 1 << 20)).astype(np.float32),
            labels=np.arange(5),
            named_classes=5,
            new_classes=5,
        )
        for index in range(2)
    ]
    return [Episode(stage, query) for stage in stages]


def test_mapped_episodes_come_back_as_they_were_and_are_written_once() -> None:
    given = _large()
    mapped = Mapped(given)
    size = Path(mapped.path).stat().st_size
    content = sum(stage.inputs.nbytes for stage, _ in given)  # type: ignore[attr-defined]
    assert content <= size < content + 10_000  # the query that both share lies there once
    (first, asked), (second, again) = episodes(mapped.path)
    for found, meant in ((first, given[0].stage), (second, given[1].stage)):
        np.testing.assert_array_equal(found.inputs, meant.inputs)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.labels, meant.labels)
        assert found.index == meant.index
    assert asked is again
    with pytest.raises(ValueError, match="read-only"):
        first.inputs[0] = 0  # type: ignore[index]
    mapped.close()
    np.testing.assert_array_equal(second.inputs, given[1].stage.inputs)  # type: ignore[arg-type]  # mapped before, so still there
    with pytest.raises(FileNotFoundError):
        next(episodes(mapped.path))


def test_a_mapped_stage_is_no_memory_of_the_process_that_reads_it() -> None:
    """All of a stage is read, and what the process holds for itself does not grow by a tenth of it."""
    mapped = Mapped(_large())
    inputs = next(episodes(mapped.path)).stage.inputs

    def private() -> int:
        memory = psutil.Process().memory_info()
        return int(memory.rss - memory.shared)

    before = private()
    assert sum(float(row.sum()) for row in inputs) != 0  # type: ignore[attr-defined]
    assert private() - before < inputs.nbytes / 10  # type: ignore[attr-defined]
    mapped.close()


def test_limits_look_at_time_first_and_memory_next() -> None:
    own = [psutil.Process()]
    Limits(lambda: own, timeout_s=60, memory_mib=1 << 20).hold()
    with pytest.raises(Stopped, match="over its time limit of -1 s") as timeout:
        Limits(lambda: own, timeout_s=-1, memory_mib=0).hold()
    assert timeout.value.status is Status.TIMEOUT
    with pytest.raises(Stopped, match="the limit is 1 MiB") as memory:
        Limits(lambda: own, timeout_s=60, memory_mib=1).hold()
    assert memory.value.status is Status.OUT_OF_MEMORY


def test_the_tail_of_a_log_is_its_last_lines_and_bounded(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert tail(log) == ""
    log.write_text("".join(f"{number}\n" for number in range(1000)))
    assert tail(log, lines=3) == "997\n998\n999"
    log.write_text("x" * 1_000_000)
    assert tail(log) == "x" * (64 << 10)


def test_a_parent_whose_asker_dies_while_it_loads_clears_its_folder_away(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    fork_server = ForkServer("harness.processes.cell:task", Place(home, dict(os.environ), apart=True))
    fork_server.line.close()  # as if killed, long before the libraries are loaded
    assert fork_server.process.wait(timeout=120) == 0
    assert not home.exists()


@pytest.mark.skipif(not FORKS, reason="nothing is forked here")
def test_a_parent_that_is_asked_often_uses_large_pages_and_its_children_answer_the_same(
    tmp_path: Path,
) -> None:
    forked = open_workshop(1)
    assert isinstance(forked, Forked)
    try:
        digests = set()
        for _ in range(OFTEN + 2):  # it moves to large pages after answering, so one more has seen it
            outcome, events = _run(forked, "Trains", tmp_path)
            digests.add(
                digest(
                    [
                        answer
                        for event in events
                        if isinstance(event, StageEnded)
                        for answer in event.result.answers
                    ]
                )
            )
            assert outcome.status is Status.DONE
            (tmp_path / "state.pt").unlink()
    finally:
        forked.close()
    assert len(digests) == 1
