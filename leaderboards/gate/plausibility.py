"""Stage 5, plausibility: what no honest run gives, though every digest fits.

A seed changes the split, the ids and the learner. So the answers of two seeds do not agree row by row, a cell
does not answer the items of another seed, and the figures of several seeds are not all the same. A strategy
that always answers one class is the exception.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from harness.contracts import AnyArray, Rule, StoredPrediction, of_learner, rules_of
from harness.errors import UserError
from leaderboards.gate.case import Case, arrays_of, where
from leaderboards.publishing.board import BoardCell

_FEW_ROWS = 20
"""Answers with fewer rows than this may agree by chance."""

_SEEDS_TO_VARY = 3


def plausibility(case: Case) -> Iterator[str]:
    """Say what no honest run gives."""
    by_scenario: dict[str, list[BoardCell]] = {}
    for cell in case.readable:
        by_scenario.setdefault(cell.scenario, []).append(cell)
    varied: set[str] = set()
    for cells in by_scenario.values():
        answers: dict[int, Sequence[StoredPrediction]] = {}
        for cell in cells:
            try:
                answers[cell.seed] = case.answers(cell)
            except UserError:
                continue  # said by the stages before
            rules = rules_of(case.exam(cell.scenario, cell.seed).scenario.prediction)
            yield from (f"{where(cell)}: {problem}" for problem in _values(answers[cell.seed], rules))
        yield from _other_seeds(case, cells, answers)
        whole = of_learner(case.exam(cells[0].scenario, cells[0].seed).scenario.prediction)
        told = {seed: fingerprint for seed, found in answers.items() if (fingerprint := _rows(found, whole))}
        varied |= {cell.key for cell in cells if cell.seed in told}
        yield from _same_rows(cells[0].scenario, told)
        yield from same_figures([cell for cell in cells if cell.seed in told])
    yield from _copies(case, varied)


def _values(answers: Sequence[StoredPrediction], rules: Mapping[str, Rule]) -> Iterator[str]:
    for when, answer, name in arrays_of(answers):
        array = answer.arrays[name]
        if (
            array.dtype.kind == "f"
            and (name not in rules or rules[name].finite)
            and not np.isfinite(array).all()
        ):
            yield f"{name} in {when} holds NaN or infinity"
        if (
            name in ("classes", "clusters")
            and array.size
            and (array.dtype.kind not in "iu" or array.min() < 0)
        ):
            yield f"{name} in {when} holds values that number no class"


def _other_seeds(
    case: Case, cells: Sequence[BoardCell], answers: Mapping[int, Sequence[StoredPrediction]]
) -> Iterator[str]:
    """An item's id is drawn under the seed, so the ids answered tell which seed was run."""
    for cell in cells:
        ends = [answer.ids for answer in answers.get(cell.seed, ()) if answer.step is None]
        for other in range(case.board.header.suite.seeds):
            if other != cell.seed and _same(ends, case.exam(cell.scenario, other).test_ids):
                if not _same(ends, case.exam(cell.scenario, cell.seed).test_ids):
                    yield f"{where(cell)}: answers the items of seed {other}: the seeds were swapped"
                break


def _same(first: Sequence[AnyArray], second: Sequence[AnyArray]) -> bool:
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def _rows(answers: Sequence[StoredPrediction], whole: Sequence[str]) -> str:
    """Return a digest of what was answered, row by row without ids; empty where it could be the same by
    chance or on purpose.
    """
    digest = hashlib.sha256()
    told = False
    for when, answer, name in arrays_of(answers):
        array = np.ascontiguousarray(answer.arrays[name])
        if name in whole:
            continue
        digest.update(f"{when}|{name}|{array.shape}|".encode())
        digest.update(array.tobytes())
        told = told or (len(array) >= _FEW_ROWS and bool((array != array[:1]).any()))
    return digest.hexdigest() if told else ""


def _same_rows(scenario: str, told: Mapping[int, str]) -> Iterator[str]:
    by_rows: dict[str, list[int]] = {}
    for seed, rows in sorted(told.items()):
        by_rows.setdefault(rows, []).append(seed)
    for seeds in by_rows.values():
        if len(seeds) > 1:
            yield (
                f"{scenario}: seeds {', '.join(map(str, seeds))} have identical predictions, though a "
                "seed changes everything random"
            )


def same_figures(cells: Sequence[BoardCell]) -> Iterator[str]:
    """Figures that are 0 or 1 everywhere may be the same honestly."""
    if len(cells) < _SEEDS_TO_VARY:
        return
    figures = [dict(cell.metrics) for cell in cells]
    varying = [value for value in figures[0].values() if value not in (0.0, 1.0)]
    if len(varying) > 1 and all(other == figures[0] for other in figures):
        yield f"{cells[0].scenario}: all {len(cells)} seeds have the same figures, so nothing varies over seeds"


def _copies(case: Case, varied: set[str]) -> Iterator[str]:
    """An entry whose predictions are another's is not a new one, whatever it is called; but a revision may have
    those of the version that was accepted before.
    """
    own = {(cell.scenario, cell.seed): cell.digest for cell in case.readable if cell.key in varied}
    earlier = case.board.accepted.current.get(case.submission.name)
    for entry in case.board.entries:
        if earlier and entry.label == earlier.label:
            continue
        same = sum(own.get((cell.scenario, cell.seed)) == cell.digest for cell in entry.done)
        if same and 2 * same > len(own):
            yield (
                f"is a duplicate of the board's entry {entry.label!r}: {same} of {len(own)} cells have "
                "its very predictions"
            )


__all__ = ["plausibility"]
