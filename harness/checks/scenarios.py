"""What every scenario must hold to before a number on it is trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from harness.cell.sealing import Episode, seal, with_permuted_truth
from harness.checks.finding import Finding, found
from harness.contracts import HIDDEN, Scenario, StoredPrediction
from harness.protocol import fingerprint


def check_scenario(scenario: Scenario) -> list[Finding]:
    """Hold a scenario against every claim under two seeds."""
    return [
        found(claim, partial(test, scenario), of=type(scenario), method="deal")
        for claim, test in _SCENARIO_CLAIMS.items()
    ]


def _deals_the_same(scenario: Scenario) -> str:
    same = fingerprint.of_deal(scenario.deal(0)) == fingerprint.of_deal(scenario.deal(0))
    return "" if same else "two deals under one seed differ"


def _seeds_matter(scenario: Scenario) -> str:
    differ = fingerprint.of_deal(scenario.deal(0)) != fingerprint.of_deal(scenario.deal(1))
    return "" if differ else "seeds 0 and 1 deal the same"


def _keeps_test_apart(scenario: Scenario) -> str:
    """An item whose label is handed over is never asked for."""
    deal = scenario.deal(0)
    labelled = [
        np.append(stage.rows[stage.observed_labels != HIDDEN], stage.validation) for stage in deal.stages
    ]
    overlap = np.intersect1d(np.concatenate(labelled), np.concatenate([stage.query for stage in deal.stages]))
    return f"{len(overlap)} labelled items are in a query" if len(overlap) else ""


def _names_classes_in_order(scenario: Scenario) -> str:
    named = 0
    for index, stage in enumerate(scenario.deal(0).stages):
        if stage.named_classes < named:
            return f"stage {index} names {stage.named_classes} classes after {named}"
        named = stage.named_classes
        if len(stage.observed_labels) and stage.observed_labels.max() >= named:
            return f"stage {index} hands over label {stage.observed_labels.max()} with {named} classes named"
    return ""


def _public_owns_memory(scenario: Scenario) -> str:
    """No array leads back to a larger one that holds other items."""
    for name, array in _public_arrays(seal(scenario.deal(0), 0).episodes):
        if array.base is not None:
            return f"{name} is a view into a larger array"
    return ""


def _public_part_is_blind(scenario: Scenario) -> str:
    deal = scenario.deal(0)
    worlds = [seal(deal, 0), seal(with_permuted_truth(deal, 0), 0)]
    first, second = (fingerprint.of_arrays(dict(_public_arrays(world.episodes))) for world in worlds)
    return "" if first == second else "the public part changes when hidden labels are permuted"


def _scores_the_truth(scenario: Scenario) -> str:
    """Perfect answers give a finite figure for every declared metric (or one defined as not applicable)."""
    sealed = seal(scenario.deal(0), 0)
    given = []
    for index, (_, query) in enumerate(sealed.episodes):
        ids = np.sort(query.ids)
        given.append(
            StoredPrediction(
                stage=index, step=None, ids=ids, arrays=scenario.perfect(sealed.truth, ids).arrays()
            )
        )
    final = scenario.score(sealed.truth, given).final
    missing = [metric.name for metric in scenario.metrics if metric.name not in final]
    if missing:
        return f"no figure for {', '.join(missing)}"
    return (
        ""
        if np.isfinite(final[scenario.metrics[0].name])
        else f"{scenario.metrics[0].name} is {final[scenario.metrics[0].name]}"
    )


_SCENARIO_CLAIMS: dict[str, Callable[[Scenario], str]] = {
    "same seed, same deal": _deals_the_same,
    "another seed, another deal": _seeds_matter,
    "labelled items are never asked": _keeps_test_apart,
    "classes are named in order": _names_classes_in_order,
    "public arrays own their memory": _public_owns_memory,
    "permuted hidden labels change nothing public": _public_part_is_blind,
    "every declared metric is scored": _scores_the_truth,
}


def _public_arrays(episodes: Sequence[Episode]) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    for index, (stage, query) in enumerate(episodes):
        held = {
            "stage.ids": stage.ids,
            "stage.labels": stage.labels,
            "stage.inputs": stage.inputs,
            "query.ids": query.ids,
            "query.inputs": query.inputs,
            "query.tasks": query.tasks,
        }
        if (apart := stage.validation) is not None:
            held |= {
                "validation.ids": apart.ids,
                "validation.inputs": apart.inputs,
                "validation.labels": apart.labels,
            }
        for name, value in held.items():
            if isinstance(value, np.ndarray):
                yield f"{index}.{name}", value


__all__ = ["check_scenario"]
