"""What a run would cost, before anything is learned: items through the network, memory, predictions on disk,
and time where cells tell it.

Counted is what the protocol lends and deals under seed 0; how often a method shows an item, and to how many
networks, is its own affair and not known here. So the figures are those of one network (`ASSUMED`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from harness.contracts import HIDDEN, Inputs, Status, TrainingBudget
from harness.execution.plan import Plan
from harness.protocol.cells import Protocol
from harness.store.record import Record

FLOAT = 4
AS_FLOATS = 256 << 20
"""Bytes of a stage as floats that learners hold at once; what is larger is read as it is used."""

ASSUMED = (
    (
        "one network, one augmentation of an item at a step, or two views where the protocol names any and hides "
        "labels; methods take more of both"
    ),
    "a backward pass costs twice a forward pass, of the part of the network that trains",
    (
        "the peak is weights, gradients, momentum, what the layers that train put out for a batch, and inputs; "
        "the process takes 0.5 GB more"
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A backbone as it was measured without its weights, for one item. flops: of a forward pass, an addition
    and a multiplication are two.

    activations: bytes of what layers put out in float32, from the first that trains on.
    grid: places of a map that it answers, 0 where it answers none.
    """

    parameters: int
    trained: int
    flops: float
    activations: int
    grid: int = 0


Measure = Callable[[str, tuple[int, ...], bool], Network | None]
"""From a backbone's text, an item's shape and whether nobody trains it to what it takes; None where it cannot
be told.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one cell of a protocol has to do.

    learned: items of all gradient steps, each counted once.  encoded: items that pass a frozen encoder to be
    learned from.
    asked: items predicted after stages and in mid-stage.  views: augmentations of a learned item at a
    step.  batch: items of a step.
    stored: bytes of the largest stage as the data set keeps it.  floats: the same as float32.
    """

    learned: int
    encoded: int
    asked: int
    views: int
    batch: int
    stored: int
    floats: int

    @property
    def forward(self) -> int:
        """Items that pass the network forwards."""
        return self.learned * self.views + self.encoded + self.asked

    @property
    def backward(self) -> int:
        """Items that pass it backwards."""
        return self.learned * self.views


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one cell of a protocol costs; None where the network could not be measured. peak, predictions:
    bytes.
    """

    work: Work
    network: Network | None

    @property
    def flops(self) -> float | None:
        """Of the whole cell."""
        if self.network is None:
            return None
        share = self.network.trained / max(1, self.network.parameters)
        return self.network.flops * (self.work.forward + 2 * share * self.work.backward)

    @property
    def peak(self) -> int | None:
        """The largest memory at a time, the process itself left out."""
        if self.network is None:
            return None
        weights = FLOAT * (self.network.parameters + 2 * self.network.trained)
        batch = self.work.batch * self.work.views * self.network.activations
        return weights + batch + self.work.stored + min(self.work.floats, AS_FLOATS)

    @property
    def predictions(self) -> int:
        """Of answers as they are kept, before they are packed: a class in two bytes and an id, or a map in
        half precision.
        """
        return self.work.asked * (4 + 2 * (self.network.grid if self.network else 0))

    def content(self) -> dict[str, Any]:
        """Return everything for machines."""
        network = asdict(self.network) if self.network else None
        return {
            **asdict(self.work),
            "forward": self.work.forward,
            "backward": self.work.backward,
            "network": network,
            "flops": self.flops,
            "peak_bytes": self.peak,
            "prediction_bytes": self.predictions,
        }


def cost_of(protocol: Protocol, measure: Measure) -> Cost:
    """Return what a cell of `protocol` costs; its data are dealt once more."""
    deal = protocol.scenario.deal(0)
    budget = protocol.scenario.budget()
    shape = tuple(deal.inputs.shape[1:])
    frozen = protocol.scenario.frozen_encoder
    counts = [
        _stage(budget.for_stage(index), len(stage.rows), len(stage.query) + len(stage.monitored))
        for index, stage in enumerate(deal.stages)
    ]
    largest = max(
        max(len(stage.rows), len(stage.query) + len(stage.monitored)) for stage in deal.stages
    ) * math.prod(shape)
    learned = sum(items for items, _ in counts)
    batch = max(budget.batch_size, budget.first_batch_size or 0)
    hides = any((stage.observed_labels == HIDDEN).any() for stage in deal.stages)
    encoded = sum(len(stage.rows) for stage in deal.stages) if frozen else 0
    work = Work(
        learned=0 if frozen else learned,
        encoded=encoded,
        asked=sum(asked for _, asked in counts),
        batch=batch,
        views=2 if hides and not frozen and budget.augmentations != "same" else 1,
        stored=largest * _bytes_of(deal.inputs),
        floats=largest * FLOAT,
    )
    return Cost(work=work, network=measure(budget.backbone, shape, frozen))


def looks(steps: int, passes: int, budget: TrainingBudget) -> int:
    """Return how often a learner is asked in a stage with this budget before its end, by steps or by epochs
    (as `run.CellContext` does).
    """
    every, tail = budget.probe_epochs, budget.probe_tail
    last = min(passes, budget.epochs - 1)
    by_tail = range(max(1, budget.epochs - tail + 1), last + 1)
    by_epochs = sum(1 for epoch in range(every, last + 1, every) if epoch not in by_tail) if every else 0
    return (steps // budget.probe_every if budget.probe_every else 0) + by_epochs + len(by_tail)


def _stage(budget: TrainingBudget, rows: int, predicted: int) -> tuple[int, int]:
    """Return the items of all steps of a stage with this budget, and those that are answered."""
    steps_of_pass, steps = max(1, -(-rows // budget.batch_size)), budget.gradient_steps
    passes = -(-steps // steps_of_pass) if steps else budget.epochs
    items = round(rows * steps / steps_of_pass) if steps else rows * passes
    return items, predicted * (1 + looks(steps or passes * steps_of_pass, passes, budget))


def _bytes_of(inputs: Inputs) -> int:
    kind = getattr(inputs, "dtype", None)
    return FLOAT if kind is None else np.dtype(kind).itemsize


# --- time ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """How long the open cells would take, as far as cells alike have been recorded.

    seconds: wall time on `workers`.  known: open cells with a record of the same scenario and strategy.
    records: how many there are.
    sessions: of how many runs and machines these are; those that do not say count as one.
    """

    seconds: float
    workers: int
    known: int
    unknown: int
    records: int
    sessions: int

    @property
    def words(self) -> str:
        """Say it."""
        if not self.known:
            return "no time is known: no cell of these scenarios and strategies is recorded"
        rest = f"; of {self.unknown} further cells no time is known" if self.unknown else ""
        source = f"{_counted(self.records, 'recorded cell')}{f' of {self.sessions} runs' if self.sessions > 1 else ''}"
        return f"about {duration(self.seconds)} on {_counted(self.workers, 'worker')}, from {source}{rest}"


def time_of(planned: Plan, records: Sequence[Record], workers: int) -> Time:
    """Return how long the open cells would take by the mean seconds of records alike, whatever their seed,
    code or machine.
    """
    alike: dict[tuple[str, str], list[Record]] = {}
    for record in {record.run_id: record for record in [*records, *planned.cached.values()]}.values():
        if record.status is Status.DONE and math.isfinite(record.seconds):
            alike.setdefault((record.scenario, record.strategy), []).append(record)
    names = [(cell.protocol.label, cell.contender.label) for cell in planned.open]
    known = [
        math.fsum(record.seconds for record in alike[name]) / len(alike[name])
        for name in names
        if name in alike
    ]
    used = [record for name in {*names} & {*alike} for record in alike[name]]
    wall = max(math.fsum(known) / workers, max(known, default=0.0))
    return Time(
        seconds=wall,
        workers=workers,
        known=len(known),
        unknown=len(names) - len(known),
        records=len(used),
        sessions=len({record.session for record in used}),
    )


def duration(seconds: float) -> str:
    """Say a time with two figures.

    >>> [duration(s) for s in (0.4, 75, 7800, 300_000)]
    ['1 s', '1 min 15 s', '2 h 10 min', '3 d 11 h']
    """
    whole = max(1, round(seconds))
    for unit, size, below, of_below in (
        ("d", 86_400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= size:
            rest = whole % size // of_below
            return f"{whole // size} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


def scaled(number: float, base: int = 1000, units: Sequence[str] = ("", "k", "M", "G", "T", "P", "E")) -> str:
    """Say a large number with three figures.

    >>> scaled(85_798_656), scaled(3 << 30, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))
    ('85.8 M', '3 GiB')
    """
    place = min(len(units) - 1, int(math.log(number, base) + 1e-9) if number >= base else 0)
    return f"{number / base**place:.3g} {units[place]}".strip()


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
