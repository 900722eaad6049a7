"""What a sweep asks, as plain data: settings, dimensions, scenarios, seeds. With the records of its cells it
is all that a report needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from harness.contracts import Metric
from harness.errors import UserError
from harness.statistics import Better


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Dimension(_Plain):
    """A parameter that varies. `key` is its name, with "scenario." before that of a scenario's.

    values: what was listed; empty for a range from `low` to `high`.  default: the value where nothing is
    said.
    """

    key: str
    values: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False
    default: Any = None


class Setting(_Plain):
    """A strategy with its parameters. values: by key of the dimension.  is_swept: False for the default added
    beside the sweep.
    """

    label: str
    values: dict[str, Any]
    is_swept: bool = True
    is_default: bool = False


class Figure(_Plain):
    """A metric of a scenario that has a mean over seeds."""

    name: str
    better: Better = "higher"


class Dealt(_Plain):
    """A scenario with its parameters: a protocol. lower, upper: labels of the bounds, empty where they are
    not run.
    """

    label: str
    metrics: tuple[Figure, ...]
    lower: str = ""
    upper: str = ""


class Place(_Plain):
    """A scenario by its label, with the values it has in the dimensions of a family."""

    label: str
    values: dict[str, Any]


class Family(_Plain):
    """What was said by one `--scenario`: its dimensions, and the scenarios that differ in them."""

    text: str
    dimensions: tuple[Dimension, ...]
    places: tuple[Place, ...]


class Block(_Plain):
    """Scenarios on which the same strategies run: a suite. Records come block by block, each in the order of
    `protocol.cells`.
    """

    scenarios: tuple[str, ...]
    strategies: tuple[str, ...]


class Definition(_Plain):
    """A sweep. drawn: how many settings were drawn at random; None for a grid. metrics: those asked for, the
    leading one first.
    """

    space: str
    dimensions: tuple[Dimension, ...]
    settings: tuple[Setting, ...]
    families: tuple[Family, ...]
    scenarios: tuple[Dealt, ...]
    blocks: tuple[Block, ...]
    seeds: int
    drawn: int | None = None
    sample_seed: int = 0
    metrics: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """One line that names the sweep."""
        how = "grid" if self.drawn is None else f"{self.drawn} random settings"
        return f"{how} of {self.space}"

    def settings_on(self, scenario: str) -> list[Setting]:
        """Return the settings that run on a scenario, in order."""
        there = {label for block in self.blocks if scenario in block.scenarios for label in block.strategies}
        return [setting for setting in self.settings if setting.label in there]

    def scenario(self, label: str) -> Dealt:
        """Return the scenario with this label."""
        return next(one for one in self.scenarios if one.label == label)

    def is_joint(self, family: Family) -> bool:
        """Return whether strategy and scenario were drawn together, so that a scenario does not have all
        settings.
        """
        return self.drawn is not None and bool(self.dimensions) and bool(family.dimensions)


def figures_of(metrics: Sequence[Metric], named: Sequence[str], scenario: str) -> tuple[Figure, ...]:
    """Return the metrics that have a mean, those that are `named` where some are, the leading one first.

    Raises:
        UserError: no such metric, or a time that may not be reached.
    """
    from harness.results.comparison import metric_of

    chosen = [metric_of(metrics, name, scenario) for name in named] or [
        metric for metric in metrics if not metric.censored
    ]
    if not chosen:
        raise UserError(f"{scenario} has no metric with a mean over seeds")
    return tuple(Figure(name=metric.name, better=metric.better) for metric in chosen)


__all__ = [
    "Better",
    "Block",
    "Dealt",
    "Definition",
    "Dimension",
    "Family",
    "Figure",
    "Place",
    "Setting",
    "figures_of",
]
