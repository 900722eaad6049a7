"""The split and the wrong labels that the code of Doshi et al. 2024 (github d-doshi/Grokking) makes, without
touching global generators.

Python's generator with seed 420 shuffles the list of pairs; the first floor(alpha n) are trained on; the
first floor(xi n_train) of these get a label from torch's generator with seed 0, uniform over all p. At p =
97, alpha 0.5, xi 0.35: 4,704 training pairs, 1,646 corrupted, of which 17 keep their true label. The seed of
the run plays no part, so seeds differ in the learner alone.
"""

from __future__ import annotations

import random

import numpy as np

from harness.contracts import IntArray

PAIR_SEED = 420
LABEL_SEED = 0


def published_split(n_pairs: int, n_train: int) -> IntArray:
    """Return the rows to train on, int64 (n_train,), in the order of the shuffled list."""
    order = list(range(n_pairs))
    random.Random(PAIR_SEED).shuffle(order)  # noqa: S311  (what the published code does)
    return np.array(order[:n_train], dtype=np.int64)


def published_labels(modulus: int, n_corrupt: int) -> IntArray:
    """Return the labels of the first `n_corrupt` training pairs, int64."""
    import torch

    generator = torch.Generator().manual_seed(
        LABEL_SEED
    )  # gives what torch.manual_seed and the global generator give
    drawn: IntArray = torch.randint(0, modulus, (n_corrupt,), generator=generator).numpy()
    return drawn
