"""`owb doctor`: what it finds on this machine and on made-up ones, and what it says to do next."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import types
from pathlib import Path

import disk_formats as formats
import psutil
import pytest
import torch
from runs import Owb

from harness.execution import cgroup
from harness.store.mlflow_store import Store
from scenarios.cli.data import fetchable


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OWB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "data").mkdir()


def _lines(text: str) -> dict[str, str]:
    return {line[:10].strip(): line[12:] for line in text.splitlines() if not line.startswith("->")}


def _advice(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.startswith("-> "))


def test_every_finding_is_a_line_and_nothing_is_written(call_owb: Owb, tmp_path: Path) -> None:
    said = call_owb("doctor")
    assert (said.code, said.err) == (0, "")
    found = _lines(said.out)
    machine = [
        "python",
        "packages",
        "cores",
        "memory",
        "torch",
        "processes",
        "compiler",
        "faiss",
        "libraries",
    ]
    assert [*found] == [*machine, "store", "cache", "data sets", "weights"]
    assert found["python"].startswith(sys.version.split()[0])
    assert found["memory"].startswith(f"{psutil.virtual_memory().total / 2**30:.1f} GiB")
    assert found["torch"].startswith(
        f"{torch.__version__}, {torch.get_num_threads()} threads, CUDA devices: "
    )
    assert found["store"].startswith(f"{tmp_path / 'owb-store'} (made at the first run), ")
    assert found["cache"] == f"{tmp_path / 'cache'}, 0 files, 0 MiB"
    assert found["weights"].endswith(f"timm: none in {tmp_path / 'hub'}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_nodes_are_a_line_where_an_address_is_given(call_owb: Owb, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says of nodes that answer is tried with a cluster in `test_joined_cluster.py`."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        said = call_owb("doctor", "--address", address)
    assert said.code == 1
    assert _lines(said.out)["nodes"] == f"none at {address}"
    assert f"nobody answers at {address} (" in said.err


@pytest.mark.parametrize(
    ("forks", "sentence"),
    [(True, "forked from a parent"), (False, "loads the libraries itself, which takes sec")],
)
def test_how_cells_begin_is_said(
    call_owb: Owb, monkeypatch: pytest.MonkeyPatch, forks: bool, sentence: str
) -> None:
    monkeypatch.setattr("harness.processes.workshop.FORKS", forks)
    assert sentence in _lines(call_owb("doctor").out)["processes"]


def test_json_has_the_same_with_numbers(call_owb: Owb) -> None:
    found = call_owb("doctor", "--json").json
    assert found["cores"]["facts"]["machine"] == os.cpu_count()
    assert 1 <= found["cores"]["facts"]["usable"] <= len(os.sched_getaffinity(0))
    assert found["torch"]["facts"]["threads"] == torch.get_num_threads()
    assert found["broken"] == []
    assert found["advice"] == [
        line for name in found if name not in ("advice", "broken") for line in found[name]["advice"]
    ]


def test_a_missing_compiler_is_told_and_breaks_nothing(
    call_owb: Owb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++ -O2")
    said = call_owb("doctor")
    assert said.code == 0
    assert _lines(said.out)["compiler"] == "/nowhere/c++ -O2 is not there"
    assert "-> no C++ compiler: --compile needs /nowhere/c++ -O2, or another that CXX names" in _advice(
        said.out
    )


def test_it_loads_torch_and_faiss_and_none_of_the_slow_rest() -> None:
    code = (
        "import sys; from harness.cli.doctor import examine; examine('owb-store'); "
        "print([name for name in ('mlflow', 'ray', 'avalanche', 'pandas', 'matplotlib', 'timm') if name in "
        "sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- data sets, weights, cache ------------------------------------------------------------------------------


def test_data_sets_that_are_there_are_named_and_the_others_told_how_to_get(
    call_owb: Owb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    formats.cifar100(tmp_path / "data")
    (tmp_path / "data" / "visa").mkdir()
    found = call_owb("doctor", "--json").json["data sets"]
    listed = call_owb("data", "list", "--json").json
    assert found["facts"]["there"] == [name for name, row in listed.items() if row["found"]]
    assert {"cifar100", "digits", "anomaly[source=visa]"} <= {*found["facts"]["there"]}
    brought, asked_for = found["advice"]
    assert brought.startswith("`owb data fetch NAME` brings ")
    assert {*brought.removeprefix("`owb data fetch NAME` brings ").split(", ")} == {*fetchable()} - {
        "cifar100"
    }
    assert asked_for.startswith("`owb data list` says how to get animal10n, cars, clothing1m, imagenet")
    monkeypatch.delenv("OWB_DATA")
    assert "-> OWB_DATA is not set: set it to the folder above your data sets" in call_owb("doctor").out
    monkeypatch.setenv("OWB_DATA", str(tmp_path / "gone"))
    assert (
        f"-> OWB_DATA is {tmp_path / 'gone'}, and there is no such folder: make it, or set it"
        in call_owb("doctor").out
    )


def test_weights_and_cache_are_counted(
    call_owb: Owb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hub" / "models--timm--vit_small_patch14_dinov2").mkdir(parents=True)
    (tmp_path / "cache" / "inside").mkdir(parents=True)
    (tmp_path / "cache" / "inside" / "pack.npy").write_bytes(bytes(3 << 20))
    found = _lines(call_owb("doctor").out)
    assert "timm: timm/vit_small_patch14_dinov2 in" in found["weights"]
    assert found["cache"].endswith(", 1 files, 3 MiB")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "file" / "inside"))
    assert f"the cache {tmp_path / 'file' / 'inside'} cannot be written: set OWB_CACHE" in _advice(
        call_owb("doctor").out
    )


# --- the store ----------------------------------------------------------------------------------------------


def test_the_store_is_counted_and_a_damaged_one_is_broken(call_owb: Owb, tmp_path: Path) -> None:
    client = Store(str(tmp_path / "mine")).client
    for name in ("one", "two"):
        client.create_run(client.create_experiment(name))
    found = call_owb("doctor", "--store", "mine", "--json").json["store"]["facts"]
    assert (found["experiments"], found["cells"]) == (2, 2)
    (tmp_path / "mine" / "mlflow.db").write_bytes(b"SQLite format 3\0" + bytes(5000))
    said = call_owb("doctor", "--store", "mine")
    assert said.code == 1
    assert said.err.startswith(f"error: {tmp_path / 'mine' / 'mlflow.db'} cannot be read (")
    assert said.err.count("\n") == 1
    assert "mine (damaged)" in _lines(said.out)["store"]


def test_a_store_elsewhere_is_named_and_not_opened(call_owb: Owb) -> None:
    assert (
        _lines(call_owb("doctor", "--store", "http://nowhere.invalid:5000").out)["store"]
        == "http://nowhere.invalid:5000"
    )


# --- the machine --------------------------------------------------------------------------------------------


def test_cores_that_are_not_ours_do_not_count(call_owb: Owb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(cgroup, "cores", lambda: 2.5)
    said = call_owb("doctor")
    assert _lines(said.out)["cores"] == "2 of 16 usable (4 by affinity, 2.5 by control group)"
    assert "-> only 2 of 16 cores are yours: say --workers 2" in said.out


def test_too_little_memory_for_a_cell_is_said(call_owb: Owb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "memory_mib", lambda: 2048.0)
    said = call_owb("doctor")
    assert _lines(said.out)["memory"].endswith(", 2.0 by control group")
    assert "-> a cell may take 4096 MiB and 2048 are there: say --workers 1, or --memory" in said.out


def test_a_gpu_that_is_there_is_named_and_faiss_told_to_use_it(
    call_owb: Owb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is none here, so torch is told that there is."""
    device = types.SimpleNamespace(name="NVIDIA A100", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    said = call_owb("doctor")
    assert (
        "CUDA devices: NVIDIA A100 80 GiB, NVIDIA A100 80 GiB, bfloat16 native" in _lines(said.out)["torch"]
    )
    assert "-> CUDA is there: say --device cuda --gpus 1 --precision bfloat16" in said.out
    assert "-> faiss sees no GPU, torch does: pip install 'openworld-bench[gpu]', then `make gpu`" in said.out


def test_a_library_that_does_not_load_is_broken(call_owb: Owb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    said = call_owb("doctor", "--json")
    assert said.code == 1
    (line,) = json.loads(said.out)["broken"]
    assert line.startswith("faiss does not load (")
    assert line.endswith("): pip install --force-reinstall faiss-cpu")


# --- control groups -----------------------------------------------------------------------------------------


def _tree(root: Path, groups: str, files: dict[str, str]) -> Path:
    for name, content in {"proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content + "\n")
    return root


def test_the_smallest_limit_of_version_2_counts(tmp_path: Path) -> None:
    root = _tree(
        tmp_path,
        "0::/slice/job",
        {
            "sys/fs/cgroup/slice/cpu.max": "150000 100000",
            "sys/fs/cgroup/slice/job/cpu.max": "max 100000",
            "sys/fs/cgroup/slice/memory.max": str(6 * 2**30),
            "sys/fs/cgroup/slice/job/memory.max": str(4 * 2**30),
        },
    )
    assert cgroup.cores(root) == 1.5
    assert cgroup.memory_mib(root) == 4096


def test_version_1_has_a_tree_for_each_controller(tmp_path: Path) -> None:
    root = _tree(
        tmp_path,
        "5:memory:/box\n4:cpu,cpuacct:/box\n0::/",
        {
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "400000",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/box/memory.limit_in_bytes": str(2**30),
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        },
    )
    assert cgroup.cores(root) == 4
    assert cgroup.memory_mib(root) == 1024


def test_a_path_that_the_container_does_not_see_falls_back_on_its_root(tmp_path: Path) -> None:
    root = _tree(tmp_path, "0::/docker/abc", {"sys/fs/cgroup/cpu.max": "50000 100000"})
    assert cgroup.cores(root) == 0.5
    assert cgroup.memory_mib(root) is None


def test_without_limits_there_are_none(tmp_path: Path) -> None:
    root = _tree(
        tmp_path,
        "3:cpu:/\n2:memory:/",
        {
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        },
    )
    assert (cgroup.cores(root), cgroup.memory_mib(root)) == (None, None)
    assert (cgroup.cores(tmp_path / "elsewhere"), cgroup.memory_mib(tmp_path / "elsewhere")) == (None, None)
