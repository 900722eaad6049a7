"""A cell that found no memory: how that is told from other failures, and what to try next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from harness.messages import Task

Where = Literal["host", "device"]

_SAID_BY_TORCH = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What torch says in a plain RuntimeError: its allocators on the host, the CUDA driver, and cuBLAS."""


def shortage(error: BaseException) -> Where | None:
    """Return which memory an error says there is too little of, None where it is another error."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return "device"
    text = str(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(said in text for said in _SAID_BY_TORCH)):
        return "device" if "CU" in text else "host"
    return None


def what_to_try(task: Task, where: Where) -> str:
    """Return what may let a cell fit: half the batch and fewer views, which are the scenario's parameters; or what the machine gives it."""
    conditions = task.jobs[0].conditions
    sizes = {"batch_size": conditions.batch_size, "first_batch_size": conditions.first_batch_size or 0}
    smaller = [f"{name}={size // 2}" for name, size in sizes.items() if size > 1]
    smaller += [] if conditions.views == "same" else ["fewer views"]
    scenario = [f"{' or '.join(smaller)} in the scenario (then another protocol)"] if smaller else []
    if where == "host":
        machine = ["a larger --memory"]
    else:
        machine = ["a larger --gpus share", *(["--precision bfloat16"] if conditions.precision == "float32" else [])]
    return f"try {', or '.join([*scenario, *machine])}"
