"""Whatever dies while `owb run` is at work, the run goes on, or ends in one sentence, with nothing lost and
nothing left over.

The whole campaign, with random faults at random moments, is `benchmarks/faults.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from runs import BLOBS, world
from worlds import Blobs

from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import build
from harness.contracts import Status
from harness.errors import UserError
from harness.execution.cluster import start
from harness.execution.machine import Machine
from harness.execution.worker import bound
from harness.plugins import find
from harness.store.mlflow_store import Store
from harness.store.predictions import digest

SEEDS = 8
MARK = "OWB_TEST_OF_FAULTS"
PARENT = "harness.processes.parent"


class _Launch:
    """A running `owb run` of cells that announce their stages in a file."""

    def __init__(self, folder: Path, seeds: int, workers: int = 1) -> None:
        self.mark, self.store, self.name = folder / "mark", folder / "store", f"{os.getpid()} {folder}"
        owb = [
            sys.executable,
            "-c",
            "from harness.cli import main; main()",
            "run",
            f"{world('Announces')}[mark={self.mark}]",
        ]
        command = [
            *owb,
            "-s",
            BLOBS,
            "-n",
            str(seeds),
            "--no-bounds",
            "--workers",
            str(workers),
            "--store",
            str(self.store),
            "--json",
        ]
        with (folder / "out").open("w") as self.out, (folder / "err").open("w") as self.err:
            self.process = subprocess.Popen(
                command, stdout=self.out, stderr=self.err, env={**os.environ, MARK: self.name}
            )

    @property
    def said(self) -> str:
        """What the command printed."""
        return Path(self.out.name).read_text() + Path(self.err.name).read_text()

    @property
    def stages(self) -> list[int]:
        """The processes that began a stage, in order."""
        return (
            [int(line.split()[0]) for line in self.mark.read_text().splitlines()]
            if self.mark.is_file()
            else []
        )

    def wait_for(self, what: Callable[[], object]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + 120
        while not what():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    def below(self) -> Iterator[tuple[psutil.Process, str, str]]:
        """Yield every process below the command, with its command line and that of its parent."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                above = process.parent()
                yield (
                    process,
                    " ".join(process.cmdline()) or process.name(),
                    " ".join(above.cmdline() if above else []),
                )
            except psutil.NoSuchProcess:
                continue

    def kill(self, is_it: Callable[[str, str], bool]) -> None:
        """Kill the first process whose own and parent's command line fit, as soon as there is one."""
        self._first(is_it).kill()

    def stop(self, is_it: Callable[[str, str], bool]) -> None:
        """Stop that process instead."""
        self._first(is_it).send_signal(signal.SIGSTOP)

    def _first(self, is_it: Callable[[str, str], bool]) -> psutil.Process:
        found: list[psutil.Process] = []

        def there() -> bool:
            found.extend(process for process, line, above in self.below() if is_it(line, above))
            return bool(found)

        self.wait_for(there)
        return found[0]

    def leaves_nothing(self) -> None:
        """Check that nothing runs of it any more, once what notices its end by itself has had time to."""
        deadline = time.monotonic() + 20
        while left := [
            process for process in psutil.process_iter() if _environment(process).get(MARK) == self.name
        ]:
            assert time.monotonic() < deadline, left
            time.sleep(0.1)


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ() if process.status() != psutil.STATUS_ZOMBIE else {}
    except (psutil.Error, OSError):
        return {}


def _alone(seed: int, folder: Path) -> str:
    """Return the digest of a cell that runs in this process, without a pause."""
    world_ = Blobs()
    settings = CellSettings(
        root_seed=learner_seed(seed),
        budget=world_.budget(),
        needed=world_.answers,
        probed=world_.probed,
        kept=world_.kept,
    )
    strategy = find("strategy", world("Announces")).cls(mark=str(folder / "alone"), pause=0.0)
    results = run_cell(strategy, build(world_, seed).episodes, settings, scratch=folder)
    return digest([answer for result in results for answer in result.answers])


def test_a_run_outlives_workers_cells_fork_servers_and_ray_itself(tmp_path: Path) -> None:
    launch = _Launch(tmp_path, SEEDS, workers=2)
    launch.kill(lambda line, _: line.startswith("ray::Worker"))  # it is still loading
    for kill in (
        lambda: os.kill(launch.stages[-1], signal.SIGKILL),
        lambda: launch.kill(lambda line, above: PARENT in line and PARENT not in above),
        lambda: launch.kill(lambda line, _: line.startswith("ray::Worker.run")),
        lambda: launch.kill(lambda line, _: line.partition(" ")[0].endswith("/raylet")),
    ):
        before = len(launch.stages)
        launch.wait_for(lambda: len(launch.stages) >= before + 5)  # noqa: B023  (each cell may die once)
        kill()
    assert launch.process.wait(timeout=120) == 0, launch.said
    assert "Traceback" not in launch.said
    records = Store(str(launch.store)).records()
    assert [record.status for record in records] == [Status.DONE] * SEEDS
    assert {record.seed: record.digest for record in records} == {
        seed: _alone(seed, tmp_path) for seed in range(SEEDS)
    }
    assert len(launch.stages) > 3 * SEEDS, "no cell was hit"
    launch.leaves_nothing()


@pytest.mark.parametrize(
    "stopped", ["", *(pytest.param(name, marks=pytest.mark.slow) for name in ("/raylet", "/gcs_server"))]
)
def test_a_request_to_end_is_taken_as_ctrl_c_also_where_ray_does_not_answer(
    stopped: str, tmp_path: Path
) -> None:
    launch = _Launch(tmp_path, 4)
    launch.wait_for(lambda: launch.stages)
    if stopped:
        next(
            process for process, line, _ in launch.below() if line.partition(" ")[0].endswith(stopped)
        ).suspend()
    launch.process.send_signal(signal.SIGTERM)
    assert launch.process.wait(timeout=60) == 1
    assert "Traceback" not in launch.said
    assert {record.status for record in Store(str(launch.store)).records()} <= {Status.FAILED, Status.DONE}
    assert "interrupted; the same command continues" in launch.said
    launch.leaves_nothing()


@pytest.mark.slow
def test_a_raylet_that_is_stopped_while_ray_starts_is_continued(tmp_path: Path) -> None:
    """Ray waits for it without a limit; for a GCS that is stopped it gives up by itself, after half a minute."""
    launch = _Launch(tmp_path, seeds=1)
    launch.stop(lambda line, _: "/raylet " in line)
    assert launch.process.wait(timeout=120) == 0, launch.said
    assert len(launch.stages) == len(Blobs().deal(0).stages)
    launch.leaves_nothing()


def test_what_no_node_has_is_one_sentence(warm_ray: None) -> None:
    with pytest.raises(
        UserError,
        match=r"no node has what a worker needs \(1 thread and GPUs: 64\): at most cores .*, GPUs 0 on one; say less with",
    ):
        start(Machine(gpus=64))
    with pytest.raises(UserError, match=r"no node has what a worker needs \(4096 threads\)"):
        start(Machine(threads=4096))
    with pytest.raises(
        UserError, match=r"\(1 thread and licence: 2\): at most .*, GPUs 0, licence 0 on one; say less"
    ):
        start(Machine(resources="licence=2"))
    with pytest.raises(
        UserError, match=r"no node has the labels region=eu \(labels there: .*\): mend --labels"
    ):
        start(Machine(labels="region=eu"))


def test_whatever_ray_raises_while_it_starts_is_one_sentence() -> None:
    script = """
import ray
from harness.execution.cluster import start
from harness.execution.machine import Machine
from harness.errors import UserError
def give_up(**options): raise Exception("The current node timed out during startup.")
ray.init = give_up
try:
    start(Machine())
except UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "cannot start Ray (local): The current node timed out during startup.\n"


def test_a_log_stays_bounded_while_it_is_written_to(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with log.open("a") as writer:
        writer.write("first\n" + "x" * (20 << 20) + "\nlast\n")
        writer.flush()
        bound(log)
        writer.write("after\n")
    lines = log.read_text().splitlines()
    assert log.stat().st_size < 70_000
    assert lines[0] == "[20 MiB of the log were dropped here]"
    assert lines[-2:] == ["last", "after"]
    short = tmp_path / "short.txt"
    short.write_text("as it is")
    bound(short)
    assert short.read_text() == "as it is"
