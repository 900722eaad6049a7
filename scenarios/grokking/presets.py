"""Named protocols: the suites of the published claims, and small ones."""

from __future__ import annotations

from typing import Any

from harness.contracts import Preset

_PAPER: dict[str, Any] = {
    "modulus": 97,
    "train_fraction": 0.5,
    "kind": "any",
    "backbone": "quadratic[width=500]",
    "steps": 500,
    "probe_every": 5,
}
_DOSHI = "Doshi et al. 2024 (arXiv 2310.13061): p 97, width 500, alpha 0.5, labels drawn from all p"
_PRIETO = "Prieto et al. 2025 (arXiv 2501.04697), sections 2 and 4: MLP of 200 and 200 without biases, no wrong labels"

PRESETS = {
    "paper": Preset(
        values=_PAPER,
        source=f"{_DOSHI}; split and labels by the seed of the run. Say corruption, and steps where not 500",
    ),
    "paper-split": Preset(
        values={**_PAPER, "split": "doshi2024"},
        source=(
            f"{_DOSHI}; split and labels of the released code, the same under every seed, so that seeds "
            "differ in the learner alone"
        ),
    ),
    "prieto2025": Preset(
        values={
            "modulus": 113,
            "train_fraction": 0.4,
            "backbone": "relu[hidden=200+200]",
            "steps": 500,
            "probe_every": 10,
        },
        source=f"{_PRIETO}; p 113, 40 %",
    ),
    "numerics": Preset(
        values={
            "modulus": 43,
            "train_fraction": 0.6,
            "backbone": "relu[hidden=200+200]",
            "steps": 6000,
            "probe_every": 20,
        },
        source=(
            f"{_PRIETO}; reduced to p 43, 60 %, where float32 softmax collapses within 4,000 steps and "
            "float64 at 5,500"
        ),
    ),
    "ci": Preset(
        values={
            "modulus": 43,
            "train_fraction": 0.8,
            "kind": "other",
            "backbone": "quadratic[width=215]",
            "steps": 400,
            "probe_every": 10,
        },
        source="embedded track: the smallest table on which weight decay runs through every phase but forgetting",
    ),
    "tiny": Preset(
        values={
            "modulus": 11,
            "train_fraction": 0.8,
            "kind": "other",
            "backbone": "quadratic[width=32]",
            "steps": 60,
            "probe_every": 10,
        },
        source="for tests of the machinery: too small for any phase to show",
    ),
}
