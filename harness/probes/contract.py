"""What a probe is: a measure of how a learner sees items, taken while it learns, of any strategy in any scenario.

A probe is the same function in two places. With `place = "scorer"` it is worked out where the truth is, from what
the learner showed; with `place = "learner"` in the worker, where the network is, from labels that were handed over.
It knows no strategy and no scenario.

Legend: N items of a look, d features, C rows of the classifier.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from harness.contracts import HIDDEN, AnyArray, FloatArray, IntArray, Metric, Observation, Surface, param
from harness.parameters import validated

Need = Literal["features", "logits", "head", "labels", "given", "inputs", "surface"]
"""Fields of a look without which a probe does not apply."""

Place = Literal["scorer", "learner"]
Of = Literal["train", "asked", "known", "novel", "watched"]
"""Which items are shown: some of those trained on; of those asked; of these the ones of known or of novel classes;
those asked that had been handed over with a label.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a probe sees of a learner at one moment, the same items at every look of a stage.

    features: float32 (N, d), what the classifier gets.  logits: float32 (N, C).  head: float32 (C, d) rows of the
    classifier.  bias: float32 (C,). None where the learner has none.
    labels: int64 (N,): true ones in the scorer, those handed over in the worker; `HIDDEN` where there is none.
    given: int64 (N,), those handed over, which may be wrong; `HIDDEN` for items that came with none.
    inputs: (N, ...) as the learner got them, in the worker alone.  surface: the loss around the weights, likewise.
    stage: the stage.  step, total: gradient steps behind in it, and those its budget comes to.
    """

    features: FloatArray | None = None
    logits: FloatArray | None = None
    head: FloatArray | None = None
    bias: FloatArray | None = None
    labels: IntArray
    given: IntArray
    inputs: AnyArray | None = None
    surface: Surface | None = None
    stage: int = 0
    step: int = 0
    total: int = 0

    def has(self, need: Need) -> bool:
        """Say whether the field is there; labels where at least one is no secret."""
        value: Any = getattr(self, need)
        return bool((value != HIDDEN).any()) if need in ("labels", "given") else value is not None


class Probe(ABC):
    """Figures of a look. Parameters are class attributes made by `param`, as a strategy's: `dse[sigma=median]`."""

    needs: ClassVar[tuple[Need, ...]] = ("features", "labels")
    place: ClassVar[Place] = "scorer"
    figures: ClassVar[tuple[Metric, ...]]
    """What `measure` returns, by name, which way is up and what it means."""

    of: Of = param("asked", "items measured: train, asked, known, novel or watched")
    items: int = param(512, "items measured at most", ge=16, unit="items")

    def __init__(self, **values: Any) -> None:
        """Check `values` against the declared parameters; raise `UserError` as a strategy does."""
        for name, value in validated(type(self), values).items():
            setattr(self, name, value)

    @abstractmethod
    def measure(self, look: Look, rng: np.random.Generator) -> Mapping[str, float]:
        """Return the figures of a look that has what `needs` says; NaN where one does not apply.

        It depends on no other look, nor on the order of the items, and changes nothing. Randomness comes from `rng`
        alone, which is the same at every look.
        """


__all__ = ["HIDDEN", "Look", "Metric", "Need", "Observation", "Of", "Place", "Probe", "Surface", "param"]
