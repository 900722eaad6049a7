"""A learner that tells whether torch compiled anything for it, found by path."""

from __future__ import annotations

from harness.contracts import Stage
from strategies.class_incremental.joint import Joint


class Compiled(Joint):
    """The upper bound; it fails where nothing was compiled for its network."""

    def learn(self, stage: Stage) -> None:
        from torch._dynamo.utils import counters

        counters.clear()
        super().learn(stage)
        if not counters["stats"]["unique_graphs"]:
            raise RuntimeError("nothing was compiled")
