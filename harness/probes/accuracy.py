"""How often a learner's largest logit is right: the curve that others are read beside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from harness.probes.contract import HIDDEN, Look, Metric, Need, Probe


class Accuracy(Probe):
    """How often the largest logit is right, by true labels and by those handed over."""

    needs: ClassVar[tuple[Need, ...]] = ("logits", "labels")
    figures: ClassVar[tuple[Metric, ...]] = (
        Metric(name="accuracy", meaning="share of items whose largest logit is that of their class"),
        Metric(name="accuracy_given", meaning="the same by the label that was handed over, right or wrong"),
    )

    def measure(self, look: Look, rng: np.random.Generator) -> Mapping[str, float]:
        """Return both shares, each over the items that have such a label."""
        assert look.logits is not None
        answered = look.logits.argmax(axis=1)
        both = {"accuracy": look.labels, "accuracy_given": look.given}
        return {
            name: float((answered == labels)[labels != HIDDEN].mean())
            for name, labels in both.items()
            if (labels != HIDDEN).any()
        }


__all__ = ["Accuracy"]
