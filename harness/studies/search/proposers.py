"""Who proposes the settings of a search to Ray Tune, and who stops trials that are behind.

`listed` goes through settings drawn beforehand, `parzen` is Optuna's tree-structured Parzen estimator, `asha`
Tune's asynchronous successive halving. Each is told what earlier calls of the same search found, so that it
goes on where they ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal

from harness import seeds
from harness.plugins import find
from harness.selection import resolved
from harness.studies.search.trials import Trial
from harness.studies.space import Choice, Range, Space

Mode = Literal["max", "min"]
Setting = Mapping[str, Any]
"""Values by dimension."""

Ask = Callable[[Setting], dict[str, Any]]
"""Takes what was drawn and returns what the next trial is told."""

REDUCTION = 3
"""Of the trials that reach a rung, this part goes on to the next, which lies as many times further."""

_RANDOM_TRIALS = 8
"""So many trials are drawn at random before the estimator has something to go by."""

_TRIES_PER_SETTING = 1000


def default_of(space: Space) -> Setting | None:
    """Return the strategy's own default, None where it lies outside the space."""
    plugin = find(space.kind, space.name)
    params = resolved(plugin, space.default)
    values = {
        dimension.name: params[dimension.name] for dimension in space.dimensions if dimension.name in params
    }
    return (
        values
        if len(values) == len(space.dimensions)
        and all(_contains(one, values[one.name]) for one in space.dimensions)
        else None
    )


def drawn(space: Space, n: int) -> list[Setting]:
    """Return up to n settings that differ: the default, where it lies in the space, and others drawn one
    after another.

    More of them begin with those that fewer were.
    """
    rng = seeds.stream("search", seed=0)
    default = default_of(space)
    found: dict[str, Setting] = {} if default is None else {repr(default): default}
    for _ in range(_TRIES_PER_SETTING * n):
        if len(found) == n:
            break
        values = {dimension.name: dimension.draw(rng) for dimension in space.dimensions}
        found.setdefault(repr(values), values)
    return list(found.values())


def listed(settings: Sequence[Setting], ask: Ask) -> Any:
    """Return a Tune searcher that proposes `settings` in order."""
    from ray.tune.search import Searcher

    left = iter(settings)

    class Listed(Searcher):
        def suggest(self, trial_id: str) -> Any:
            values = next(left, None)
            return self.FINISHED if values is None else ask(values)

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            pass

        def save(self, checkpoint_path: str) -> None:
            """What has to be kept is in the file of trials."""

    return Listed(metric="figure", mode="max")


def parzen(space: Space, mode: Mode, earlier: Sequence[Trial], ask: Ask) -> Any:
    """Return Tune's Optuna searcher, told of `earlier` trials; without any, it begins with the default where
    that lies in the space.

    A trial that came to no figure counts as worse than all that did.
    """
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    class Parzen(OptunaSearch):
        def suggest(self, trial_id: str) -> Any:
            return ask(super().suggest(trial_id) or {})

        def on_trial_result(self, trial_id: str, result: Any) -> None:
            pass

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            super().on_trial_complete(trial_id, result=None if error else result)

        def save(self, checkpoint_path: str) -> None:
            """What has to be kept is in the file of trials."""

    first = None if earlier else default_of(space)
    distributions = {dimension.name: _distribution(dimension) for dimension in space.dimensions}
    searcher: Any = Parzen(
        distributions,
        metric="figure",
        mode=mode,
        sampler=_sampler(),
        points_to_evaluate=[dict(first)] if first else [],
    )
    for trial in earlier:
        done = trial.status == "done"
        searcher.add_evaluated_point(dict(trial.drawn), trial.figure if done else None, pruned=not done)
    return searcher


def asha(mode: Mode, whole: int, earlier: Sequence[Trial]) -> Any:
    """Return Tune's ASHA over looks, of which a whole trial has `whole`, with what `earlier` trials recorded
    at its rungs.
    """
    from ray.tune.schedulers import ASHAScheduler

    scheduler: Any = ASHAScheduler(
        time_attr="looks", metric="figure", mode=mode, max_t=whole, grace_period=1, reduction_factor=REDUCTION
    )
    for trial in earlier:
        known = SimpleNamespace(trial_id=f"earlier-{trial.index}")
        scheduler.on_trial_add(None, known)
        for look, figure in trial.looks:
            scheduler.on_trial_result(None, known, {"looks": look, "figure": figure})
    return scheduler


def _contains(dimension: Choice | Range, value: Any) -> bool:
    return (
        value in dimension.values
        if isinstance(dimension, Choice)
        else bool(dimension.low <= value <= dimension.high)
    )


def _distribution(dimension: Choice | Range) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _sampler() -> Any:
    """Return Optuna's estimator with a stream of its own for every trial, so that what it proposes depends on
    the trials told alone.
    """
    from optuna.samplers import BaseSampler, TPESampler

    def of(trial: Any, dimension: str = "") -> TPESampler:
        seed = seeds.derive("search", seed=0, trial=trial.number, dimension=dimension) % 2**32
        return TPESampler(seed=seed, n_startup_trials=_RANDOM_TRIALS)

    class Streams(BaseSampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
            return of(trial).infer_relative_search_space(study, trial)

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
            return of(trial).sample_relative(study, trial, search_space)

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return of(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

    return Streams()


__all__ = ["REDUCTION", "Ask", "Mode", "Setting", "asha", "default_of", "drawn", "listed", "parzen"]
