"""An ablation as plain data, and its report from that and the records: what the store needs to draw it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.protocol.contrasts import Ablation, Contrast
from harness.studies.ablation.effects import Report, report
from harness.studies.ablation.measured import arranged

if TYPE_CHECKING:
    from harness.store.record import Record


def definition_of(
    ablation: Ablation, scenarios: Sequence[str], seeds: int, metrics: Sequence[str]
) -> dict[str, Any]:
    """Return an ablation on scenarios (labels) under seeds 0 .. seeds - 1, judged by metrics, JSON-ready."""
    return {
        "ablation": asdict(ablation),
        "scenarios": list(scenarios),
        "seeds": seeds,
        "metrics": list(metrics),
    }


def report_of(definition: Mapping[str, Any], records: Sequence[Record]) -> Report:
    """Return the report of what `definition_of` gave; records in the order of `protocol.cells`.

    Raises:
        UserError: a scenario that is no longer installed, or a metric that it does not have.
    """
    from harness.protocol.cells import protocols

    content = dict(definition["ablation"])
    contrasts = tuple(
        Contrast(**{**one, "plus": tuple(one["plus"]), "minus": tuple(one["minus"])})
        for one in content.pop("contrasts")
    )
    ablation = Ablation(**{**content, "arms": tuple(content["arms"])}, contrasts=contrasts)
    scenarios = {one.label: one.scenario.metrics for one in protocols(definition["scenarios"])}
    measured = arranged(records, scenarios=scenarios, arms=ablation.arms, seeds=definition["seeds"])
    return report(ablation, measured, metrics=definition["metrics"])


__all__ = ["definition_of", "report_of"]
