"""Randomness has an address: every consumer asks for its own stream by name.

A stream is fixed by a root seed, a name and any further address parts (stage, data set), hashed with SHA-256.
Asking for one stream never moves another, so adding a strategy cannot change the data of the next one.

>>> int(stream("class-order", seed=0).integers(1000)) == int(stream("class-order", seed=0).integers(1000))
True
"""

from __future__ import annotations

import hashlib
import json

import numpy as np

Address = str | int


def derive(name: str, *, seed: int, **address: Address) -> int:
    """Return the 63-bit seed of the stream `name` below `seed`; it cannot be turned back into `seed`."""
    text = json.dumps([name, seed, sorted(address.items())], separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(name: str, *, seed: int, **address: Address) -> np.random.Generator:
    """Return a fresh generator for the stream `name` below `seed`."""
    return np.random.default_rng(derive(name, seed=seed, **address))
