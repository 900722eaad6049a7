"""How often intervals of a nominal 95 % hold the true value, at few seeds: what the docstrings of
`harness.statistics` say of coverage.

Settings: one or four scenarios, normal figures or Student's t with 3 degrees of freedom, spreads alike or
not. Intervals: Student's t of the means within seeds; pooled t; pooled t with the plain sum of freedoms, and
one spread for every scenario (how often the scenario that varies least and most is held), for comparison;
studentised and percentile bootstrap of the mean, percentile bootstrap of the interquartile mean. Figures that
leave 0.93 to 0.97 are marked.

Run: OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py [WORLDS]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np

from harness.statistics import Interval, pooled_sd, pooled_t, pooled_t_each, t_interval, t_quantile
from harness.statistics.aggregates import interquartile_mean
from harness.statistics.bootstrap import Bounds, percentile_bounds, picks, studentised_bounds
from harness.statistics.series import Floats

SEEDS = (3, 5, 10)
DRAWS = 1000
SPREADS = {
    "one": (1.0,),
    "four alike": (1.0,) * 4,
    "four, 1 to 3": (1.0, 1.5, 2.0, 3.0),
    "four, 1 to 8": (1.0, 2.0, 4.0, 8.0),
}
COLUMNS = ("t within", "pooled t", "by sum", "least", "most", "bootstrap-t", "percentile", "IQM")


def main() -> None:
    """Print one row per setting and number of seeds."""
    worlds = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    rng = np.random.default_rng(0)
    print(f"{worlds} worlds, {DRAWS} draws of a bootstrap in each")
    print(f"{'figures':<8}{'scenarios':<14}{'seeds':>5}" + "".join(f"{name:>13}" for name in COLUMNS))
    for kind in ("normal", "t3"):
        for name, spreads in SPREADS.items():
            for seeds in SEEDS:
                draw = rng.normal if kind == "normal" else lambda size: rng.standard_t(3, size=size)
                strata = [spread * draw(size=(worlds, seeds)) for spread in spreads]
                said = "".join(
                    f"{share:>12.3f}{' ' if 0.93 <= share <= 0.97 else '*'}" for share in shares(strata, rng)
                )
                print(f"{kind:<8}{name:<14}{seeds:>5}{said}", flush=True)


def shares(strata: Sequence[Floats], rng: np.random.Generator) -> list[float]:
    """Return the coverage of every interval over worlds, in the order of the columns."""
    worlds = list(zip(*strata, strict=True))
    each = [pooled_t_each(world) for world in worlds]
    return [
        _held([t_interval(np.mean(world, axis=0)) for world in worlds]),
        _held([pooled_t(world) for world in worlds]),
        _held([_by_sum(world) for world in worlds]),
        _held([intervals[0] for intervals in each]),
        _held([intervals[-1] for intervals in each]),
        _bootstrapped(studentised_bounds, strata, rng),
        _bootstrapped(percentile_bounds, strata, rng),
        _bootstrapped(percentile_bounds, strata, rng, statistic=interquartile_mean),
    ]


def _by_sum(world: Sequence[Floats]) -> Interval:
    freedom, runs = sum(len(values) - 1 for values in world), sum(map(len, world))
    mean, half = float(np.mean(world)), t_quantile(0.975, freedom) * pooled_sd(world) / np.sqrt(runs)
    return Interval(mean, mean - half, mean + half, runs)


def _held(intervals: Sequence[Interval]) -> float:
    return float(np.mean([interval.low <= 0 <= interval.high for interval in intervals]))


def _bootstrapped(
    find: Callable[..., Bounds], strata: Sequence[Floats], rng: np.random.Generator, **options: object
) -> float:
    held = []
    for start in range(0, len(strata[0]), 50):
        part = [values[start : start + 50] for values in strata]
        low, high = find(part, picks(part, rng=rng, draws=DRAWS), **options)
        held.append((low <= 0) & (high >= 0))
    return float(np.mean(np.concatenate(held)))


if __name__ == "__main__":
    main()
