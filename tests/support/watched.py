"""A learner that shows what it sees, and probes that keep their word or break it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from worlds import Trains

from harness.contracts import HIDDEN, Inputs, IntArray, Observation, Stage
from harness.probes.contract import Look, Metric, Need, Of, Place, Probe, param
from strategies.toolkit.loss_surface import LossSurface

HERE = str(Path(__file__))


class Shows(Trains):
    """Trains a linear layer for 20 steps; shows inputs as features."""

    def learn(self, stage: Stage) -> None:
        self.context.probe(0)
        super().learn(stage)

    def observed(self, inputs: Inputs) -> Observation:
        with torch.no_grad():
            logits = self.layer(torch.from_numpy(np.array(inputs))).numpy()
        own = {
            "head": self.layer.weight.detach().numpy().copy(),
            "bias": self.layer.bias.detach().numpy().copy(),
        }
        return Observation(features=np.asarray(inputs), logits=logits, **own)

    def surface(self, inputs: Inputs, labels: IntArray) -> LossSurface:
        return LossSurface(self.layer, torch.from_numpy(np.array(inputs)), torch.from_numpy(labels))


class Speechless(Shows):
    """Raises when it is looked at."""

    def observed(self, inputs: Inputs) -> Observation:
        raise RuntimeError("not now")


class Counts(Probe):
    """How many items there are, with a true label and with one that was handed over."""

    needs: ClassVar[tuple[Need, ...]] = ("features",)
    figures: ClassVar[tuple[Metric, ...]] = (Metric(name="n"), Metric(name="n_true"), Metric(name="n_given"))
    factor: float = param(1.0, "factor on all")

    def measure(self, look: Look, rng: np.random.Generator) -> Mapping[str, float]:
        counts = (len(look.labels), (look.labels != HIDDEN).sum(), (look.given != HIDDEN).sum())
        return {
            figure.name: self.factor * float(count)
            for figure, count in zip(self.figures, counts, strict=True)
        }


class Loss(Probe):
    """The training loss, where the network is."""

    needs: ClassVar[tuple[Need, ...]] = ("surface",)
    place: ClassVar[Place] = "learner"
    figures: ClassVar[tuple[Metric, ...]] = (Metric(name="loss"),)
    of: Of = param("train", "items measured")

    def measure(self, look: Look, rng: np.random.Generator) -> Mapping[str, float]:
        assert look.surface is not None
        return {"loss": float(look.surface.loss(slice(None)).detach())}


class Fails(Counts):
    """Raises at every look."""

    def measure(self, look: Look, rng: np.random.Generator) -> Mapping[str, float]:
        raise ValueError("no figure")


class Ordered(Counts):
    """Depends on the order of the items, and says a figure less than it declares."""

    def measure(self, look: Look, rng: np.random.Generator) -> Mapping[str, float]:
        assert look.features is not None
        return {"n": float(look.features[0, 0]), "n_true": 0.0}


class Unseeded(Counts):
    """Draws from numpy's global generator."""

    def measure(self, look: Look, rng: np.random.Generator) -> Mapping[str, float]:
        return dict.fromkeys(("n", "n_true", "n_given"), float(np.random.random()))
