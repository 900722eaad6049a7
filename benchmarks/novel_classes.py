"""Novel class discovery against what is usual, side by side on one thread: pairs, tables and distances, and
one training step of Cr-KD.

Pairs of rank statistics: 256 items of 512 features, the sets of the 5 largest compared one pair after
another, and as AutoNovel's released code compares them, with the ranks of both items of every pair written
out. Contingency table: 10,000 answers over 100 classes, counted item by item. Distances: 256 items to 256
others of 512 features, one pair after another.

The step has ViT-B/16 shapes, random weights, 4 images, two large views, 2 heads of 2048-256, 50 known and 50
novel classes. The plain step does what Cr-KD's released code does: a whole student and a whole teacher, all
views and all tokens through all blocks. Ours runs the frozen trunk once for both and the last block for the
class token alone; with a bank of views neither trunk nor teacher runs. All three compute the same loss from
the same weights; the values are compared first.

Run: OMP_NUM_THREADS=1 python benchmarks/novel_classes.py
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from harness.cell.run import CellContext, CellSettings
from harness.contracts import TrainingBudget
from harness.metrics.discovery import contingency
from strategies.assignment.rules import sinkhorn
from strategies.ncd import losses
from strategies.ncd.cr_kd import CrKD
from strategies.ncd.network import HeadSizes
from strategies.ncd.uno import Seen
from strategies.toolkit.discovery.losses import rank_pairs
from strategies.toolkit.training.loop import Batch
from strategies.toolkit.training.tensors import Items

ITEMS, FEATURES, TOP = 256, 512, 5
ANSWERS, CLASSES = 10_000, 100
BATCH, ROUNDS, KNOWN, NOVEL = 4, 5, 50, 50
SIZES = HeadSizes(heads=2, width=2048, out=256, novel=NOVEL)


def main() -> None:
    """Print all comparisons."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    _compare_loops()
    _compare_steps()


def interleaved(actions: Sequence[Callable[[], Any]], rounds: int) -> list[list[float]]:
    """Return the seconds of every action, all of them taking turns."""
    taken: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for seconds, action in zip(taken, actions, strict=True):
            started = time.perf_counter()
            action()
            seconds.append(time.perf_counter() - started)
    return taken


# --- loops --------------------------------------------------------------------------------------------------


def pairs_by_sets(features: Tensor) -> Tensor:
    """Return which rows share the set of their largest features, one pair after another."""
    tops = features.topk(TOP, dim=1).indices.tolist()
    return torch.tensor([[set(one) == set(other) for other in tops] for one in tops])


def pairs_by_repetition(features: Tensor) -> Tensor:
    """Return the same as AutoNovel's released code does: full ranks of both items of every pair, written out,
    then compared.
    """
    ranks, items = features.argsort(dim=1, descending=True), len(features)
    one, other = ranks.repeat(items, 1)[:, :TOP], ranks.repeat(1, items).view(-1, ranks.shape[1])[:, :TOP]
    different = (one.sort(dim=1).values - other.sort(dim=1).values).abs().sum(dim=1)
    return (different == 0).view(items, items)


def table_by_items(predicted: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return how many items of each class got each row, counted one by one."""
    table = np.zeros((CLASSES, CLASSES), dtype=np.int64)
    for place in range(len(predicted)):
        table[predicted[place], classes[place]] += 1
    return table


def distances_by_pairs(first: Tensor, second: Tensor) -> Tensor:
    """Return the distances of all pairs, one after another."""
    return torch.stack([torch.stack([(one - other).norm() for other in second]) for one in first])


def _compare_loops() -> None:
    rng = np.random.default_rng(0)
    features, others = torch.rand(ITEMS, FEATURES), torch.rand(ITEMS, FEATURES)
    features[ITEMS // 2 :] = features[: ITEMS // 2]
    predicted, classes = rng.integers(CLASSES, size=ANSWERS), rng.integers(CLASSES, size=ANSWERS)
    assert torch.equal(rank_pairs(features, top=TOP), pairs_by_sets(features))
    assert torch.equal(rank_pairs(features, top=TOP), pairs_by_repetition(features))
    assert (contingency(predicted, classes) == table_by_items(predicted, classes)).all()
    torch.testing.assert_close(
        torch.cdist(features, others), distances_by_pairs(features, others), atol=1e-3, rtol=1e-3
    )
    compared: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        f"rank pairs, {ITEMS} x {FEATURES}, top {TOP}": (
            lambda: pairs_by_sets(features),
            lambda: rank_pairs(features, top=TOP),
        ),
        "the same, as released": (
            lambda: pairs_by_repetition(features),
            lambda: rank_pairs(features, top=TOP),
        ),
        f"table, {ANSWERS:,} x {CLASSES} classes": (
            lambda: table_by_items(predicted, classes),
            lambda: contingency(predicted, classes),
        ),
        f"distances, {ITEMS} x {ITEMS} x {FEATURES}": (
            lambda: distances_by_pairs(features, others),
            lambda: torch.cdist(features, others),
        ),
    }
    for name, actions in compared.items():
        loop, ours = interleaved(actions, 15)
        times = (
            f"loop {1000 * statistics.median(loop):8.2f} ms, ours {1000 * statistics.median(ours):7.3f} ms"
        )
        print(f"{name:36s} {times}: {_ratios(loop, ours)}")


# --- one training step --------------------------------------------------------------------------------------


def learner_of(whole: Any, *, cached_views: int) -> CrKD:
    """Return Cr-KD at the first step of stage 1, with the weights of the whole model."""
    learner = CrKD(
        heads=SIZES.heads, width=SIZES.width, out=SIZES.out, trainable="last", cached_views=cached_views
    )
    settings = CellSettings(
        root_seed=0, budget=TrainingBudget(backbone="timm:vit_base_patch16_224", epochs=1, batch_size=BATCH)
    )
    learner.start(CellContext(settings=settings, scratch=Path(), on_progress=lambda *_: None))
    network = learner.network.build((3, 224, 224), KNOWN)
    parts: list[Any] = list(network.parts)
    trunk, last = parts
    trunk.model.load_state_dict(whole.state_dict(), strict=False)
    last.block.load_state_dict(whole.blocks[-1].state_dict())
    last.norm.load_state_dict(whole.norm.state_dict())
    learner.teacher = network.freeze("last").teacher()
    network.grow(SIZES)
    return learner


def ours(learner: CrKD, images: Tensor, labels: Tensor) -> Callable[[], Tensor]:
    """Return a step's loss as `discover` puts it together."""
    network = learner.network
    look = learner.looker(Items(images, labels))
    batch = Batch(images, labels, torch.arange(len(images)))

    def loss() -> Tensor:
        network.at_unit_length()
        hidden, before = look(batch)
        seen = Seen(hidden, [network.scores(network.features(each)) for each in hidden], labels < 0, before)
        known = torch.stack([scores.known for scores in seen.scores])
        novel = torch.stack([scores.novel for scores in seen.scores])
        return learner.swapped_loss(known, novel, labels, [None, None], 0).mean() + learner.auxiliary_loss(
            seen, 0.0
        )

    return loss


def plain(whole: Any, learner: CrKD, images: Tensor, labels: Tensor) -> Callable[[], Tensor]:
    """Return a step's loss as the released code does it, on the heads of `learner`."""
    teacher = copy.deepcopy(whole).requires_grad_(False)
    network, known_teacher = learner.network, learner.teacher.head
    open_ = labels < 0

    def loss() -> Tensor:
        network.at_unit_length()
        scores = [network.scores(whole(view)) for view in (images, images)]
        with torch.no_grad():
            taught = torch.stack([known_teacher(teacher(view)) for view in (images, images)])
        known, novel = (
            torch.stack([each.known for each in scores]),
            torch.stack([each.novel for each in scores]),
        )
        joint = torch.cat([known[:, None].expand(-1, SIZES.heads, -1, -1), novel], dim=-1)
        targets = torch.zeros_like(joint)
        targets[:, :, ~open_, :KNOWN] = one_hot(labels[~open_], KNOWN).float()
        for view in range(2):
            for head in range(SIZES.heads):
                targets[view, head, open_, KNOWN:] = sinkhorn(novel[view, head, open_])
        log_p = (joint / 0.1).log_softmax(dim=-1)
        swapped = torch.stack(
            [-(targets[view] * log_p[1 - view]).sum(dim=-1).mean(dim=-1) for view in range(2)]
        ).mean()
        return swapped + learner.alpha * losses.relation_loss(
            known[:, open_], novel[:, :, open_], taught[:, open_]
        )

    return loss


def _compare_steps() -> None:
    whole: Any = timm.create_model("vit_base_patch16_224", pretrained=False, num_classes=0).requires_grad_(
        False
    )
    whole.blocks[-1].requires_grad_(True)
    images, labels = torch.rand(BATCH, 3, 224, 224), torch.tensor([-1, 7, -1, -1][:BATCH])
    fresh, banked = (learner_of(whole, cached_views=bank) for bank in (0, 2))
    rest = [*_prototypes(fresh), *fresh.network.novel.parameters()]
    steps: dict[str, tuple[Callable[[], Tensor], list[torch.nn.Parameter]]] = {
        "plain: two whole networks": (
            plain(whole, fresh, images, labels),
            [*whole.blocks[-1].parameters(), *rest],
        ),
        "ours: one trunk, class token": (ours(fresh, images, labels), _trainable(fresh.network)),
        "ours with a bank of views": (ours(banked, images, labels), _trainable(banked.network)),
    }
    print("loss:", ", ".join(f"{name} {float(loss().detach()):.5f}" for name, (loss, _) in steps.items()))

    def step(loss: Callable[[], Tensor], weights: list[torch.nn.Parameter]) -> Callable[[], None]:
        optimiser = torch.optim.SGD(weights, lr=0.0, momentum=0.9)

        def taken() -> None:
            optimiser.zero_grad()
            loss().backward()  # type: ignore[no-untyped-call]
            optimiser.step()

        taken()  # the first one makes room for momentum
        return taken

    reference, *_ = seconds = interleaved([step(*each) for each in steps.values()], ROUNDS)
    for name, taken in zip(steps, seconds, strict=True):
        print(f"{name:30s} {statistics.median(taken):6.3f} s   {_ratios(reference, taken)}")


def _ratios(slow: Sequence[float], fast: Sequence[float]) -> str:
    """Return the median of the ratios round by round, and the smallest and largest."""
    ratios = sorted(one / other for one, other in zip(slow, fast, strict=True))
    return f"{statistics.median(ratios):.1f} x faster ({ratios[0]:.1f} to {ratios[-1]:.1f})"


def _prototypes(learner: CrKD) -> list[torch.nn.Parameter]:
    assert learner.network.known is not None
    return list(learner.network.known.parameters())


def _trainable(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [weight for weight in network.parameters() if weight.requires_grad]


if __name__ == "__main__":
    main()
