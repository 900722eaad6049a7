"""Stand-ins for what the harness lends."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness import seeds


@dataclass
class FakeContext:
    """A context that records what it is told."""

    backbone: str = "mlp[width=16,depth=1]"
    device: str = "cpu"
    precision: str = "float32"
    epochs: int = 2
    gradient_steps: int = 0
    batch_size: int = 8
    scratch: Path = Path()
    steps: list[tuple[int, int, dict[str, float]]] = field(default_factory=list)
    probes: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    views: str = "same"
    compile: bool = False

    def stream(self, name: str) -> np.random.Generator:
        return seeds.stream(name, seed=1)

    def progress(self, step: int, total: int, **values: float) -> None:
        self.steps.append((step, total, values))

    def probe(self, step: int) -> None:
        self.probes.append(step)

    def epoch_ended(self, epoch: int) -> None:
        self.ended.append(epoch)
