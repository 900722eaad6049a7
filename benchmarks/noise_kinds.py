"""What a rate means: labels that are wrong, by kind of noise, and how open it is what they become.

Wrong: share of the labelled items, overall, and of the classes hit least and most. Openness: entropy of the
wrong class given the true one, over log(K - 1), as counted; 0 where every class has one other it is taken
for, 1 where all others are alike. For instance-dependent noise the entropy of every item's own chances stands
beside it: near 0 there is nothing left to chance.

Run: python benchmarks/noise_kinds.py
"""

from __future__ import annotations

import numpy as np

from harness import seeds
from harness.contracts import HIDDEN
from harness.metrics.noisy_labels import transition
from harness.selection import configured
from scenarios.shared.instance_noise import Features, entropy, part_dependent

KINDS = (
    "symmetric[rate=0.4]",
    "symmetric[rate=0.36,include_self=true]",
    "pair[rate=0.4]",
    "asymmetric[map=mnist,rate=0.4]",
    "superclass[rate=0.4]",
    "instance[rate=0.4,features=raw,temperature=1]",
    "instance[rate=0.4]",
)


def main() -> None:
    """Print one line per kind and data set."""
    for dataset in ("digits", "mnist5k"):
        over = f"class-incremental[dataset={dataset},stages=1]"
        for kind in KINDS:
            print(f"{dataset:8} {kind:48} {described(over, kind)}")


def described(over: str, kind: str) -> str:
    """Return the figures of one kind under seed 0."""
    deal = configured("scenario", f"noisy-labels[over={over},noise={kind},unidentifiable=true]").deal(0)
    observed = deal.facts["observed"]
    rows = np.flatnonzero(observed != HIDDEN)
    labels, observed = deal.labels[rows], observed[rows]
    size = int(labels.max()) + 1
    matrix = transition(labels, observed, size)
    wrong = 1 - np.diag(matrix)
    words = (
        f"wrong {100 * np.mean(labels != observed):4.1f} % ({100 * wrong.min():4.1f} to "
        f"{100 * wrong.max():4.1f}), openness "
    )
    words += f"{entropy(matrix[labels], labels):.2f}"
    if kind.startswith("instance"):
        features: Features = "raw" if "raw" in kind else "standardise"
        chances = part_dependent(
            deal.inputs[rows],
            labels,
            size,
            seeds.stream("noise", seed=0, part=0),
            rate=0.4,
            std=0.1,
            features=features,
            temperature=1.0 if features == "raw" else 0.0,
        )
        words += f", of single items {entropy(chances, labels):.2f}"
    return words


if __name__ == "__main__":
    main()
