"""One Happy training step at ViT-B/16 shapes against a plain one that runs three whole backbones, side by
side on one thread.

The plain step does what Happy's released code does: the network, its backbone again for the distilled
features, and the previous backbone, each with all tokens through all blocks. Ours runs the frozen trunk once
for all three and the last block for the class token alone; with a bank of views the trunk does not run at
all. All three compute the same losses from the same weights; the values are compared first.

Run: python benchmarks/happy_step.py
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from harness.cell.run import CellContext, CellSettings
from harness.contracts import TrainingBudget
from strategies.cgcd.happy import Happy
from strategies.toolkit.augmentations import Same, generator_of
from strategies.toolkit.discovery import losses
from strategies.toolkit.discovery.two_views import CachedViews, Fresh

BATCH, ROUNDS, KNOWN, NEW = 4, 7, 50, 10


def happy() -> Happy:
    """Return a learner in the middle of a stage: 50 known classes, 10 new ones."""
    learner = Happy(projector_width=2048, projector_out=256, first_trainable="last", rehearsal="uniform")
    settings = CellSettings(
        root_seed=0, budget=TrainingBudget(backbone="timm:vit_base_patch16_224", epochs=1, batch_size=BATCH)
    )
    learner.start(CellContext(settings=settings, scratch=Path(), on_progress=lambda *_: None))
    learner.network.build((3, 224, 224), KNOWN).freeze("last")
    learner.initial = learner.known_before = KNOWN
    learner.known = KNOWN + NEW
    learner.means = torch.nn.functional.normalize(torch.randn(KNOWN, 768), dim=1)
    learner.variances = torch.full((KNOWN, 768), 1e-4)
    learner.teacher = None
    learner.network.set_rows(KNOWN + NEW)
    return learner


def main() -> None:
    """Print seconds and ratios of the three kinds of step."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    whole = timm.create_model("vit_base_patch16_224", pretrained=False, num_classes=0).requires_grad_(False)
    whole.blocks[-1].requires_grad_(True)
    learner = happy()
    _same_weights(learner, whole)
    before = copy.deepcopy(whole).requires_grad_(False)
    previous = learner.network.previous()
    images = torch.randn(BATCH, 3, 224, 224)
    rows, chances = torch.arange(BATCH), torch.ones(KNOWN)
    network = learner.network
    head = [*network.classifier.parameters(), *network.projector.parameters()]

    def rehearsal() -> Tensor:
        return learner.rehearsal_loss(chances, 2 * BATCH, generator_of(learner.context, "rehearsal"))

    def plain() -> Tensor:
        views = torch.cat([images, images])
        features = whole(views)
        logits = network.classifier(features)
        again = whole(views)
        with torch.no_grad():
            held = before(views)
        return (
            losses.self_distillation(logits, logits.detach(), temperature=0.1, teacher_temperature=0.05)
            + losses.group_entropy(logits, KNOWN, temperature=0.1)
            + losses.info_nce(network.projector(features), temperature=1.0)
            + losses.feature_distance(again, held)
            + rehearsal()
        )

    def ours(source: Any) -> Callable[[], Tensor]:
        return lambda: learner.later_total(source.pair(images, rows), 0.05, learner.auxiliary_loss(previous))

    generator = generator_of(learner.context, "views")
    steps = {
        "plain: three whole backbones": (plain, [*whole.blocks[-1].parameters(), *head]),
        "ours: one trunk, class token": (
            ours(Fresh(network, Same(), generator, previous)),
            _trainable(network),
        ),
        "ours with a bank of views": (
            ours(CachedViews(network, images, Same(), generator, 2, previous)),
            _trainable(network),
        ),
    }
    print(
        "loss:",
        ", ".join(
            f"{name.partition(':')[0]} {float(step().detach()):.4f}" for name, (step, _) in steps.items()
        ),
    )
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, (step, weights) in steps.items():
            optimiser = torch.optim.SGD(weights, lr=0.0, momentum=0.9)
            started = time.perf_counter()
            optimiser.zero_grad()
            step().backward()
            optimiser.step()
            seconds[name].append(time.perf_counter() - started)
    reference = seconds["plain: three whole backbones"]
    for name, taken in seconds.items():
        ratios = sorted(slow / fast for slow, fast in zip(reference, taken, strict=True))
        spread = f"({ratios[1]:.1f} to {ratios[-2]:.1f})"
        print(
            f"{name:30s} {statistics.median(taken):6.3f} s   {statistics.median(ratios):6.1f} x faster {spread}"
        )


def _trainable(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [weight for weight in network.parameters() if weight.requires_grad]


def _same_weights(learner: Happy, whole: Any) -> None:
    """Give our parts the weights of the whole model."""
    trunk, last = learner.network.parts
    trunk.model.load_state_dict(whole.state_dict(), strict=False)
    last.block.load_state_dict(whole.blocks[-1].state_dict())
    last.norm.load_state_dict(whole.norm.state_dict())


if __name__ == "__main__":
    main()
