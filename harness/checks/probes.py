"""What a probe must hold to before a figure of it is trusted: it changes nothing, sees nothing that was hidden, and
depends on what the learner shows alone.
"""

from __future__ import annotations

import copy
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.cell.looks import Looks, Watcher
from harness.cell.probe_scorer import ProbeScorer
from harness.cell.run import run_cell
from harness.cell.sealing import seal, with_permuted_truth
from harness.checks.conformance import Make, case_of
from harness.checks.finding import Finding, found
from harness.contracts import HIDDEN, AnyArray, Deal, Scenario
from harness.plugins import is_by_path
from harness.probes.contract import Look, Probe
from harness.protocol.probes import looks_of
from harness.selection import single
from harness.store.predictions import digest

_SEED = 0
_TOLERANCE = 1e-6


class _Kept(NamedTuple):
    """A look that was measured twice, and the generator before."""

    look: Look
    first: Mapping[str, float]
    again: Mapping[str, float]
    rng: np.random.Generator


class _Measured(NamedTuple):
    """A cell that was looked at after every step. shown: without the truth.  looks: what was measured."""

    digest: str
    shown: list[Mapping[str, Any]]
    looks: list[_Kept]
    seconds: float


def check_probe(text: str, make: Make, scenario: Scenario) -> list[Finding]:
    """Hold a probe against the claims about probes, on a small part of `scenario`.

    Args:
        text: the probe with its parameters.
        make: gives a fresh learner, one that shows what it sees.
        scenario: what to deal from.
    """
    looks = looks_of([text], "every=1", share=math.inf)
    assert looks is not None
    (asked,) = looks.probes
    probe, case = asked.made(), case_of(make, scenario)

    @cache
    def cell(*, probed: bool, permuted: bool = False) -> _Measured:
        deal = case.deal()
        return _cell(
            looks if probed else None, make, with_permuted_truth(deal, _SEED) if permuted else deal, case
        )

    def changes_nothing() -> str:
        apart = cell(probed=True).digest != cell(probed=False).digest
        return "predictions differ from those of a cell that nobody looked at" if apart else ""

    def sees_nothing_hidden() -> str:
        both = [cell(probed=True, permuted=permuted).shown for permuted in (False, True)]
        return "" if _same_values(*both) else "what it makes in the worker depends on labels that were hidden"

    def is_measured() -> str:
        measured = cell(probed=True).looks
        if not measured:
            return f"note: does not apply here: the learner does not show {' and '.join(probe.needs)}"
        names = {figure.name for figure in probe.figures}
        for look, first, again, _ in measured:
            if set(first) != names:
                return f"figures {', '.join(sorted(names ^ set(first)))} are declared and missing, or the other way"
            if not _close(first, again):
                return f"gives other figures when it measures again, at step {look.step}"
        return ""

    def ignores_order() -> str:
        for look, first, _, rng in cell(probed=True).looks if "surface" not in probe.needs else []:
            if not _close(first, probe.measure(_turned(look), copy.deepcopy(rng))):
                return f"depends on the order of the items, at step {look.step}"
        return ""

    def raises_nothing() -> str:
        for look, *_, rng in cell(probed=True).looks[:1] if "surface" not in probe.needs else []:
            for what, poor in _poor(look).items():
                try:
                    with warnings.catch_warnings(), np.errstate(all="ignore"):
                        warnings.simplefilter("ignore")
                        probe.measure(poor, copy.deepcopy(rng))
                except Exception as error:
                    return f"raises {type(error).__name__} on {what}, where NaN is wanted: {error}"
        return ""

    def costs() -> str:
        count = len(cell(probed=True).looks)
        return f"note: {1000 * cell(probed=True).seconds / count:.1f} ms a look of this cell" if count else ""

    def has_its_place() -> str:
        if probe.place == "scorer" and is_by_path(single(text).name):
            return "warning: it runs beside the true labels: on your machine alone, and on no board"
        return f"note: it runs in the {'scorer' if probe.place == 'scorer' else 'worker'}"

    claims: dict[str, Callable[[], str]] = {
        "predictions are the same bytes with and without it": changes_nothing,
        "permuted hidden labels change nothing in the worker": sees_nothing_hidden,
        "gives the figures it declares, the same again": is_measured,
        "the order of items changes no figure": ignores_order,
        "raises nothing where there is little to measure": raises_nothing,
        "its cost is known": costs,
        "it is known where it runs": has_its_place,
    }
    return [found(claim, test, of=type(probe), method="measure") for claim, test in claims.items()]


def _cell(looks: Looks | None, make: Make, deal: Deal, case: Any) -> _Measured:
    """Learn a cell; with `looks`, measure it on the way, every look twice."""
    sealed, root_seed = seal(deal, _SEED), case.settings.root_seed
    watcher = None if looks is None else Watcher(looks, root_seed=root_seed)
    scorer = None if looks is None else ProbeScorer(looks, sealed.truth, _SEED)
    kept: list[_Kept] = []
    spent = [0.0]
    for side in (watcher, scorer):
        if side is not None:
            side.probes = [(asked, _recording(probe, kept, spent)) for asked, probe in side.probes]
    with tempfile.TemporaryDirectory() as folder:
        results = list(
            run_cell(make(), sealed.episodes, case.settings, scratch=Path(folder), watcher=watcher)
        )
    for result in results if scorer is not None else []:
        scorer.add(result)  # type: ignore[union-attr]
    answers = [answer for result in results for answer in result.answers]
    return _Measured(digest(answers), [one for result in results for one in result.shown], kept, spent[0])


def _recording(probe: Probe, kept: list[_Kept], spent: list[float]) -> Probe:
    """Return the probe, which measures every look twice and keeps what it was given and gave."""
    recording, measure = copy.copy(probe), probe.measure

    def twice(look: Look, rng: np.random.Generator) -> Mapping[str, float]:
        before, other = copy.deepcopy(rng), copy.deepcopy(rng)
        started = time.process_time()
        first = measure(look, rng)
        spent[0] += time.process_time() - started
        kept.append(_Kept(look, dict(first), dict(measure(look, other)), before))
        return first

    recording.measure = twice  # type: ignore[method-assign]
    return recording


def _turned(look: Look) -> Look:
    order = np.random.default_rng(_SEED).permutation(len(look.labels))
    return _rows(look, order)


def _rows(look: Look, rows: Any) -> Look:
    def part(values: AnyArray | None) -> Any:
        return None if values is None else values[rows]

    return replace(
        look,
        features=part(look.features),
        logits=part(look.logits),
        labels=look.labels[rows],
        given=look.given[rows],
        inputs=part(look.inputs),
    )


def _poor(look: Look) -> dict[str, Look]:
    """Return looks at which little can be measured."""
    one = np.zeros(len(look.labels), dtype=np.int64)
    poor = {
        "one item": _rows(look, slice(0, 1)),
        "one class": replace(look, labels=one, given=one),
        "items without labels": replace(look, labels=one + HIDDEN, given=one + HIDDEN),
    }
    if look.features is not None:
        poor["features that are all alike"] = replace(look, features=np.ones_like(look.features))
        poor["features that are no numbers"] = replace(look, features=np.full_like(look.features, np.nan))
    return poor


def _close(first: Mapping[str, float], second: Mapping[str, float]) -> bool:
    return first.keys() == second.keys() and all(
        np.isclose(first[name], second[name], rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
        for name in first
    )


def _same_values(first: list[Mapping[str, Any]], second: list[Mapping[str, Any]]) -> bool:
    def same(a: Any, b: Any) -> bool:
        if isinstance(a, np.ndarray):
            return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.tobytes() == b.tobytes()
        return bool(repr(a) == repr(b))

    return len(first) == len(second) and all(
        same(one[name], other[name]) for one, other in zip(first, second, strict=True) for name in one
    )


__all__ = ["check_probe"]
