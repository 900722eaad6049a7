"""Tables over the residues 0 to p - 1: which pairs there are, in row-major order (x slow, y fast), and what
an operation makes of each.

The operations are those of Power et al. 2022 (github openai/grok), quotients are modular, and `random_table`
is a table drawn once from the
seed: there is nothing in it to generalise, so whoever scores above 1/p on it has seen the test.

>>> table = table_of("div", 5, seed=0)
>>> table.pairs[:3].tolist(), table.labels[4:8].tolist()  # pairs with y = 0 are left out; 1/1, 1/2, 1/3, 1/4
([[0, 1], [0, 2], [0, 3]], [1, 3, 2, 4])
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

from harness import seeds
from harness.contracts import IntArray
from harness.errors import UserError

OperationName = Literal[
    "add",
    "sub",
    "mul",
    "div",
    "sq_sum",
    "quad",
    "quad_x",
    "cube",
    "cube2",
    "mix_div",
    "mix_mul",
    "mix_sub",
    "random_table",
]


class Operation(NamedTuple):
    """What is computed of x, y and p, before the remainder is taken; and which pairs and moduli it is defined
    for.
    """

    value: Callable[[IntArray, IntArray, int], IntArray]
    commutes: bool = False
    needs_prime: bool = False
    drops_zero: bool = False


OPERATIONS: dict[OperationName, Operation] = {
    "add": Operation(lambda x, y, p: x + y, commutes=True),
    "sub": Operation(lambda x, y, p: x - y),
    "mul": Operation(lambda x, y, p: x * y, commutes=True),
    "div": Operation(lambda x, y, p: x * inverses(p)[y], needs_prime=True, drops_zero=True),
    "sq_sum": Operation(lambda x, y, p: x**2 + y**2, commutes=True),
    "quad": Operation(lambda x, y, p: x**2 + x * y + y**2, commutes=True),
    "quad_x": Operation(lambda x, y, p: x**2 + x * y + y**2 + x),
    "cube": Operation(lambda x, y, p: x**3 + x * y),
    "cube2": Operation(lambda x, y, p: x**3 + x * y**2 + y),
    "mix_div": Operation(lambda x, y, p: np.where(y % 2 == 1, x * inverses(p)[y], x - y), needs_prime=True),
    "mix_mul": Operation(lambda x, y, p: np.where(x % 2 == 0, x + y, x * y)),
    "mix_sub": Operation(lambda x, y, p: np.where(x % 2 == 0, x + y, x - y)),
}
"""Every operation that is a formula, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All n pairs of an operation. pairs: int64 (n, 2) of x and y.  ids: int64 (n,), x p + y.  labels: int64
    (n,), all true.
    """

    modulus: int
    pairs: IntArray
    ids: IntArray
    labels: IntArray

    @property
    def mirrors(self) -> IntArray:
        """The smaller of the ids of (x, y) and (y, x), int64 (n,): equal for two pairs that are mirror
        images.
        """
        x, y = self.pairs.T
        return np.asarray(np.minimum(x, y) * self.modulus + np.maximum(x, y))


def table_of(operation: OperationName, modulus: int, *, seed: int) -> Table:
    """Return the table of `operation`; the seed matters to `random_table` alone.

    Raises:
        UserError: the operation needs a prime modulus.
    """
    check_modulus(operation, modulus)
    pairs = np.stack(np.divmod(np.arange(modulus**2, dtype=np.int64), modulus), axis=1)
    if operation in OPERATIONS and OPERATIONS[operation].drops_zero:
        pairs = pairs[pairs[:, 1] > 0]
    ids = pairs[:, 0] * modulus + pairs[:, 1]
    return Table(
        modulus=modulus, pairs=pairs, ids=ids, labels=labels_of(operation, pairs, modulus, seed=seed)
    )


def labels_of(operation: OperationName, pairs: IntArray, modulus: int, *, seed: int) -> IntArray:
    """Return what `operation` makes of pairs int64 (n, 2), each in [0, p); int64 (n,)."""
    x, y = pairs.T
    if operation == "random_table":
        drawn = seeds.stream("table", seed=seed).integers(modulus, size=modulus**2)
        return np.asarray(drawn[x * modulus + y])
    return np.asarray(OPERATIONS[operation].value(x, y, modulus) % modulus, dtype=np.int64)


def check_modulus(operation: OperationName, modulus: int) -> None:
    """Raise `UserError` where `operation` divides and the modulus is not prime."""
    if operation in OPERATIONS and OPERATIONS[operation].needs_prime and not is_prime(modulus):
        raise UserError(
            f"operation={operation} divides, so it needs a prime modulus; {modulus} is not prime, the next one is "
            f"{next(p for p in range(modulus + 1, 2 * modulus + 2) if is_prime(p))}"
        )


def commutes(operation: OperationName) -> bool:
    """Return whether (x, y) and (y, x) have the same label for every modulus."""
    return operation in OPERATIONS and OPERATIONS[operation].commutes


def is_prime(number: int) -> bool:
    """Return whether `number` has no divisor but one and itself.

    >>> [number for number in range(20) if is_prime(number)]
    [2, 3, 5, 7, 11, 13, 17, 19]
    """
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def inverses(prime: int) -> IntArray:
    """Return the multiplicative inverse of every residue, int64 (p,), and 0 for 0."""
    return np.array([0, *(pow(residue, -1, prime) for residue in range(1, prime))], dtype=np.int64)


NAMES: tuple[OperationName, ...] = get_args(OperationName)
