"""Searching a space of settings through Ray Tune, on a criterion that no test label reaches.

What is searched on is declared by the scenario (`Scenario.model_selection`): a scenario of its own that deals
training items alone. A trial is one setting, learned under run seeds from 1000 on, which no board reports.
Three methods say which settings are tried and for how long: `random` draws them and learns all to the end;
`asha` draws the same ones and stops those that are behind (asynchronous successive halving, Li et al. 2020);
`optuna` proposes them by what came of earlier ones (tree-structured Parzen estimators, Bergstra et al. 2011).
Where the strategy's default lies in the space, it is the first to be tried.

A search has a folder of its own, named by what was asked. What trial n draws follows from n, and for `optuna`
from the trials before it, so a search that is killed or enlarged continues as if it had never ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from harness.contracts import Metric
from harness.errors import UserError, unknown
from harness.protocol import fingerprint
from harness.protocol.cells import Contender, Protocol, contenders, protocols
from harness.studies.search.trial_worker import Looks
from harness.studies.space import Space

Method = Literal["random", "asha", "optuna"]
METHODS: tuple[Method, ...] = get_args(Method)

FIRST_SEED = 1000
"""The first run seed of trials: those of results lie below."""

SEEDS = 2
"""Under how many seeds a setting is tried."""

_LOOKS = 10
"""How often the only stage of a scenario is looked into, where trials may be stopped early."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched. Made by `wanted`. scenario: what results will be reported on.  choosing: what
    settings are chosen on.
    """

    space: Space
    contender: Contender
    scenario: Protocol
    choosing: Protocol
    criterion: Metric
    method: Method
    seeds: tuple[int, ...]

    @cached_property
    def key(self) -> str:
        """Content address of the question; how many trials are asked for is no part of it."""
        return fingerprint.of_value(
            {
                "space": str(self.space),
                "code": self.contender.code,
                "choosing": self.choosing.hash,
                "criterion": self.criterion.name,
                "method": self.method,
                "seeds": list(self.seeds),
                "libraries": fingerprint.libraries(),
            }
        )

    @property
    def looks(self) -> Looks:
        """When figures are taken: where nothing is stopped early, once a seed."""
        budget, stages = self.choosing.scenario.budget().for_stage(0), len(self.choosing.shapes)
        if self.method != "asha":
            return Looks()
        if stages > 1:
            return Looks(per_seed=stages, every_stage=True)
        every = max(1, (budget.gradient_steps or budget.epochs) // _LOOKS)
        by_steps = bool(budget.gradient_steps)
        return Looks(
            per_seed=-(-(budget.gradient_steps or budget.epochs) // every),
            epochs=0 if by_steps else every,
            steps=every if by_steps else 0,
        )


def wanted(
    space: Space, scenario: str, *, method: str, trials: int, criterion: str = "", n_seeds: int = SEEDS
) -> Search:
    """Return the search that is asked for.

    Args:
        space: of a strategy's parameters.
        scenario: one selection, which results will be reported on.
        method: one of `METHODS`.
        trials: how many settings may be asked for.
        criterion: a metric of the scenario chosen on; its first by default.
        n_seeds: under how many seeds a setting is tried.

    Raises:
        UserError: nothing to search; a scenario that declares nothing to choose on; a criterion that would
        touch test labels.
    """
    if method not in METHODS:
        raise unknown("search method", method, METHODS, ", ".join(METHODS))
    if space.kind != "strategy":
        raise UserError(
            f"a search chooses settings of a strategy, and {space.name} is a scenario: run its settings as a grid"
        )
    if not space.dimensions:
        raise UserError(
            f"{space} has nothing to search: give a parameter a list or a range, as in {space.name}[param=log:1e-3..1]"
        )
    if space.size is not None and trials > space.size:
        raise UserError(f"{space} has {space.size} settings: ask for at most so many trials")
    found = protocols([scenario])
    if len(found) != 1:
        raise UserError(
            f"{scenario} stands for {len(found)} scenarios, and settings are chosen for each by itself: name one"
        )
    return Search(
        space=space,
        contender=contenders([str(space.default)])[0],
        scenario=found[0],
        choosing=_choosing(found[0]),
        criterion=_criterion(found[0], criterion),
        method=method,
        seeds=tuple(range(FIRST_SEED, FIRST_SEED + n_seeds)),
    )


def _choosing(scenario: Protocol) -> Protocol:
    text = scenario.scenario.model_selection()
    if not text:
        raise UserError(
            f"{scenario.label} declares nothing to choose settings on but its test, and no setting is chosen by that"
        )
    return protocols([text])[0]


def _criterion(scenario: Protocol, name: str) -> Metric:
    choosing = _choosing(scenario)
    metrics = {metric.name: metric for metric in choosing.scenario.metrics}
    if not name:
        return choosing.scenario.metrics[0]
    if name not in metrics and name in [metric.name for metric in scenario.scenario.metrics]:
        raise UserError(
            f"{name} is counted on test items of {scenario.label}, and no setting is chosen by those: "
            f"{', '.join(metrics)}"
        )
    if name not in metrics:
        raise unknown("criterion", name, metrics, ", ".join(metrics))
    return metrics[name]


__all__ = ["FIRST_SEED", "METHODS", "SEEDS", "Method", "Search", "wanted"]
