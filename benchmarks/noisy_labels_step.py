"""What robustness to wrong labels costs, side by side on one thread: a step of ELR, the choice of k, both
networks of a pair.

1. Whole stages of ELR and of cross-entropy through the real loop (4 epochs of mnist5k, taken in turn); the
ratio is taken within rounds.
2. The number of right answers for every width k of nested dropout, by one running sum and by D matrix
products; both must agree exactly.
3. A step of two networks: one after the other, as co-teaching does it (one backward pass and one optimiser
for both), and stacked (vmap).

Run: OMP_NUM_THREADS=1 python benchmarks/noisy_labels_step.py
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy

from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import Sealed, build
from harness.selection import configured
from strategies.noisy_labels.nested import right_by_width
from strategies.toolkit.training.loop import sgd

ROUNDS = 15


def main() -> None:
    """Print the three comparisons."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for backbone in ("mlp[width=256]", "cnn"):
        elr_step(backbone)
    for width, classes in ((512, 10), (4096, 10)):
        choice_of_k(width, classes, items=128)
    for inputs, width in ((64, 128), (784, 256)):
        pair_step(inputs, width)


def elr_step(backbone: str) -> None:
    """Print the time of a stage of ELR relative to one of cross-entropy."""
    scenario = configured(
        "scenario", f"noisy-labels[preset=mnist5k,epochs={4 if 'mlp' in backbone else 1},backbone={backbone}]"
    )
    sealed = build(scenario, 0)
    unprobed = replace(scenario.budget(), probe_epochs=0, probe_tail=0)
    settings = CellSettings(root_seed=learner_seed(0), budget=unprobed)
    ratios = []
    for round_ in range(ROUNDS + 1):
        names = ("cross-entropy", "elr") if round_ % 2 else ("elr", "cross-entropy")
        seconds = {name: _stage_seconds(name, sealed, settings) for name in names}
        ratios.append(seconds["elr"] / seconds["cross-entropy"])
    low, middle, high = statistics.quantiles(ratios[1:], n=4)  # the first round warms up
    print(
        f"step of ELR / step of cross-entropy, {backbone}, batch 64: {middle:.3f} (middle half {low:.3f} to {high:.3f})"
    )


def _stage_seconds(name: str, sealed: Sealed, settings: CellSettings) -> float:
    with tempfile.TemporaryDirectory() as folder:
        (result,) = run_cell(configured("strategy", name), sealed.episodes, settings, scratch=Path(folder))
    return result.learn_s


def choice_of_k(width: int, classes: int, items: int) -> None:
    """Print how much faster one running sum is than a matrix product for every width."""
    features, weight = torch.randn(items, width).relu(), torch.randn(classes, width)
    labels = torch.randint(classes, (items,))

    def by_products() -> Tensor:
        masks = torch.tril(torch.ones(width, width))
        return torch.stack([(((features * mask) @ weight.T).argmax(dim=1) == labels).sum() for mask in masks])

    def by_running_sum() -> Tensor:
        return right_by_width(features, weight, None, labels)

    assert torch.equal(by_products(), by_running_sum()), "both ways have to agree"
    ratio = _ratio(by_products, by_running_sum, rounds=5)
    print(
        f"all widths k of D = {width}, {classes} classes, {items} items: D matrix products / one running "
        f"sum: {ratio:.1f}"
    )


def pair_step(inputs: int, width: int) -> None:
    """Print what two networks cost in one pass, relative to one after the other."""
    first = nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )
    second = copy.deepcopy(first)
    images, labels = torch.randn(64, inputs), torch.randint(10, (64,))
    apart = [(network, sgd(network.parameters(), lr=0.01, momentum=0.9)) for network in (first, second)]
    both = sgd([*first.parameters(), *second.parameters()], lr=0.01, momentum=0.9)
    pairs = zip(first.named_parameters(), second.parameters(), strict=True)
    stacked = {
        name: nn.Parameter(torch.stack([one.detach(), other.detach()])) for (name, one), other in pairs
    }
    stack = sgd(stacked.values(), lr=0.01, momentum=0.9)
    skeleton = copy.deepcopy(first).to("meta")
    forward = vmap(lambda weights, shown: functional_call(skeleton, weights, (shown,)), in_dims=(0, None))

    def one_by_one() -> None:
        for network, optimiser in apart:
            optimiser.zero_grad()
            cross_entropy(network(images), labels).backward()
            optimiser.step()

    def together() -> None:
        both.zero_grad()
        (cross_entropy(first(images), labels) + cross_entropy(second(images), labels)).backward()
        both.step()

    def in_one_pass() -> None:
        stack.zero_grad()
        logits = forward(stacked, images)
        (2 * cross_entropy(logits.flatten(0, 1), labels.repeat(2))).backward()
        stack.step()

    name = f"two networks, MLP {inputs}-{width}-{width}-10, batch 64"
    print(
        f"{name}: two passes / one backward and one optimiser for both: {_ratio(one_by_one, together, calls=200):.2f}"
    )
    print(
        f"{name}: two passes / stacked in one pass (vmap): {_ratio(one_by_one, in_one_pass, calls=200):.2f}"
    )


def _ratio(
    slow: Callable[[], object], fast: Callable[[], object], *, calls: int = 1, rounds: int = ROUNDS
) -> float:
    """Return the median over rounds of the time of `slow` over that of `fast`, taken in turn."""

    def seconds(action: Callable[[], object]) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            action()
        return time.perf_counter() - started

    slow(), fast()
    return statistics.median(seconds(slow) / seconds(fast) for _ in range(rounds))


if __name__ == "__main__":
    main()
