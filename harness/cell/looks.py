"""Looks at a learner for probes: at which moments, at which items, and what of them goes to the scorer.

A look is taken in the worker, where the network is and where no hidden label comes. Probes that need the network are
worked out there; for the others what the learner shows goes to the scorer, which holds the true labels. Which items
are shown depends on what was handed over and on the cell's seed alone, so that it is the same at every look of a stage
and for every strategy that is handed the same labels.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness import seeds
from harness.contracts import HIDDEN, AnyArray, Context, FloatArray, IntArray, Query, Stage, Strategy
from harness.errors import UserError, in_one_line, unknown
from harness.plugins import find
from harness.probes.contract import Look, Of, Probe
from harness.syntax import single

DEFAULT_AT = "geometric[n=12]"
MOST_FEATURES = 256
"""More features than these are projected before they travel."""

FREE_S = 10.0
"""Seconds of looks in a stage that may pass whatever learning takes."""

SHARE = 1.0
"""What part of the time of learning further looks of a stage may take."""

Unit = Literal["step", "epoch"]
Group = Literal["train", "asked", "watched"]
_GROUP: Mapping[Of, Group] = {
    "train": "train",
    "asked": "asked",
    "known": "asked",
    "novel": "asked",
    "watched": "watched",
}
_WAYS = ("geometric", "epochs", "every")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """When looks are due, besides before the first step and after a stage: after so many gradient steps or epochs.

    numbers: which.  every: each multiple of it.  spread: so many, geometrically, from the first step to the last.
    """

    unit: Unit = "step"
    numbers: frozenset[int] = frozenset()
    every: int = 0
    spread: int = 0

    def due(self, at: int, total: int) -> bool:
        """Say whether one is due after `at` of `total`, the steps that the budget comes to."""
        if self.spread:
            return at in _geometric(self.spread, total)
        return at in self.numbers or bool(self.every and at % self.every == 0)


@lru_cache(maxsize=64)
def _geometric(count: int, total: int) -> frozenset[int]:
    return frozenset(round(total ** (k / (count - 1))) for k in range(count)) if total > 1 else frozenset({1})


def moments(text: str) -> Moments:
    """Read `geometric[n=12]`, `epochs=1,2,5` or `every=100`; raise `UserError` for anything else."""
    name, equals, numbers = text.partition("=")
    if equals and name in ("epochs", "every"):
        parts = [part.strip() for part in numbers.split(",")]
        if all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts):
            said = [int(part) for part in parts]
            if name == "epochs":
                return Moments(unit="epoch", numbers=frozenset(said))
            if len(said) == 1:
                return Moments(every=said[0])
        wanted = (
            "whole numbers from 1, such as epochs=1,2,5" if name == "epochs" else "one whole number from 1"
        )
        raise UserError(f"{text!r} says when probes look: {name}= takes {wanted}")
    selection = single(text)
    if selection.name != "geometric":
        raise unknown(
            "way to say when probes look", selection.name, _WAYS, "geometric[n=12], epochs=1,2,5, every=100"
        )
    count = selection.params.get("n", 12)
    if selection.params.keys() - {"n"} or not isinstance(count, int) or not 2 <= count <= 1000:
        raise UserError(f"{text!r}: geometric takes n, the number of looks in a stage, from 2 to 1000")
    return Moments(spread=count)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedProbe:
    """A probe that was asked for, as other processes can make it.

    name: what finds it; source: the text of its file, of one by path.  params: all of them.  suffix: what the names of
    its figures say of those that are not the defaults.  identity: digest of what its figures depend on besides the
    cell and the moments.
    """

    name: str
    source: str | None
    params: Mapping[str, Any]
    suffix: str = ""
    identity: str = ""

    def made(self) -> Probe:
        """Return the probe; raise `UserError` where it is not there."""
        probe: Probe = find("probe", self.name, source=self.source).cls(**self.params)
        return probe

    def names(self, probe: Probe) -> dict[str, str]:
        """Return what its figures are called in scores, by their own names."""
        return {figure.name: f"probe/{figure.name}{self.suffix}@{probe.of}" for figure in probe.figures}


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What is looked at while cells learn. share: the part of the time that learning took which looks may take."""

    probes: tuple[AskedProbe, ...]
    at: str = DEFAULT_AT
    share: float = SHARE


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a learner showed of some items at one look; plain values.

    group, items: which were drawn.  ids, given: int64 (N,).  features, logits, head, bias: as in `Look`, in half
    precision where that holds them; more than 256 features projected to as many.  dimensions: how many there were.
    figures: of the probes that were worked out in the worker, by their names in scores.
    """

    group: Group
    items: int
    stage: int
    step: int
    total: int
    ids: IntArray
    given: IntArray
    features: AnyArray | None = None
    logits: AnyArray | None = None
    head: AnyArray | None = None
    bias: AnyArray | None = None
    dimensions: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return it as a mapping that can be kept in a file."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


class Watcher:
    """Takes the looks of one cell. Nothing of the learner changes by it; a look that fails is a line in the log."""

    def __init__(
        self, looks: Looks, *, root_seed: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Make the probes; raise `UserError` where one is not there."""
        self.looks, self.root_seed, self.clock = looks, root_seed, clock
        self.when = moments(looks.at)
        self.probes = [(asked, asked.made()) for asked in looks.probes]
        self.wanted = sorted({(_GROUP[probe.of], probe.items) for _, probe in self.probes})

    def begin(self, stage: Stage, query: Query, context: Context) -> None:
        """Take a stage that is about to be learned, and draw the items that are looked at."""
        self.stage, self.query = stage, query
        size = max(1, min(context.batch_size, len(stage.ids)))
        self.total = context.gradient_steps or context.epochs * math.ceil(len(stage.ids) / size)
        self.epochs = context.epochs
        self.rows = {(group, items): self._drawn(group, items) for group, items in self.wanted}
        self.shown: list[dict[str, Any]] = []
        self.offset = self.last = self.epoch = 0
        self.looked: set[int] = set()
        self.missed = 0
        self.seconds, self.started = 0.0, self.clock()

    def is_due(self, unit: Unit, at: int) -> bool:
        """Say whether to look now. Steps count on where a learner begins to count anew; so do epochs."""
        if unit == "epoch":
            self.epoch = at = max(self.epoch + 1, at)
        elif at:
            self.offset = self.last if self.offset + at <= self.last else self.offset
            self.last = at = self.offset + at
        elif self.last or self.looked:
            return False
        if at and (unit != self.when.unit or at in self.looked or not self.when.due(at, self.total)):
            return False
        self.now = at
        if at and self.seconds > FREE_S + self.looks.share * (self.clock() - self.started - self.seconds):
            self.missed += 1
            return False
        return True

    def at_end(self) -> bool:
        """Say whether to look after the stage, now."""
        steps = self.last or self.total
        self.now = steps if self.when.unit == "step" else max(self.epoch, self.epochs)
        if self.missed:
            _log.warning(
                "%d looks of stage %d were left out: they would have taken more than %g of the time of learning",
                self.missed,
                self.stage.index,
                self.looks.share,
            )
        return self.now not in self.looked

    def look(self, strategy: Strategy) -> None:
        """Look at the learner."""
        started = self.clock()
        self.looked.add(self.now)
        for key, rows in self.rows.items():
            if len(rows):
                try:
                    self._show(strategy, *key, rows)
                except Exception as error:
                    _log.warning("probes could not look at step %d: %s", self.now, in_one_line(error))
        self.seconds += self.clock() - started

    def _show(self, strategy: Strategy, group: Group, items: int, rows: IntArray) -> None:
        part = self.stage if group == "train" else self.query
        ids, inputs = part.ids[rows], part.inputs[rows]
        given = self._given(ids)
        seen = strategy.observed(inputs)
        arrays = {} if seen is None else _arrays(seen, len(rows))
        whole: dict[str, Any] = {name: values.astype(np.float32) for name, values in arrays.items()}
        look = Look(
            labels=given,
            given=given,
            inputs=inputs,
            stage=self.stage.index,
            step=self.now,
            total=self.total,
            **whole,
        )
        figures: dict[str, float] = {}
        for asked, probe in self.probes:
            if probe.place == "learner" and (_GROUP[probe.of], probe.items) == (group, items):
                figures |= self._measured(asked, probe, look, strategy)
        travels = any(
            probe.place == "scorer" and (_GROUP[probe.of], probe.items) == (group, items)
            for _, probe in self.probes
        )
        if not figures and not (travels and arrays):
            return
        shown = Shown(
            group=group,
            items=items,
            stage=self.stage.index,
            step=self.now,
            total=self.total,
            ids=ids,
            given=given,
            figures=figures,
            **(_packed(arrays) if travels else {}),
        )
        self.shown.append(shown.plain())

    def _measured(self, asked: AskedProbe, probe: Probe, look: Look, strategy: Strategy) -> dict[str, float]:
        names = asked.names(probe)
        if "surface" in probe.needs and look.inputs is not None:
            labelled = look.labels != HIDDEN
            look = replace(look, surface=strategy.surface(look.inputs[labelled], look.labels[labelled]))
        return measured(probe, names, look, self.root_seed)

    def _given(self, ids: IntArray) -> IntArray:
        """Return the labels that were handed over with items in this stage, `HIDDEN` for the others."""
        order = np.argsort(self.stage.ids)
        places = np.minimum(np.searchsorted(self.stage.ids, ids, sorter=order), max(0, len(order) - 1))
        found = order[places] if len(order) else places
        there = self.stage.ids[found] == ids if len(order) else np.zeros(len(ids), dtype=bool)
        labels = np.full(len(ids), HIDDEN, dtype=np.int64)
        labels[there] = self.stage.labels[found[there]]
        return labels

    def _drawn(self, group: Group, items: int) -> IntArray:
        """Return rows of the stage or the query, the classes handed over each in its share."""
        if group == "train":
            rows, labels = np.arange(len(self.stage.ids)), self.stage.labels
        else:
            handed = np.isin(self.query.ids, self.stage.ids)
            rows = np.flatnonzero(handed if group == "watched" else ~handed)
            labels = self._given(self.query.ids[rows])
        rng = seeds.stream("probe", seed=self.root_seed, stage=self.stage.index, group=group)
        order = rng.permutation(len(rows))
        order = order[np.argsort(labels[order], kind="stable")]
        count = min(items, len(rows))
        return rows[order[((np.arange(count) + 0.5) * len(rows) / max(count, 1)).astype(np.int64)]]


def measured(probe: Probe, names: Mapping[str, str], look: Look, root_seed: int) -> dict[str, float]:
    """Return the figures of a look by their names in scores, nothing where it has no items or lacks what the probe
    needs; of a probe that raises, or does not say a figure, NaN, and a line in the log.
    """
    if not len(look.labels) or not all(look.has(need) for need in probe.needs):
        return {}
    rng = seeds.stream("probe-measure", seed=root_seed, stage=look.stage)
    found: Mapping[str, float] = {}
    try:
        found = probe.measure(look, rng)
    except Exception as error:
        _log.warning("probe %s failed at step %d: %s", type(probe).__name__, look.step, in_one_line(error))
    return {known: float(found.get(name, math.nan)) for name, known in names.items()}


def _arrays(seen: Any, items: int) -> dict[str, AnyArray]:
    """Return what a learner showed as arrays: features flat, numbers of torch or numpy alike.

    Raises:
        UserError: an array of another number of items, or rows of another number of features.
    """
    found: dict[str, AnyArray] = {}
    for name in ("features", "logits", "head", "bias"):
        value = getattr(seen, name)
        if value is not None:
            found[name] = np.asarray(value)
    if "features" in found:
        found["features"] = found["features"].reshape(len(found["features"]), -1)
    for name in ("features", "logits"):
        if name in found and len(found[name]) != items:
            raise UserError(f"observed returned {name} of {len(found[name])} items for {items}")
    if "head" in found and "features" in found and found["head"].shape[1] != found["features"].shape[1]:
        raise UserError(
            f"observed returned {found['features'].shape[1]} features and a head of {found['head'].shape[1]}"
        )
    return found


def _packed(arrays: Mapping[str, AnyArray]) -> dict[str, Any]:
    """Return arrays as they travel."""
    found: dict[str, Any] = dict(arrays)
    if "features" in arrays:
        dimensions = found["dimensions"] = arrays["features"].shape[1]
        for name in ("features", "head") if dimensions > MOST_FEATURES else ():
            if name in arrays:
                found[name] = arrays[name].astype(np.float64) @ projection(dimensions)
    return {name: value if name == "dimensions" else _short(value) for name, value in found.items()}


@lru_cache(maxsize=4)
def projection(dimensions: int) -> NDArray[np.float64]:
    """Return the matrix (dimensions, 256) that more features are projected by: the same always, with orthogonal columns
    of a length that keeps squared distances on average.
    """
    normal = seeds.stream("probe-projection", seed=0, features=dimensions).normal(
        size=(dimensions, MOST_FEATURES)
    )
    directions, _ = np.linalg.qr(normal)
    return np.asarray(directions * math.sqrt(dimensions / MOST_FEATURES))


def _short(values: AnyArray) -> FloatArray | NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.isfinite(half).all() else values.astype(np.float32)


def group_of(of: Of) -> Group:
    """Return the items that are drawn for what a probe measures."""
    return _GROUP[of]


__all__ = [
    "DEFAULT_AT",
    "SHARE",
    "AskedProbe",
    "Looks",
    "Moments",
    "Shown",
    "Watcher",
    "group_of",
    "measured",
    "moments",
    "projection",
]
