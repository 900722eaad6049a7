"""Which training labels are made wrong, and what they become.

One permutation of all pairs says which training pairs go first, so that the corrupted ones of a larger share
contain those of a smaller one. What a pair's label becomes is drawn for every pair there is, so it depends on
the seed, the kind and the pair alone, not on how many are corrupted or trained on. Kinds:

any: any of the p labels, also the true one (as published, so that a share 1/p of the corrupted labels stay
right).  other: any wrong one.
flip: the next label, a coherent wrong rule; added to a sum it is itself a function that can be learned.
transition: drawn from a row-stochastic matrix, row by the true label.
structured: what another operation makes of the pair, so that two rules compete.
pair_consistent: (x, y) and (y, x) are corrupted together, with the same wrong label; a pair that would be
halved stays as it is.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness import seeds
from harness.contracts import IntArray
from harness.errors import UserError
from harness.places import written
from scenarios.grokking.operations import OperationName, Table, labels_of
from scenarios.grokking.splitting import floored, whole_groups
from scenarios.shared.noise import checked

Kind = Literal["any", "other", "flip", "transition", "structured", "pair_consistent"]
Matrix = NDArray[np.float64]


def corrupted_rows(table: Table, train: IntArray, rate: float, kind: Kind, *, seed: int) -> IntArray:
    """Return the rows out of `train` whose labels are corrupted: floor(rate n) of them, one less where a pair
    would be halved.
    """
    order = seeds.stream("corruption", seed=seed).permutation(len(table.ids)).astype(np.int64)
    own = order[np.isin(order, train)]
    size = floored(rate, len(train))
    return whole_groups(own, table.mirrors, size) if kind == "pair_consistent" else own[:size]


def replacements(
    table: Table, kind: Kind, *, seed: int, other: OperationName = "sub", matrix: Matrix | None = None
) -> IntArray:
    """Return what the label of every pair would become, int64 (n,).

    Args:
        table: pairs and true labels.
        kind: see the module.
        seed: of the deal.
        other: the competing operation of kind `structured`.
        matrix: float64 (p, p) of kind `transition`.
    """
    p, every = table.modulus, table.modulus**2
    rng = seeds.stream("wrong-labels", seed=seed, kind=kind)
    if kind == "any":
        return rng.integers(p, size=every)[table.ids]
    if kind == "flip":
        return (table.labels + 1) % p
    if kind == "structured":
        return labels_of(other, table.pairs, p, seed=seed)
    if kind == "transition":
        assert matrix is not None
        ends = np.cumsum(matrix, axis=1)
        luck = rng.random(every)[table.ids, None] * ends[table.labels, -1:]
        return np.asarray((luck >= ends[table.labels]).sum(axis=1), dtype=np.int64)
    offsets = rng.integers(1, p, size=every)
    return (table.labels + offsets[table.mirrors if kind == "pair_consistent" else table.ids]) % p


def matrix_of(rows: str, file: str, modulus: int) -> Matrix:
    """Return the transition matrix (p, p) that is said as text, rows joined by `;` and entries by `/`, or
    lies in a .npy or .csv file.

    Raises:
        UserError: neither or both are said, it cannot be read, its size is not that of the modulus, or a row
        is no distribution.
    """
    if bool(rows) == bool(file):
        raise UserError("kind=transition needs either rows=0.9/0.1;0.2/0.8 or file=PATH")
    try:
        if rows:
            matrix = np.array(
                [[float(entry) for entry in row.split("/")] for row in rows.split(";")], dtype=np.float64
            )
        elif file.endswith(".npy"):
            matrix = np.asarray(np.load(written(file), allow_pickle=False), dtype=np.float64)
        else:
            matrix = np.loadtxt(written(file), delimiter=",", ndmin=2)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"cannot read the transition matrix {rows or file!r}: {error}") from None
    if matrix.shape != (modulus, modulus):
        raise UserError(f"the transition matrix has shape {matrix.shape}, the modulus is {modulus}")
    return checked(matrix, "corruption's")
