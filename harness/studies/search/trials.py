"""What a search remembers: one line for every trial that came to an end, and which of them is chosen.

The file is written whole after every trial, so that a killed search continues with what it knows. A trial
that came to no figure, for whatever reason, is a trial with that reason.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.errors import UserError

FILE = "trials.jsonl"

Ending = Literal["done", "stopped", "timeout", "out of memory", "diverged", "failed", "skipped"]
"""How a trial ended: as a cell does, or `stopped` early because others were better at the same point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One setting and what came of it.

    index: counts from 0, in the order of asking.  label: the selection.  values: of the dimensions.  drawn:
    before they were rounded.
    figure: the criterion, mean over seeds; of a stopped trial as far as it came; None where there is none.
    figures: seed by seed.
    looks: (look, mean over the seeds so far) as they were compared.  seconds: wall time.  repeats: the trial
    whose figure it has taken.
    """

    index: int
    label: str
    values: Mapping[str, Any]
    drawn: Mapping[str, Any]
    status: Ending
    figure: float | None = None
    figures: Sequence[float] = ()
    looks: Sequence[tuple[int, float]] = ()
    reason: str = ""
    seconds: float = 0.0
    repeats: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What a search chose and how. JSON-ready by `asdict`.

    selection: the chosen setting.  figure: its criterion.  run, stopped, failed: how many trials there are,
    how many of them were stopped early and how many came to no figure.  criterion, better: the metric and
    which way is up.
    choosing, choosing_hash: the protocol chosen on.  seeds: its run seeds.
    """

    selection: str
    figure: float
    run: int
    stopped: int
    failed: int
    method: str
    space: str
    criterion: str
    better: Literal["higher", "lower"]
    choosing: str
    choosing_hash: str
    seeds: Sequence[int]
    trials: Sequence[Trial] = field(default_factory=tuple)


def read_trials(folder: Path) -> dict[int, Trial]:
    """Return the trials kept in a search's folder, by index; none where there is no file.

    Raises:
        UserError: the file does not hold trials.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found = [Trial(**{**row, "looks": [tuple(look) for look in row["looks"]]}) for row in rows]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"cannot read the trials in {path}: {error}") from None
    return {trial.index: trial for trial in found}


def write_trials(folder: Path, trials: Iterable[Trial]) -> None:
    """Write all trials, whole.

    Raises:
        UserError: the folder cannot be written.
    """
    path = folder / FILE
    temporary = path.with_suffix(f".tmp{os.getpid()}")
    text = "".join(
        json.dumps(asdict(trial), ensure_ascii=False) + "\n"
        for trial in sorted(trials, key=lambda trial: trial.index)
    )
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror or error}") from None


def best_first(trials: Iterable[Trial], better: Literal["higher", "lower"]) -> list[Trial]:
    """Return those that ran to the end, the best one first, of equal ones the earlier one; then the others as
    far as they came.
    """
    sign = -1 if better == "higher" else 1

    def place(trial: Trial) -> tuple[int, float, float, int]:
        group = 0 if trial.status == "done" else 1 if trial.figure is not None else 2
        reached = -trial.looks[-1][0] if group == 1 and trial.looks else 0
        return group, reached, sign * (trial.figure if trial.figure is not None else math.inf), trial.index

    return sorted(trials, key=place)


def counts(trials: Sequence[Trial]) -> dict[str, int]:
    """Return how many trials were run, stopped early, and came to no figure."""
    by_status = Counter(trial.status for trial in trials)
    return {
        "run": len(trials),
        "stopped": by_status["stopped"],
        "failed": len(trials) - by_status["stopped"] - by_status["done"],
    }


__all__ = ["Chosen", "Ending", "Trial", "best_first", "counts", "read_trials", "write_trials"]
