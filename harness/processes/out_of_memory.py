"""A cell that found no memory: what to try next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import Memory

if TYPE_CHECKING:
    from harness.processes.messages import Task


def what_to_try(task: Task, where: Memory) -> str:
    """Return what may let a cell fit: half the batch and fewer augmentations, which are the scenario's parameters; or
    what the machine gives it.
    """
    settings = task.jobs[0].settings
    budget = settings.budget
    sizes = {"batch_size": budget.batch_size, "first_batch_size": budget.first_batch_size or 0}
    smaller = [f"{name}={size // 2}" for name, size in sizes.items() if size > 1]
    smaller += [] if budget.augmentations == "same" else ["fewer augmentations"]
    scenario = [f"{' or '.join(smaller)} in the scenario (then another protocol)"] if smaller else []
    if where == "host":
        machine = ["a larger --memory"]
    else:
        machine = [
            "a larger --gpus share",
            *(["--precision bfloat16"] if settings.precision == "float32" else []),
        ]
    return f"try {', or '.join([*scenario, *machine])}"
