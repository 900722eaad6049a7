"""Soft labels by every assignment, side by side on one thread: processor milliseconds a call, also as a multiple of
three rounds of Sinkhorn, what is left over of even parts, and how many of the likeliest classes are right.

Items are unit vectors round K directions (32 dimensions, noise 0.22), scores their cosines with the directions as a
network may have them (noise 0.1), epsilon 0.05. Classes are drawn evenly, or with shares 1 / rank.

The same problems by POT (`ot.sinkhorn` in logarithms to 1e-9, `ot.unbalanced` with one side bound, `ot.smooth` with at
most two entries), where it is installed; it is no dependency, so this is for an environment of its own:

    python -m venv --system-site-packages /tmp/with-pot && /tmp/with-pot/bin/pip install POT

Run: OMP_NUM_THREADS=1 python benchmarks/assignment.py
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from strategies.assignment.rules import assignment_of

EPSILON, ROUNDS = 0.05, 9
TEXTS = (
    "sinkhorn",
    "sinkhorn[rounds=100]",
    "entropic",
    "entropic[keep=0.3]",
    "relaxed",
    "sparse",
    "sparse[gamma=1]",
    "frequency",
    "softmax",
)
DRAWS = 10


class Problem(NamedTuple):
    """How many items and classes, and whether classes are drawn evenly."""

    items: int
    classes: int
    even: bool

    def drawn(self, seed: int) -> tuple[Tensor, Tensor]:
        """Return scores, float32 (B, K), and classes, int64 (B,)."""
        draws = torch.Generator().manual_seed(seed)
        true = normalize(torch.randn(self.classes, 32, generator=draws), dim=1)
        shares = torch.ones(self.classes) if self.even else 1 / torch.arange(1, self.classes + 1)
        labels = torch.multinomial(shares, self.items, replacement=True, generator=draws)
        items = normalize(true[labels] + 0.22 * torch.randn(self.items, 32, generator=draws), dim=1)
        held = normalize(true + 0.1 * torch.randn(self.classes, 32, generator=draws), dim=1)
        return items @ held.T, labels


def main() -> None:
    """Print a table a problem."""
    torch.set_num_threads(1)
    theirs = pot() if importlib.util.find_spec("ot") else {}
    if not theirs:
        print("POT is not installed: its rows are left out")
    for problem in (
        Problem(64, 5, True),
        Problem(256, 20, True),
        Problem(512, 100, True),
        Problem(256, 20, False),
    ):
        say(problem, theirs)


def say(problem: Problem, theirs: dict[str, Callable[[Tensor], Tensor]]) -> None:
    """Print what every assignment makes of a problem, the mean of ten draws, and its time on the first."""
    rules: dict[str, Callable[[Tensor], Tensor]] = {
        text: lambda scores, text=text: assignment_of(text)(scores, epsilon=EPSILON)
        for text in TEXTS  # type: ignore[misc]
    }
    rules |= theirs
    print(
        f"\n{problem.items} items, {problem.classes} classes, {'even' if problem.even else 'shares 1 / rank'}"
    )
    drawn = [problem.drawn(seed) for seed in range(DRAWS)]
    seconds: dict[str, list[float]] = {name: [] for name in rules}
    for rule in rules.values():
        rule(drawn[0][0])
    for _ in range(ROUNDS):
        for name, rule in rules.items():
            started = time.process_time()
            rule(drawn[0][0])
            seconds[name].append(time.process_time() - started)
    for name, rule in rules.items():
        plans = [rule(scores) for scores, _ in drawn]
        left = statistics.mean(
            float((plan.double().sum(dim=0) / problem.items - 1 / problem.classes).abs().sum())
            for plan in plans
        )
        right = statistics.mean(
            float((plan.argmax(dim=1) == labels).double().mean())
            for plan, (_, labels) in zip(plans, drawn, strict=True)
        )
        ratio = statistics.median(
            one / three for one, three in zip(seconds[name], seconds["sinkhorn"], strict=True)
        )
        print(
            f"{name:28s} {1000 * statistics.median(seconds[name]):8.2f} ms {ratio:7.1f} x   left over {left:.0e}   "
            f"right {100 * right:.1f} %"
        )


def pot() -> dict[str, Callable[[Tensor], Tensor]]:
    """Return POT's solvers of the same problems, rows brought to sum 1."""
    import ot

    def parts(scores: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        items, classes = scores.shape
        cost = -scores.double().numpy()
        return np.full(items, 1 / items), np.full(classes, 1 / classes), cost

    def rows(plan: np.ndarray) -> Tensor:
        return torch.from_numpy(plan / plan.sum(axis=1, keepdims=True))

    def converged(scores: Tensor) -> Tensor:
        return rows(
            ot.sinkhorn(*parts(scores), EPSILON, method="sinkhorn_log", numItermax=10_000, stopThr=1e-9)
        )

    def pulled(scores: Tensor) -> Tensor:
        a, b, cost = parts(scores)
        return rows(
            ot.unbalanced.sinkhorn_unbalanced(
                a, b, cost, EPSILON, (math.inf, 0.1), numItermax=10_000, stopThr=1e-9
            )
        )

    def at_most_two(scores: Tensor) -> Tensor:
        a, b, cost = parts(scores)
        with contextlib.redirect_stdout(io.StringIO()):
            plan = ot.smooth.smooth_ot_semi_dual(
                b, a, cost.T.copy(), 0.1 * len(a), reg_type="sparsity_constrained", max_nz=2
            )
        return rows(plan.T)

    return {"POT entropic": converged, "POT relaxed": pulled, "POT sparse": at_most_two}


if __name__ == "__main__":
    main()
