"""Which stages are learned once for several cells: those before their configurations begin to differ.

A parameter says from which stage on it has an influence (`param(..., since_stage=1)`), on answers or on what
is kept for later. So cells of one strategy under one protocol and seed are in the same state after stage k if
they agree in all parameters with since_stage <= k. Beyond that, a class with `shares_first_stage` shares
stage 0 with everything derived from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from harness.contracts import Strategy
from harness.parameters import model_of
from harness.protocol import fingerprint
from harness.protocol.cells import Cell

FOLDER = "stages"


class Sharing:
    """Where the states lie that the cells of a run share.

    A state is kept where two cells of the run need it, or where a class shares its stage 0, which later runs
    are likely to need too.
    """

    def __init__(self, cells: Sequence[Cell], folder: Path) -> None:
        """Take the cells that are to run, and the folder of the states."""
        self.folder = folder
        self.keys = {cell.key: stage_keys(cell) for cell in cells}
        needed = Counter(key for keys in self.keys.values() for key in keys if key)
        lasting = {
            keys[0]
            for cell in cells
            if (keys := self.keys[cell.key]) and owner_of_first_stage(cell.contender.plugin.cls)
        }
        self.kept = {key for key, count in needed.items() if count > 1} | (lasting - {""})

    def paths(self, cell: Cell) -> tuple[Path | None, ...]:
        """Return, for every stage of a cell, where the state after it is shared; None where it is not."""
        keys = self.keys.get(cell.key, ())
        return tuple(
            self._path(key) if key in self.kept or (key and self._path(key).is_file()) else None
            for key in keys
        )

    def next_to_learn(self, cell: Cell) -> Path | None:
        """Return the first shared state that the cell needs and nobody has kept yet."""
        return next((path for path in self.paths(cell) if path is not None and not path.is_file()), None)

    def still_to_learn(self, cell: Cell, stages_done: int) -> set[Path]:
        """Return the shared states that a running cell has yet to bring about."""
        return {path for path in self.paths(cell)[stages_done:] if path is not None and not path.is_file()}

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.pt"


def saved(cells: Sequence[Cell], sharing: Sharing) -> tuple[int, int, float]:
    """Return how many stages `cells` learn each for themselves, how many with sharing, and the ratio of both
    counted in items x passes.
    """
    every = once = 0
    work = work_once = 0.0
    seen: set[Path] = set()
    for cell in cells:
        budget = cell.protocol.scenario.budget()
        paths = sharing.paths(cell)
        for stage, items in enumerate(cell.protocol.stage_items):
            passes = budget.for_stage(stage).epochs
            path = paths[stage] if stage < len(paths) else None
            is_there = path is not None and (path in seen or path.is_file())
            every, work = every + 1, work + items * passes
            if not is_there:
                once, work_once = once + 1, work_once + items * passes
            if path is not None:
                seen.add(path)
    return every, once, work / work_once if work_once else float("inf")


def stage_keys(cell: Cell) -> tuple[str, ...]:
    """Return, for every stage but the last, the address of the state after it, equal for cells that share it;
    empty where it is not shared.

    Nothing is shared with strategies by path, whose code nobody has vouched for, nor where probes are asked
    in mid-stage, nor where every stage has a learner of its own. `()` where no stage is.
    """
    contender, scenario = cell.contender, cell.protocol.scenario
    cls, budget = contender.plugin.cls, scenario.budget()
    is_asked = budget.probe_every or budget.probe_epochs
    if contender.plugin.source is not None or is_asked or budget.apart or not cls.resumable:
        return ()
    keys = [_key(cell, cls, stage, contender.code) for stage in range(len(cell.protocol.shapes) - 1)]
    owner = owner_of_first_stage(cls)
    if owner is not None and keys:
        keys[0] = _key(cell, owner, 0, fingerprint.of_code(owner.__module__))
    return tuple(keys) if any(keys) else ()


def _key(cell: Cell, owner: type[Strategy], stage: int, code: str) -> str:
    """Return the address of the state after `stage`, which the parameters of `owner` decide; empty where all
    of them do.
    """
    since = {name: _since_stage(field) for name, field in model_of(owner).model_fields.items()}
    if owner is cell.contender.plugin.cls and all(first <= stage for first in since.values()):
        return ""
    content: dict[str, Any] = {
        "protocol": cell.protocol.hash,
        "owner": owner.__qualname__,  # whose module is in the code
        "params": {
            name: value
            for name, value in cell.contender.params.items()
            if since.get(name, stage + 1) <= stage
        },
        "seed": cell.seed,
        "code": code,
        "libraries": fingerprint.libraries(),
        "stage": stage,
    }
    return fingerprint.of_value(content)


def _since_stage(field: FieldInfo) -> int:
    extra = field.json_schema_extra
    return int(str(extra.get("since_stage", 0))) if isinstance(extra, dict) else 0


def owner_of_first_stage(cls: type[Strategy]) -> type[Strategy] | None:
    """Return the class whose stage 0 `cls` shares; none of its methods may be replaced but the abstract ones
    and `predict`.
    """
    classes = cls.__mro__
    for place, owner in enumerate(classes):
        if vars(owner).get("shares_first_stage"):
            abstract: frozenset[str] = getattr(owner, "__abstractmethods__", frozenset())
            own = (
                {name for name, value in vars(owner).items() if callable(value) and not name.startswith("__")}
                - abstract
                - {"predict"}
            )
            replaced = own & {name for below in classes[:place] for name in vars(below)}
            return None if replaced else owner
    return None


__all__ = ["FOLDER", "Sharing", "saved", "stage_keys"]
