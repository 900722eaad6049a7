"""What a component must hold to beyond what a learner with it must: nothing where it is neutral, numbers in half
precision, company.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from harness.checks.conformance import Make, case_of
from harness.checks.finding import Finding, found
from harness.contracts import Precision, Scenario, StoredPrediction, Strategy
from harness.errors import Diverged, Unsuitable, UserError
from harness.plugins import Plugin, find, registered

Learner = Callable[[str], Strategy]
"""Gives a fresh learner that takes the components a text names."""

_ROUNDS = 3
_TOLERANCE = 1e-3  # absolute and relative; label losses are kept in half precision
_MAY_DIFFER = 0.02  # share of rows whose class a rounding tips


def check_component(text: str, plugin: Plugin, learner: Learner, scenario: Scenario) -> list[Finding]:
    """Hold a component against the claims that a learner with it is not held against anyway.

    Args:
        text: the component with its parameters.
        plugin: the component.
        learner: a small learner that offers every hook.
        scenario: what to deal from.
    """

    @cache
    def answers(components: str, precision: Precision = "float32") -> list[StoredPrediction]:
        case = case_of(partial(learner, components), scenario)
        return replace(case, settings=replace(case.settings, precision=precision)).alone

    def is_neutral() -> str:
        neutral = getattr(plugin.cls, "neutral", None)
        if neutral is None:
            return "note: names no neutral parameters"
        said = ",".join(f"{name}={str(value).lower()}" for name, value in neutral.items())
        return _apart(answers(""), answers(f"{plugin.name}[{said}]"))

    def holds_in_half_precision() -> str:
        answers(text, "bfloat16")
        return ""

    def has_company() -> str:
        refused = []
        for other in registered("component"):
            if other == plugin.name:
                continue
            try:
                answers(f"{text}+{other}")
            except (Diverged, Unsuitable, UserError) as error:
                refused.append(f"{other} ({error})")
        return f"note: not beside {', '.join(refused)}" if refused else ""

    def costs() -> str:
        took = [_seconds(partial(learner, components), scenario) for components in ("", text)]
        return f"note: {took[1] / took[0]:.2f} times the processor time of the learner alone, on a small cell"

    claims: dict[str, Callable[[], str]] = {
        "with neutral parameters the learner answers as without it": is_neutral,
        "its numbers stay finite in bfloat16": holds_in_half_precision,
        "beside any other component it runs, diverges, or is refused in one sentence": has_company,
        "its cost is known": costs,
    }
    return [found(claim, test) for claim, test in claims.items()]


def _seconds(make: Make, scenario: Scenario) -> float:
    """Return the least processor time of some cells."""
    case, best = case_of(make, scenario), float("inf")
    for _ in range(_ROUNDS):
        start = time.process_time()
        _ = replace(case).alone
        best = min(best, time.process_time() - start)
    return best


def _apart(first: list[StoredPrediction], second: list[StoredPrediction]) -> str:
    """Return where two cells answer differently by more than rounding explains."""
    for one, other in zip(first, second, strict=True):
        for name, array in one.arrays.items():
            same: Any = (
                np.isclose(array, other.arrays[name], rtol=_TOLERANCE, atol=_TOLERANCE)
                if array.dtype.kind == "f"
                else array == other.arrays[name]
            )
            if (share := 1 - float(np.mean(same))) > _MAY_DIFFER:
                return f"{share:.0%} of {name} after stage {one.stage} differ"
    return ""


def with_components(name: str) -> Learner:
    """Return what makes the strategy `name` with components."""
    cls: Any = find("strategy", name).cls
    return lambda text: cls(components=text)


__all__ = ["Learner", "check_component", "with_components"]
