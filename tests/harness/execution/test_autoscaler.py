"""What a worker needs and no node has: an autoscaler that may start such a node is asked and waited for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from raylets import Cluster
from runs import BLOBS, world

from harness.contracts import Status
from harness.store.mlflow_store import Store

OWB = [sys.executable, "-c", "from harness.cli import main; main()"]
HASTY = [
    sys.executable,
    "-c",
    f"from harness.execution import autoscaler; autoscaler.PATIENCE_S = 5; {OWB[-1]}",
]


def _run(joined: Cluster, owb: list[str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *owb,
            "run",
            world("Means"),
            "-s",
            BLOBS,
            "--no-bounds",
            "-n",
            "1",
            "--address",
            joined.address,
            *words,
        ],
        cwd=joined.folder,
        env=joined.environment(OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=400,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_node_that_an_autoscaler_may_start_is_waited_for_and_one_that_nobody_starts_is_not(
    tmp_path: Path,
) -> None:
    """The head has no licence. Nodes with one are started by Ray's autoscaler, through its fake of a provider."""
    with Cluster(tmp_path, starts={"CPU": 1, "licence": 1}) as joined:
        said = _run(joined, OWB, "--resources", "licence=1", "--store", str(tmp_path / "store"))
        assert said.returncode == 0, said.stderr
        assert said.stderr.count("its autoscaler is asked for one, which is waited for\n") == 1
        assert [record.status for record in Store(str(tmp_path / "store")).records()] == [Status.DONE]

        said = _run(joined, HASTY, "--resources", "licence=2")
        assert said.returncode == 2
        assert "its autoscaler is asked for one" in said.stderr
        end = said.stderr.splitlines()[-1]
        assert end.startswith(
            "error: no node has what a worker needs (1 thread and licence: 2): at most cores 1,"
        )
        assert end.endswith("; the cluster's autoscaler was asked, and starts no node that has it")


@pytest.mark.slow
def test_where_nodes_are_started_by_hand_nobody_is_waited_for(tmp_path: Path) -> None:
    with Cluster(tmp_path) as joined:
        said = _run(joined, OWB, "--resources", "licence=1")
    assert said.returncode == 2
    assert said.stderr.splitlines() == [
        "error: no node has what a worker needs (1 thread and licence: 1): at most cores 1, GPUs 0, licence 0 on one; "
        "say less with --threads, --gpus or --resources"
    ]
