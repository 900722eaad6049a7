"""What a gradient step costs in the grokking engine, side by side with the usual code on one thread.

The usual code is a dense product with one-hot pairs, automatic differentiation and torch's AdamW, as in the
released code of Doshi et al.; both train the quadratic network under squared error on half of all pairs.
Times are processor time per network and step, so that other work on the machine counts little; ratios are
taken within rounds, in which both take turns.

1. p = 97, width 500: exact products, and products reduced to bfloat16 (opt-in, not exact).
2. p = 31, width 128: one network, and four at once (the engine is meant for the latter where networks are
small).
3. p = 11, width 32: sixteen networks at once.

Run: OMP_NUM_THREADS=1 python benchmarks/grokking_engine.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from strategies.grokking.engine import Ensemble
from strategies.grokking.networks import Objective, Weights, stacked
from strategies.grokking.optimisers import AdamW
from strategies.grokking.quadratic import Quadratic

ROUNDS = 30


def main() -> None:
    """Print the comparisons, and what was asked of them."""
    torch.set_num_threads(1)
    compared("p = 97, width 500, exact", modulus=97, width=500, networks=1, calls=1, asked=2.2)
    compared(
        "p = 97, width 500, reduced",
        modulus=97,
        width=500,
        networks=1,
        calls=1,
        asked=3.5,
        products="reduced",
    )
    compared("p = 31, width 128", modulus=31, width=128, networks=1, calls=50, asked=3)
    compared("p = 31, width 128, K = 4", modulus=31, width=128, networks=4, calls=25, asked=3)
    compared("p = 11, width 32, K = 16", modulus=11, width=32, networks=16, calls=50, asked=20)


def compared(
    title: str, *, modulus: int, width: int, networks: int, calls: int, asked: float, products: str = "exact"
) -> None:
    """Print how much faster the engine is, per network and step."""
    items, labels = half(modulus)
    network = Quadratic(modulus=modulus, width=width, products=products)  # type: ignore[arg-type]
    starts = [network.initial(np.random.default_rng(seed)) for seed in range(networks)]
    dense = usual_step(starts[0], items, labels, modulus)
    engine = engine_step(network, starts, items, labels)
    ours, theirs, ratios = [], [], []
    for round_ in range(ROUNDS + 1):
        usual_s, engine_s = seconds(dense, calls), seconds(engine, calls) / networks
        if round_:  # the first warms up
            theirs.append(usual_s), ours.append(engine_s), ratios.append(usual_s / engine_s)
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"{title}: usual {1e3 * statistics.median(theirs):.3f} ms, engine "
        f"{1e3 * statistics.median(ours):.4f} ms a network: "
        f"{middle:.2f} x (middle half {low:.2f} to {high:.2f}; asked {asked})"
    )


def usual_step(start: Weights, items: Tensor, labels: Tensor, modulus: int) -> Callable[[], object]:
    """Return a step of the usual code from the weights of one network."""
    below = torch.nn.Parameter(start["table"][0].T.contiguous())
    above = torch.nn.Parameter(start["W"][0].clone())
    inputs = torch.cat([one_hot(items[:, operand], modulus) for operand in (0, 1)], dim=1).float()
    targets = one_hot(labels, modulus).float()
    optimiser = torch.optim.AdamW([below, above], lr=0.01, betas=(0.9, 0.98), weight_decay=5.0)

    def step() -> None:
        optimiser.zero_grad()
        torch.nn.functional.mse_loss((inputs @ below.T).square() @ above.T, targets).backward()
        optimiser.step()

    return step


def engine_step(
    network: Quadratic, starts: list[Weights], items: Tensor, labels: Tensor
) -> Callable[[], object]:
    """Return a step of the engine for all networks, which it copies."""
    weights = stacked(starts)
    rates = torch.full((len(starts),), 0.01, dtype=torch.float64)
    ensemble = Ensemble(
        network, weights, AdamW(weights, lr=rates, weight_decay=500 * rates), objective=Objective()
    )
    batch = network.batch(
        items.expand(len(starts), -1, -1).contiguous(), labels.expand(len(starts), -1).contiguous()
    )

    def step() -> None:
        with torch.no_grad():
            ensemble.step(batch)

    return step


def half(modulus: int) -> tuple[Tensor, Tensor]:
    """Return half of all pairs, int64 (n, 2), and their sums."""
    ids = np.random.default_rng(0).permutation(modulus**2)[: modulus**2 // 2]
    items = torch.from_numpy(np.stack(np.divmod(ids, modulus), axis=1))
    return items, items.sum(dim=1) % modulus


def seconds(action: Callable[[], object], calls: int) -> float:
    """Return the mean processor time of a call."""
    started = time.process_time()
    for _ in range(calls):
        action()
    return (time.process_time() - started) / calls


if __name__ == "__main__":
    main()
