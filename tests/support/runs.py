"""Small runs through the command line and the engine, on the tiny world of `worlds`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from checkout import SUPPORT

from harness.store.record import Record

WORLDS = str(SUPPORT / "worlds.py")
BLOBS = f"{WORLDS}:Blobs"

Run = Callable[..., list[Record]]
Owb = Callable[..., "Said"]


@dataclass(frozen=True)
class Said:
    """What a call of the command line printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


def world(name: str) -> str:
    """Return the selection of a class in worlds.py."""
    return f"{WORLDS}:{name}"
