"""What INP-Former saves by computing the tokens of its frozen encoder once, side by side with encoding in
every epoch, on one thread.

Training images are not augmented, so that the encoder says the same in every epoch; the released code runs it
at every step nevertheless. Both ways take the same steps on the same batches. Ratios are taken within rounds,
in which both take turns; times are processor time, so that other work on the machine counts little. A step is
split into its encoder and its trained part, of which the optimiser is one.

1. The small model on the Gabor bank: 96 images of 64 x 64, batches of 16.
2. The released model with ViT-S/14 and registers (as drawn: weights do not change the time): 4 images of 392
x 392 as one batch.

Run: OMP_NUM_THREADS=1 python benchmarks/inp_former.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.cell.run import CellContext, CellSettings
from harness.contracts import TrainingBudget
from strategies.anomaly.inp_former import InpFormer
from strategies.anomaly.inp_losses import coherence_loss, soft_mining_loss
from strategies.anomaly.stable_adamw import StableAdamW

SMALL = {"backbone": "gabor", "size": 64, "images": 96, "batch_size": 16}
LARGE = {"backbone": "timm:vit_small_patch14_reg4_dinov2", "size": 392, "images": 4, "batch_size": 4}


def main() -> None:
    """Print both settings."""
    torch.set_num_threads(1)
    compared("small model, gabor, 64 px", InpFormer(), **SMALL, rounds=7, epochs=25)
    paper = {**InpFormer.presets["paper"].values, "width": 384, "heads": 6}
    compared("released model, ViT-S/14, 392 px", InpFormer(**paper), **LARGE, rounds=3, epochs=200)


def compared(
    title: str,
    learner: InpFormer,
    *,
    backbone: str,
    size: int,
    images: int,
    batch_size: int,
    rounds: int,
    epochs: int,
) -> None:
    """Print seconds an epoch and their ratio, and where a step goes."""
    settings = CellSettings(
        root_seed=0, budget=TrainingBudget(backbone=backbone, epochs=1, batch_size=batch_size)
    )
    learner.start(CellContext(settings=settings, scratch=Path(), on_progress=lambda *_: None))
    inputs = np.random.default_rng(0).integers(0, 256, (images, 3, size, size), dtype=np.uint8)
    encoder = learner.encoder_for(inputs)
    first = encoder.encode(inputs[:1])
    if learner.standardise:
        learner.standard.fit(first)
    learner.build(first)
    network = learner.network.train()
    optimiser = StableAdamW(network.parameters(), lr=0.0)
    rows = np.split(np.arange(images), images // batch_size)
    spent: dict[str, list[float]] = {"encoder": [], "trained part": [], "of it optimiser": []}
    held: list[Tensor] = []

    def encoded(at: Any) -> Tensor:
        return timed(lambda: learner.projected(learner.tokens_of(inputs[at])), spent["encoder"])

    def trained(tokens: Tensor) -> None:
        optimiser.zero_grad()
        rebuilt = network(tokens)
        loss = soft_mining_loss(tokens.unbind(dim=1), rebuilt.groups, gamma=3.0)
        (loss + 0.2 * coherence_loss(rebuilt.fused, rebuilt.prototypes)).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        timed(optimiser.step, spent["of it optimiser"])

    def every_epoch() -> None:
        for at in rows:
            tokens = encoded(at)
            timed(lambda tokens=tokens: trained(tokens), spent["trained part"])

    def cached() -> None:
        for tokens in held:
            trained(tokens)

    once: list[float] = []
    held += timed(lambda: [encoded(at) for at in rows], once)
    seconds: dict[str, list[float]] = {"every epoch": [], "cached": []}
    for round_ in range(rounds + 1):
        for name, epoch in (("every epoch", every_epoch), ("cached", cached)):
            timed(epoch, seconds[name] if round_ else [])  # the first warms up
    ratios = sorted(slow / fast for slow, fast in zip(seconds["every epoch"], seconds["cached"], strict=True))
    slow, fast = (statistics.median(taken) for taken in seconds.values())
    print(
        f"{title}: epoch of {images} images {slow:.2f} s encoding every time, {fast:.2f} s with tokens kept: "
        f"{statistics.median(ratios):.2f} x ({ratios[0]:.2f} to {ratios[-1]:.2f}); "
        f"{epochs} epochs with the encoding before them: {epochs * slow / (once[0] + epochs * fast):.2f} x"
    )
    split = {name: 1e3 * statistics.median(taken) for name, taken in spent.items()}
    weights = sum(weight.numel() for weight in network.parameters()) / 1e6
    print(
        f"  a step of {batch_size}: "
        + ", ".join(f"{name} {taken:.0f} ms" for name, taken in split.items())
        + f"; {weights:.2f} M trained weights"
    )


def timed(action: Callable[[], Any], seconds: list[float]) -> Any:
    """Return what `action` gives; append the processor time it took."""
    started = time.process_time()
    value = action()
    seconds.append(time.process_time() - started)
    return value


if __name__ == "__main__":
    main()
