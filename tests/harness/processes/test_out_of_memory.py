"""A cell that finds no memory ends as such, and its reason says in one sentence what to try next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkout import SUPPORT
from memory_worlds import CUDA
from runs import BLOBS, Run, world

from harness.cell.run import CellSettings
from harness.contracts import Status, TrainingBudget
from harness.errors import shortage
from harness.execution.execute import Limits
from harness.processes.messages import Job, Pack
from harness.processes.out_of_memory import what_to_try


def _job(batch_size: int = 32, augmentations: str = "same", precision: str = "float32") -> Job:
    settings = CellSettings(
        root_seed=0,
        budget=TrainingBudget(backbone="mlp", epochs=1, batch_size=batch_size, augmentations=augmentations),
        precision=precision,
    )  # type: ignore[arg-type]
    return Job(
        key="k",
        strategy="s",
        source=None,
        params={},
        settings=settings,
        keep=Path(),
        shared=(),
        timeout_s=1,
        memory_mib=1,
    )


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (torch.OutOfMemoryError(CUDA), "device"),
        (RuntimeError("CUDA error: out of memory"), "device"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "device",
        ),
        (MemoryError("Unable to allocate 8.00 PiB for an array"), "host"),
        (MemoryError(), "host"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried"
            ),
            "host",
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (ValueError("out of memory of the past"), None),
    ],
)
def test_a_shortage_is_told_from_other_errors(error: Exception, where: str | None) -> None:
    assert shortage(error) == where


def test_the_batch_is_halved_and_views_count_where_there_are_any() -> None:
    scenario = "batch_size=16 in the scenario (then another protocol)"
    assert what_to_try(_job(), "host") == f"try {scenario}, or a larger --memory"
    assert (
        what_to_try(_job(), "device") == f"try {scenario}, or a larger --gpus share, or --precision bfloat16"
    )
    assert what_to_try(_job(precision="bfloat16"), "device") == f"try {scenario}, or a larger --gpus share"
    assert what_to_try(_job(33, "crop"), "host").startswith(
        "try batch_size=16 or fewer augmentations in the scenario (then another protocol), or"
    )
    assert what_to_try(_job(1), "host") == "try a larger --memory"
    settings = _job(1).settings
    larger = replace(settings.budget, first_batch_size=8)
    first = replace(_job(1), settings=replace(settings, budget=larger))
    assert what_to_try(first, "host").startswith("try first_batch_size=4 in the scenario")
    assert (
        what_to_try(_job(1, "crop"), "host")
        == "try fewer augmentations in the scenario (then another protocol), or a larger --memory"
    )
    assert what_to_try(Pack(key="p", jobs=(_job(64), _job(64)), keep=Path()), "host").startswith(
        "try batch_size=32 in"
    )


def test_cells_without_memory_say_what_to_try_and_the_neighbours_finish(tiny_run: Run) -> None:
    own = [
        f"{SUPPORT / 'memory_worlds.py'}:{name}"
        for name in ("NoDeviceMemory", "TooLargeForTheHost", "TooLargeForNumpy")
    ]
    records = tiny_run(
        [*own, world("Eats"), world("Means")],
        scenario=f"{BLOBS}[batch_size=24]",
        limits=Limits(memory_mib=1200),
    )
    ends = {record.strategy.rpartition(":")[2]: (record.status, record.reason) for record in records}
    assert ends.pop("Means") == (Status.DONE, "")
    assert {status for status, _ in ends.values()} == {Status.OUT_OF_MEMORY}
    host = "; try batch_size=12 in the scenario (then another protocol), or a larger --memory"
    assert ends["NoDeviceMemory"][1] == (
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB of which "
        "1.52 GiB is free; try "
        "batch_size=12 in the scenario (then another protocol), or a larger --gpus share, or --precision bfloat16"
    )
    for name, said in (
        ("TooLargeForTheHost", "can't allocate memory"),
        ("TooLargeForNumpy", "Unable to allocate"),
        ("Eats", "the limit is 1200 MiB"),
    ):
        assert said in ends[name][1]
        assert ends[name][1].endswith(host)
        assert "\n" not in ends[name][1]
