"""Where two strategies differ: stored predictions of both, held against the truth stage by stage and class by
class.

For every seed the scenario is dealt again and its `correct_by_class` says how often each side was right,
after every stage: on everything that had arrived, on what arrived in one stage, and on one class. The
differences are paired by seed; p is Holm-corrected over all parts of one kind.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness import statistics
from harness.cell.prediction_check import lacking
from harness.cell.sealing import seal
from harness.contracts import ClassCounts, StoredPrediction
from harness.errors import UserError
from harness.results.matchup import Matchup

Kind = Literal["stage", "arrival", "class"]
Place = tuple[Kind, int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the predictions: how often either side is right after `stage`, mean over the seeds in which
    it was asked.

    name: of a class, or the stage in which it arrived; empty for everything.  difference, low, high:
    Student's interval over `seeds`.
    """

    kind: Kind
    stage: int
    name: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    seeds: int

    @property
    def words(self) -> str:
        """Say which part it is."""
        what = {
            "stage": "all that had arrived",
            "arrival": f"what arrived in stage {self.name}",
            "class": self.name,
        }[self.kind]
        return f"after stage {self.stage}, {what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """All parts, in order of kind, stage and arrival. `measure`: what the shares are; `problem`: why there
    are none, else empty.
    """

    measure: str
    parts: tuple[Part, ...]
    problem: str = ""

    def largest(self, count: int) -> tuple[list[Part], list[Part]]:
        """Return the parts that differ most, of stages and arrivals, and of classes after the last stage;
        those that every seed has.
        """
        every = max((part.seeds for part in self.parts), default=0)
        last = max((part.stage for part in self.parts), default=0)
        whole = [part for part in self.parts if part.seeds == every and part.difference]
        ordered = sorted(
            whole, key=lambda part: (-round(abs(part.difference), 12), -part.stage, _by_number(part.name))
        )
        by_stage = [part for part in ordered if part.kind != "class"]
        return by_stage[:count], [part for part in ordered if part.kind == "class" and part.stage == last][
            :count
        ]


def breakdown(matchup: Matchup) -> Breakdown:
    """Compare the predictions of both sides under every seed that both have."""
    try:
        if matchup.protocol.hash != matchup.protocol_hash:
            raise UserError(f"this installation deals {matchup.label} otherwise than when it was run")
        measure = matchup.scenario.per_class_measure()
        counts = [_both(matchup, seed) for seed in matchup.seeds]
    except UserError as error:
        return Breakdown(measure="", parts=(), problem=str(error))
    return Breakdown(measure=measure, parts=tuple(_parts(counts)))


def _both(matchup: Matchup, seed: int) -> tuple[dict[Place, float], dict[Place, float]]:
    """Return the shares of right answers of both sides under `seed`."""
    deal = matchup.scenario.deal(seed)
    sealed = seal(deal, seed)
    test_ids = [np.sort(episode.query.ids) for episode in sealed.episodes]
    numbers = (
        deal.class_numbers
        if deal.class_numbers is not None
        else np.arange(int(deal.labels.max(initial=-1)) + 1)
    )
    names = tuple(f"class {number}" for number in numbers.tolist())
    first, second = (
        _shares(
            matchup.scenario.correct_by_class(
                sealed.truth, _ended(matchup.read(side, seed), matchup, test_ids), names
            )
        )
        for side in (0, 1)
    )
    return first, second


def _ended(
    answers: Sequence[StoredPrediction],
    matchup: Matchup,
    test_ids: Sequence[np.ndarray[tuple[int], np.dtype[np.int64]]],
) -> list[StoredPrediction]:
    """Return the answers after stages, whose ids must be those asked and whose fields those needed."""
    ended = [answer for answer in answers if answer.step is None]
    for answer in ended:
        if answer.stage >= len(test_ids) or not np.array_equal(answer.ids, test_ids[answer.stage]):
            raise UserError(
                f"the ids in the predictions of stage {answer.stage} on {matchup.label} are not those of the query"
            )
        if missing := lacking(matchup.scenario.answers, answer.arrays):
            raise UserError(
                f"the predictions of stage {answer.stage} on {matchup.label} lack {', '.join(missing)}"
            )
    return ended


def _shares(counts: Sequence[ClassCounts]) -> dict[Place, float]:
    """Return the share of right answers of every part that was asked."""
    return dict(itertools.chain.from_iterable(_shares_after(count) for count in counts))


def _shares_after(counts: ClassCounts) -> Iterator[tuple[Place, float]]:
    tested = counts.n_items > 0
    if tested.any():
        yield ("stage", counts.stage, ""), float(counts.right[tested].sum() / counts.n_items[tested].sum())
    arrivals = np.unique(counts.arrival[tested]).tolist()
    for arrival in arrivals if len(arrivals) > 1 else ():
        own = tested & (counts.arrival == arrival)
        yield (
            ("arrival", counts.stage, str(arrival)),
            float(counts.right[own].sum() / counts.n_items[own].sum()),
        )
    for place in np.flatnonzero(tested).tolist():
        yield (
            ("class", counts.stage, counts.classes[place]),
            float(counts.right[place] / counts.n_items[place]),
        )


def _parts(seeds: Sequence[tuple[dict[Place, float], dict[Place, float]]]) -> Iterator[Part]:
    places = dict.fromkeys(place for first, second in seeds for place in first if place in second)
    kinds: tuple[Kind, ...] = ("stage", "arrival", "class")
    for kind in kinds:
        own = sorted(
            (place for place in places if place[0] == kind),
            key=lambda place: (place[1], _by_number(place[2])),
        )
        shares = {
            place: [
                (first[place], second[place]) for first, second in seeds if place in first and place in second
            ]
            for place in own
        }
        compared = [statistics.paired_t(*map(list, zip(*shares[place], strict=True))) for place in own]
        corrected = statistics.holm([comparison.p for comparison in compared]).tolist()
        for place, comparison, p in zip(own, compared, corrected, strict=True):
            first, second = np.mean(shares[place], axis=0).tolist()
            yield Part(
                kind=kind,
                stage=place[1],
                name=place[2],
                first=first,
                second=second,
                difference=comparison.difference,
                low=comparison.low,
                high=comparison.high,
                p=p,
                seeds=comparison.pairs,
            )


def _by_number(name: str) -> tuple[float, str]:
    """Order class 10 after class 9."""
    number = name.rpartition(" ")[2]
    return (float(number), name) if number.isdecimal() else (math.inf, name)


__all__ = ["Breakdown", "Part", "breakdown"]
