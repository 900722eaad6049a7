"""Who stands where: contenders with one figure per seed, in order, with places and letters that say what is
undecided.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness import statistics
from harness.statistics import Better, Comparison, Interval, Letters

Figures = Mapping[int, float]
"""One figure per seed."""

POWER = 0.8
"""The probability with which the minimum detectable difference is found."""


class Ranks(NamedTuple):
    """Contenders in order with their places.

    complete: those that have every seed.  letters: of the complete ones, shared by two exactly when they are
    not told apart; none under a single seed.  comparisons: of all pairs of complete ones, p Holm-corrected.
    best: the first of the complete, else of those that lack seeds.
    """

    order: list[str]
    places: dict[str, str]
    letters: dict[str, Letters]
    complete: list[str]
    comparisons: dict[tuple[str, str], Comparison]
    best: str | None

    @property
    def leaders(self) -> tuple[str, ...]:
        """The best contender and those that share a letter with it; empty where nothing was tested."""
        own = set(self.letters.get(self.best or "", ()))
        return tuple(label for label in self.order if own & set(self.letters.get(label, ())))


def ranks_of(
    field: Mapping[str, Figures], seeds: Sequence[int], *, better: Better = "higher", level: float = 0.95
) -> Ranks:
    """Place every contender of `field` by the rules at the top of `harness.results.ranking`."""
    sign = -1 if better == "higher" else 1

    def merit(label: str) -> tuple[float, str]:
        return sign * round(interval(field[label], level).mean, 12), label

    complete = sorted((label for label in field if seeds and len(field[label]) == len(seeds)), key=merit)
    partial = sorted((label for label in field if field[label] and label not in complete), key=merit)
    empty = sorted(label for label in field if not field[label])
    series = {label: [field[label][seed] for seed in seeds] for label in complete}
    comparisons = statistics.compare_all(series, level=level)
    apart = [pair for pair in itertools.combinations(complete, 2) if comparisons[pair].p <= 1 - level]
    is_decidable = len(seeds) > 1 or len(field) == 1
    ranges = statistics.rank_ranges(complete, apart)
    places = {label: _range(*ranges[label]) if is_decidable else "?" for label in complete}
    last = (len(complete) + 1, len(complete) + len(partial))
    places |= dict.fromkeys(partial, f"{_range(*last)}*" if is_decidable else "?*")
    places |= dict.fromkeys(empty, "-")
    return Ranks(
        order=[*complete, *partial, *empty],
        places=places,
        letters=statistics.compact_letters(complete, apart) if is_decidable else {},
        complete=complete,
        comparisons=comparisons,
        best=next(iter([*complete, *partial]), None),
    )


def notes_on(ranks: Ranks, seeds: Sequence[int], *, level: float = 0.95) -> list[str]:
    """Return what limits the places, in sentences."""
    notes = []
    smallest = statistics.smallest_sign_flip_p(len(seeds))
    if len(ranks.order) > 1 and len(seeds) == 1:
        notes.append("cannot decide with one seed: no intervals, no places; order by the bare figure")
    elif len(ranks.order) > 1 and smallest > 1 - level:
        notes.append(
            f"{len(seeds)} seeds cannot reach two-sided {100 * (1 - level):.3g} % by sign flips (smallest "
            f"p {smallest:.4g}): "
            "places rest on Student's t, which takes the differences for normal"
        )
    if any(place.endswith("*") for place in ranks.places.values()):
        notes.append("* lacks seeds: placed after those that have all, without an order among its like")
    if "-" in ranks.places.values():
        notes.append("- has no figure under any seed")
    return notes


def minimum_detectable(
    field: Mapping[str, Figures], ranks: Ranks, seeds: Sequence[int], *, level: float = 0.95
) -> float:
    """Return the true difference found with probability `POWER` when every pair of complete contenders is
    compared.

    The spread is pooled over the differences from the best; the level is divided by the number of pairs
    (Bonferroni, the hardest step of Holm). NaN with fewer than two complete contenders or two seeds.
    """
    rivals = [label for label in ranks.complete if label != ranks.best]
    if not rivals or ranks.best is None:
        return math.nan
    best = field[ranks.best]
    spread = statistics.pooled_sd([[field[label][seed] - best[seed] for seed in seeds] for label in rivals])
    pairs = len(ranks.complete) * (len(ranks.complete) - 1) // 2
    return statistics.minimum_detectable_difference(
        spread, len(seeds), power=POWER, level=1 - (1 - level) / pairs
    )


def interval(figures: Figures, level: float = 0.95) -> Interval:
    """Return Student's interval over the seeds."""
    return statistics.t_interval(list(figures.values()), level=level)


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


__all__ = ["POWER", "Figures", "Ranks", "interval", "minimum_detectable", "notes_on", "ranks_of"]
