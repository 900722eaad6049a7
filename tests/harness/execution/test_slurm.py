"""Batch files for Slurm: what they say, and what a real Slurm does with them."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import BLOBS, Owb, Run, world
from slurm_cluster import Slurm, lacking

from harness.contracts import Status
from harness.errors import UserError
from harness.execution.slurm import Allocation, batch_file
from harness.results.printable import printable
from harness.store.mlflow_store import Store

ODD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.lists(ODD, min_size=1))
def test_bash_reads_every_word_as_it_was_said(words: list[str]) -> None:
    """Quotes, dollar signs, line ends and control characters too; the file itself holds none of the latter."""
    text = batch_file(words, Allocation())
    assert printable(text) == text
    assert batch_file(words, Allocation()) == text
    last = text[text.rindex("\nowb run ") :]
    said = subprocess.run(
        ["bash", "-c", f"owb() {{ printf '%s\\0' \"$@\"; }}; host=here; port=1{last}"],
        capture_output=True,
        check=True,
    ).stdout
    assert said.decode().split("\0") == ["run", "--address", "here:1", *words, ""]


@pytest.mark.parametrize(
    ("allocation", "options"),
    [
        (Allocation(), ["--nodes=1", "--ntasks-per-node=1", "--exclusive", "--no-kill"]),
        (
            Allocation(nodes=3, cores=8, gpus=2, time="2-12", partition="long,short"),
            [
                "--nodes=3",
                "--ntasks-per-node=1",
                "--cpus-per-task=8",
                "--gpus-per-node=2",
                "--time=2-12",
                "--partition=long,short",
                "--no-kill",
            ],
        ),
    ],
)
def test_a_file_asks_for_what_was_said_and_bash_can_read_it(
    allocation: Allocation, options: list[str], tmp_path: Path
) -> None:
    text = batch_file(["replay"], allocation)
    asked = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]
    assert asked == ["--job-name=owb", *options]
    file = tmp_path / "job.sh"
    file.write_text(text)
    assert subprocess.run(["bash", "-n", str(file)]).returncode == 0


@pytest.mark.parametrize("time", ["90", "90:30", "4:00:00", "2-12", "2-12:30", "2-12:30:00"])
def test_times_are_written_as_slurm_reads_them(time: str) -> None:
    assert f"--time={time}" in Allocation(time=time).options()


@pytest.mark.parametrize("time", ["soon", "4h", "1:99", "1:2:3:4", "2-", "-1", "90\n", "٣"])
def test_another_time_is_refused(time: str) -> None:
    with pytest.raises(UserError, match=r"--time takes minutes"):
        Allocation(time=time)


def test_a_partition_adds_no_further_option() -> None:
    for name in ("a b", "a\n#SBATCH --wrap=x", "a,,b", "$(x)"):
        with pytest.raises(UserError, match="--partition takes the name"):
            Allocation(partition=name)


def test_the_verb_prints_or_writes_the_file_and_reads_the_words_as_the_run_will(
    call_owb: Owb, tmp_path: Path
) -> None:
    words = ["replay", "-s", "class-incremental[stages=2]", "-n", "3", "--no-bounds"]
    printed = call_owb("slurm", "-N", "2", *words)
    wrote = call_owb("slurm", "-N", "2", "--out", str(tmp_path / "job.sh"), *words)
    assert (printed.code, wrote.code, wrote.out) == (0, 0, "")
    assert printed.out == (tmp_path / "job.sh").read_text() == batch_file(words, Allocation(nodes=2))
    assert [path.name for path in tmp_path.glob("*job*")] == ["job.sh"]
    assert "No such option: --sedes" in call_owb("slurm", "replay", "--sedes", "3").err
    refused = call_owb("slurm", "replay", "--address", "here:1")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "leave out --address" in refused.err


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """Return a Slurm of two nodes; without its programs the test is skipped."""
    if program := lacking():
        pytest.skip(f"{program} of Slurm is not installed (Debian: apt-get install slurm-wlm)")
    short = tempfile.TemporaryDirectory(prefix="owb-slurm-")  # a socket's path may have 107 letters
    with short as folder, Slurm(Path(folder)) as found:
        yield found


@pytest.mark.slow
def test_a_job_of_two_nodes_predicts_what_a_run_here_does(
    slurm: Slurm, call_owb: Owb, tiny_run: Run, tmp_path: Path
) -> None:
    store, file = str(tmp_path / "of-the-job"), tmp_path / "job.sh"
    words = [world("Means"), "-s", BLOBS, "-n", "4", "--no-bounds", "--store", store]
    call_owb("slurm", "--nodes", "2", "--cpus-per-task", "1", "--out", str(file), *words)
    code, said = slurm.run(file)
    assert code == 0, said
    assert "4 done" in said
    assert "error" not in said
    records = Store(store).records()
    assert [record.status for record in records] == [Status.DONE] * 4
    alone = tiny_run([world("Means")], seeds=4)
    assert {record.seed: record.digest for record in records} == {
        record.seed: record.digest for record in alone
    }


@pytest.mark.slow
def test_a_job_ends_with_the_exit_code_of_its_run(slurm: Slurm, call_owb: Owb, tmp_path: Path) -> None:
    store, file = str(tmp_path / "store"), tmp_path / "job.sh"
    words = [world("Raises"), "-s", BLOBS, "-n", "1", "--no-bounds", "--store", store]
    call_owb("slurm", "--out", str(file), *words)
    code, said = slurm.run(file)
    assert code == 1, said
