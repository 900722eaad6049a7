"""Stand-ins for what the harness lends, and stages of noise."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from harness import seeds
from harness.contracts import HIDDEN, Stage


@dataclass
class FakeContext:
    """A context that records what it is told; offers before the first step are kept apart from later ones."""

    backbone: str = "mlp[width=16,depth=1]"
    device: str = "cpu"
    precision: str = "float32"
    epochs: int = 2
    gradient_steps: int = 0
    batch_size: int = 8
    scratch: Path = Path()
    steps: list[tuple[int, int, dict[str, float]]] = field(default_factory=list)
    probes: list[int] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    augmentations: str = "same"
    compile: bool = False

    def stream(self, name: str) -> np.random.Generator:
        return seeds.stream(name, seed=1)

    def progress(self, step: int, total: int, **values: float) -> None:
        self.steps.append((step, total, values))

    def probe(self, step: int) -> None:
        (self.probes if step else self.begun).append(step)

    def epoch_ended(self, epoch: int) -> None:
        self.ended.append(epoch)


def stage_of(index: int, labels: np.ndarray, named: int) -> Stage:
    """Return a stage of normal noise in five dimensions, with these labels."""
    inputs = np.random.default_rng(index).normal(size=(len(labels), 5)).astype(np.float32)
    return Stage(
        index=index,
        ids=np.arange(len(labels)),
        inputs=inputs,
        labels=labels,
        named_classes=named,
        new_classes=None,
    )


def stage_without_labels(index: int, size: int, *, new: int | None = 2) -> Stage:
    """Return a stage of category discovery: three classes have names, `new` more are among the items."""
    return replace(stage_of(index, np.full(size, HIDDEN), 3), new_classes=new)
