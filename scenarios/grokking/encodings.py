"""How a pair is shown to a learner. Networks that look rows up take operand numbers; the others exist for
foreign models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from harness import seeds
from harness.contracts import AnyArray, IntArray
from harness.errors import UserError

LOOKED_UP = ("pair-index", "tokens-2", "tokens-3")
"""Encodings by operand numbers."""


def pair_index(pairs: IntArray, modulus: int, seed: int) -> IntArray:
    """Return the operands x and y, int64 (n, 2)."""
    return pairs.copy()


def tokens_3(pairs: IntArray, modulus: int, seed: int) -> IntArray:
    """Return x, y and the number p for the sign "=", int64 (n, 3)."""
    return np.column_stack([pairs, np.full(len(pairs), modulus, dtype=np.int64)])


def one_hot(pairs: IntArray, modulus: int, seed: int) -> AnyArray:
    """Return the one-hot codes of x and y side by side, float32 (n, 2p)."""
    return _side_by_side(np.eye(modulus, dtype=np.float32), pairs)


def binary(pairs: IntArray, modulus: int, seed: int, *, bits: int = 14) -> AnyArray:
    """Return random binary codes of x and y side by side, float32 (n, 2 bits); every residue has one code, no
    two the same.

    Raises:
        UserError: there are fewer codes of so many bits than residues, or more than 24 bits are asked for.
    """
    if not modulus <= 2**bits <= 2**24:
        raise UserError(f"bits should be at most 24 and give {modulus} different codes, got {bits}")
    numbers = seeds.stream("codes", seed=seed).choice(2**bits, size=modulus, replace=False)
    return _side_by_side((numbers[:, None] >> np.arange(bits) & 1).astype(np.float32), pairs)


ENCODINGS: Mapping[str, Callable[..., Any]] = {
    "pair-index": pair_index,
    "one-hot": one_hot,
    "tokens-2": pair_index,
    "tokens-3": tokens_3,
    "binary": binary,
}
"""Encoding by name: makes (n, ...) of pairs int64 (n, 2), the modulus and the seed."""


def _side_by_side(codes: AnyArray, pairs: IntArray) -> AnyArray:
    return np.concatenate([codes[pairs[:, 0]], codes[pairs[:, 1]]], axis=1)
