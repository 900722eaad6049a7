"""How often the gate's tests refuse the honest, and how often they find who is not.

Fresh cells: figures under the seeds of a board against figures under seeds that nobody could know
(`leaderboards.gate.fresh`), simulated. `honest` are refusals of whole submissions, over all scenarios; `tuned`
took the best of 20 configurations by its mean under the seeds of the board, where configurations differ by
half the spread over seeds. What is gained on one scenario is said in standard deviations over seeds; `best of
200` answers with the best of 200 tries under each seed that it knows, where tries make the share named of the
variance. `cells` are fresh cells a scenario of the honest.

Signed test: differences between a submission and its run again that are above 0 as often as below.

By heart: falls of the baselines in `gate_falls.csv`, as normal ones with the mean and spread of each row, and of the
two rivals that the gate would ask. `beyond` is the share of changes that cost more than it allows, `coin` how often
that happens in a row, `refused` what the rivals leave of it; then figures of which a part is known by heart. `whole`
are honest submissions refused by any of the three.

Run: python benchmarks/gate_statistics.py
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import ndtr, ndtri

from harness.statistics import rank_sum
from harness.statistics.series import Floats as Falls
from leaderboards.gate import fresh, rerun
from leaderboards.gate.by_heart import MAY_FALL, RIVALS, in_a_row
from leaderboards.gate.fresh import Plan
from leaderboards.gate.rerun import SUSPICIOUS, sign_test

WORLDS = 100_000
SLOW_WORLDS = 4000
BOARDS = ((1, 2), (1, 3), (1, 5), (2, 5), (4, 5), (8, 5), (3, 6))
LOWER = ("fine-tune", "cross-entropy", "ncd-k-means", "k-means", "constant", "colour-statistics")
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def main() -> None:
    """Print the tables."""
    print(f"level {fresh.LEVEL:g} over all scenarios of a board, {WORLDS} worlds each")
    heads = ["scenarios", "seeds", "most", "cells", "normal", "t3", "tuned", "1 sd", "2 sd", "3 sd", "4 sd"]
    heads += ["1 of 200", "1/2", "1/4", "known"]
    print(" ".join(f"{head:>9}" for head in heads))
    for scenarios, seeds in BOARDS:
        print(" ".join(f"{value:>9}" for value in row(scenarios, seeds)))
    print(
        f"\ntied or failing figures, {SLOW_WORLDS} scenarios, level 1/50, 5 seeds, at most 5 fresh: refused"
    )
    for name, draw in SLOW.items():
        print(f"  {name:<32} {slow(draw):.4f}")
    print(
        f"\nsigned test, level {rerun.LEVEL:g}, {SLOW_WORLDS} submissions of 20 cells: refused, mean of cells run again"
    )
    for name, gains in GAINS.items():
        print("  {:<44} {:.4f} {:5.1f}".format(name, *signed(gains)))
    print(
        f"\nby heart, {in_a_row(4)} changes in a row on a board of four scenarios\n{'':<76} beyond   coin  refused"
    )
    rows = [(*name, *by_heart(own, rivals)) for name, own, rivals in honest_falls()]
    for scenario, strategy, beyond, coin, refused in sorted(rows, key=lambda row: -row[3])[:8]:
        print(f"  {scenario:<48.48} {strategy:<26.26} {beyond:.3f} {coin:.5f} {refused:.5f}")
    mean = float(np.mean([row[-1] for row in rows]))
    print(f"  {len(rows)} strategies on scenarios: refused {mean:.6f} on average")
    for part in (0.06, 0.08, 0.10, 0.15):
        found = [float(ndtr((part - MAY_FALL) / spread)) ** in_a_row(4) for spread in (0.01, 0.02, 0.05)]
        print(
            f"  {part:.2f} known by heart, falls of spread 0.01, 0.02, 0.05: "
            + " ".join(f"{p:.2f}" for p in found)
        )
    print(f"\nwhole, honest, board of four scenarios and five seeds, {WORLDS} worlds: {whole(rows, 4):.4f}")


def row(scenarios: int, seeds: int) -> list[str]:
    """Return a row of the first table."""
    plan = Plan.of(seeds, scenarios)
    rng = np.random.default_rng([scenarios, seeds])

    def draws(columns: int) -> np.ndarray:
        return rng.standard_normal((WORLDS, columns))

    def found(submitted: np.ndarray) -> float:
        return float(plan.outcomes(submitted, draws(plan.fresh))[0].mean())

    def whole(submitted: np.ndarray, again: np.ndarray) -> float:
        return 1 - (1 - float(plan.outcomes(submitted, again)[0].mean())) ** scenarios

    def best(share: float) -> np.ndarray:
        """The largest of 200 normal draws, by its quantiles."""
        uniform = rng.random((WORLDS, seeds)) ** (1 / 200)
        return ndtri(uniform) * share**0.5 + draws(seeds) * (1 - share) ** 0.5

    heavy = rng.standard_t(3, size=(WORLDS, seeds + plan.fresh))
    cells = plan.outcomes(draws(seeds), draws(plan.fresh))[1].mean()
    figures = [
        whole(draws(seeds), draws(plan.fresh)),
        whole(heavy[:, :seeds], heavy[:, seeds:]),
        tuned(plan, scenarios, rng),
        *(found(draws(seeds) + shift) for shift in (1, 2, 3, 4)),
        *(found(best(share)) for share in (1, 1 / 2, 1 / 4)),
        found(draws(seeds) + 10),
    ]
    return [
        str(scenarios),
        str(seeds),
        str(plan.fresh),
        f"{cells:.2f}",
        *(f"{figure:.4f}" for figure in figures),
    ]


def tuned(plan: Plan, scenarios: int, rng: np.random.Generator) -> float:
    """Return how often the best of 20 configurations is refused: they share the seeds' part of the spread and
    have half of the spread of their own.
    """
    worlds = WORLDS // 10
    own = rng.standard_normal((worlds, 20, plan.submitted)) * 0.5 + rng.standard_normal(
        (worlds, 1, plan.submitted)
    )
    chosen = own.mean(axis=2).argmax(axis=1)
    again = rng.standard_normal((worlds, plan.fresh)) * 1.25**0.5
    refused = plan.outcomes(own[np.arange(worlds), chosen], again)[0].mean()
    return 1 - (1 - float(refused)) ** scenarios


SLOW: dict[str, Draw] = {
    "normal": lambda rng, size: rng.standard_normal(size),
    "of three values": lambda rng, size: rng.integers(0, 3, size).astype(float),
    "all the same but for one of ten": lambda rng, size: (rng.random(size) < 0.9).astype(float),
    "failing three times of ten": lambda rng, size: np.where(
        rng.random(size) < 0.3, -np.inf, rng.normal(size=size)
    ),
}


def slow(draw: Draw) -> float:
    """Return how often honest figures with ties are refused, cell by cell as the gate does."""
    plan = replace(Plan.of(5, 1), fresh=5, level=1 / 50)
    rng = np.random.default_rng(7)
    refused = 0
    for figures in draw(rng, (SLOW_WORLDS, 10)):
        count, p = 0, 0.0
        while not count or plan.goes_on(p, count):
            count += 1
            p = rank_sum(figures[:5], figures[5 : 5 + count])
        refused += plan.refuses(p, count)
    return refused / SLOW_WORLDS


GAINS: dict[str, Draw] = {
    "the same bytes": lambda rng, size: np.zeros(size),
    "noise of floats, both ways": lambda rng, size: rng.normal(0, 0.003, size),
    "noise in one cell of ten": lambda rng, size: rng.normal(0, 0.003, size) * (rng.random(size) < 0.1),
    "all raised by 0.011": lambda rng, size: np.full(size, 0.011),
    "all raised by 0.011, noise of 0.003": lambda rng, size: rng.normal(0.011, 0.003, size),
    "eight of ten raised": lambda rng, size: 0.011 * (rng.random(size) < 0.8),
    "half raised": lambda rng, size: 0.011 * (rng.random(size) < 0.5),
}


def signed(draw: Draw) -> tuple[float, float]:
    """Return how often the signed test refuses, and how many cells run again for it."""
    rng = np.random.default_rng(8)
    refused = ran = 0
    for gains in draw(rng, (SLOW_WORLDS, 20)).tolist():
        count = 2
        while count < 20 and sign_test(gains[:count]) <= SUSPICIOUS:
            count += 1
        ran += count
        refused += sign_test(gains[:count]) <= rerun.LEVEL
    return refused / SLOW_WORLDS, ran / SLOW_WORLDS


def honest_falls() -> list[tuple[tuple[str, str], Falls, list[Falls]]]:
    """Return of every row of the table its names, its falls, and those of the first two rivals on its scenario, but
    for the lower bounds.
    """
    with (Path(__file__).parent / "gate_falls.csv").open() as file:
        lines = list(csv.reader(file))[1:]
    rows = [(line[1], line[2], np.array([float(fall) for fall in line[3:] if fall])) for line in lines]
    found = []
    for scenario, strategy, own in rows:
        rivals = [
            falls for label, name, falls in rows if (label == scenario) and name not in (strategy, *LOWER)
        ]
        found.append(((scenario, strategy), own, rivals[:RIVALS]))
    return found


def by_heart(own: Falls, rivals: Sequence[Falls]) -> tuple[float, float, float]:
    """Return the share of changes that cost more than the gate allows, how often that happens in a row, and how often
    rivals leave it a refusal, on each scenario of a board of four.
    """
    row, rng = in_a_row(4), np.random.default_rng(9)
    spread = max(float(own.std(ddof=1)), 1e-9)
    beyond = float(ndtr((own.mean() - MAY_FALL) / spread))
    # falls given that each costs too much: the upper tail of the normal, by its quantiles
    falls = own.mean() + spread * ndtri(1 - beyond * rng.random((SLOW_WORLDS, row)).clip(1e-12, None))
    allowed = np.zeros(SLOW_WORLDS)
    for rival in rivals:
        theirs = rival.mean() + rival.std(ddof=1) * rng.standard_normal((SLOW_WORLDS, 5)).mean(axis=1)
        allowed = np.maximum(allowed, theirs)
    left = falls.mean(axis=1) > MAY_FALL + 2 * allowed
    return beyond, beyond**row, beyond**row * float(left.mean())


def whole(rows: Sequence[tuple[str, str, float, float, float]], scenarios: int) -> float:
    """Return how often an honest submission is refused by fresh cells, signs or by heart: of normal figures, with
    float noise in all cells, of a strategy drawn from `rows` for each scenario.
    """
    plan, rng = Plan.of(5, scenarios), np.random.default_rng(10)
    is_refused = np.zeros(WORLDS, dtype=bool)
    for _ in range(scenarios):
        figures = rng.standard_normal((WORLDS, 5 + plan.fresh))
        is_refused |= plan.outcomes(figures[:, :5], figures[:, 5:])[0]
        is_refused |= rng.random(WORLDS) < rng.choice([row[-1] for row in rows], WORLDS)
    noise, _ = signed(GAINS["noise of floats, both ways"])
    return float((is_refused | (rng.random(WORLDS) < noise)).mean())


if __name__ == "__main__":
    main()
