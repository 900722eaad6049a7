"""What an ablation asks, as plain values: its arms, and which differences between them say what a component
contributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["component", "all", "row", "arm", "interaction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """sum of the arms in `plus` / share - sum of the arms in `minus` / share, under one seed.

    kind: a component; all of them at once; a row of a published table; an arm of the user's; an interaction,
    which is how much more a component contributes beside another one than without it.  on: what is judged.
    off: what it is compared with.
    """

    kind: Kind
    on: str
    off: str
    plus: tuple[str, ...]
    minus: tuple[str, ...]
    share: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """What to run and what to conclude. `strategy` is what was asked for; `reference` the arm that single
    arms are compared with.
    """

    strategy: str
    design: str
    reference: str
    arms: tuple[str, ...]
    contrasts: tuple[Contrast, ...]


__all__ = ["Ablation", "Contrast", "Kind"]
