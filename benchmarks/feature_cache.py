"""Training the last block of a ViT-S over 3 epochs of 500 images: the frozen trunk cached against recomputed,
side by side on one thread.

The network is read from a weights file (ViT-S/16 as drawn, written to a temporary folder first) and its last
block is lent for training; images are noise, 8 bits a value. Both trainings take the same steps from the same
weights. The time of the cache includes filling it. A third training has room for half of the items. Seconds
are those of the processor, so that other work on the machine counts for little.

Run: OMP_NUM_THREADS=1 python benchmarks/trunk_cache.py [SIDE of images in px, 96 by default]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness.cell.run import CellContext, CellSettings
from harness.contracts import TrainingBudget
from strategies.toolkit.augmentations import Same, generator_of
from strategies.toolkit.discovery.feature_cache import FeatureCache
from strategies.toolkit.discovery.split_network import SplitNetwork
from strategies.toolkit.training.tensors import as_tensor

ITEMS, EPOCHS, BATCH, CLASSES = 500, 3, 50, 10
MODEL = "vit_small_patch16_224"


class Training:
    """A network of its own, trained an epoch at a time; `source` makes hidden values of rows."""

    def __init__(self, text: str, images: Tensor, labels: Tensor, budget_mib: int | None) -> None:
        """Take None for the budget to compute the trunk at every step."""
        settings = CellSettings(
            root_seed=0, budget=TrainingBudget(backbone=text, epochs=EPOCHS, batch_size=BATCH)
        )
        context = CellContext(settings=settings, scratch=Path(), on_progress=lambda *_: None)
        self.network = SplitNetwork(context)
        self.network.build_backbone(tuple(images.shape[1:]))
        self.network.train()
        torch.manual_seed(0)
        self.head = nn.Linear(self.network.dimensions, CLASSES)
        weights = [
            weight for weight in (*self.network.parameters(), *self.head.parameters()) if weight.requires_grad
        ]
        self.optimiser = torch.optim.SGD(weights, lr=0.01, momentum=0.9)
        self.images, self.labels, self.budget_mib, self.context = images, labels, budget_mib, context
        self.cache: FeatureCache | None = None
        self.seconds, self.losses = 0.0, list[float]()

    def epoch(self) -> None:
        """Take the steps of one epoch, the cache filled first where there is none yet."""
        started = time.process_time()
        if self.budget_mib is not None and self.cache is None:
            generator = generator_of(self.context, "views")
            self.cache = FeatureCache(
                self.network, self.images, Same(), generator, 1, budget_mib=self.budget_mib
            )
        source = self._cached if self.cache else self._fresh
        for rows in torch.split(torch.arange(ITEMS), BATCH):
            self.losses.append(self._step(source, rows))
        self.seconds += time.process_time() - started

    def _step(self, source: Callable[[Tensor], Tensor], rows: Tensor) -> float:
        self.optimiser.zero_grad()
        loss = cross_entropy(self.head(self.network.features(source(rows))), self.labels[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return float(loss.detach())

    def _fresh(self, rows: Tensor) -> Tensor:
        return self.network.hidden(self.images[rows])

    def _cached(self, rows: Tensor) -> Tensor:
        assert self.cache is not None
        return self.cache.batch(torch.zeros_like(rows), rows).hidden


def main() -> None:
    """Print seconds, ratio, memory, and how far the trainings are apart."""
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 96
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    images = as_tensor(rng.integers(0, 256, (ITEMS, 3, side, side), dtype=np.uint8), "cpu")
    labels = torch.from_numpy(rng.integers(0, CLASSES, ITEMS))
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        file = Path(folder) / "vit-s.pth"
        torch.save({"model": timm.create_model(MODEL, pretrained=False).state_dict()}, file)
        text = f"timm:{MODEL}[weights={file},image={side},trainable=last]"
        probe = Training(text, images, labels, 0)
        one = probe.network.hidden(images[:1]).half()
        mib = max(1, ITEMS // 2 * one.numel() * one.element_size() // 2**20)
        budgets = {"recomputed": None, "cached": 0, f"cached within {mib} MiB": mib}
        trainings = {name: Training(text, images, labels, budget) for name, budget in budgets.items()}
        for _ in range(EPOCHS):
            for training in trainings.values():
                training.epoch()
    plain = trainings["recomputed"]
    print(
        f"{MODEL}, {side} px, {ITEMS} images, {EPOCHS} epochs of {len(plain.losses) // EPOCHS} steps, last "
        "block trained, one thread"
    )
    for name, training in trainings.items():
        apart = max(abs(a - b) for a, b in zip(training.losses, plain.losses, strict=True))
        kept = (
            f", {training.cache.kept} items kept in {training.cache.nbytes / 2**20:.1f} MiB"
            if training.cache
            else ""
        )
        print(
            f"{name:22s} {training.seconds:6.1f} s of the processor, {plain.seconds / training.seconds:.2f} x; "
            f"losses at most {apart:.1e} from those recomputed{kept}"
        )


if __name__ == "__main__":
    main()
