"""What every strategy must hold to before a number of it is trusted. `owb check` runs it; so do our own tests.

`check_strategy` runs strategies here in this very process, next to the sealed truth, so that one that searches
frames or the garbage collector for labels is caught by the permutation probe as well. `judge` is for code of
strangers: it looks at nothing but answers, whoever ran the cells, wherever that was.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness import seeds
from harness.cell.run import CellSettings, Member, learner_seed, run_cell, run_together, settings_of
from harness.cell.sealing import Episode, Sealed, fully_labelled, seal, with_permuted_truth
from harness.checks.finding import Finding, found
from harness.checks.fresh_seeds import known_seed_leads
from harness.checks.surroundings import Surroundings, changed_globals, left_behind, surroundings
from harness.contracts import HIDDEN, AnyArray, Deal, IntArray, Scenario, StoredPrediction, Strategy
from harness.parameters import model_of
from harness.store import predictions

_SEED = 0
_TWO_SEEDS = (0, 1)
_ITEMS = 96  # per stage and per query: enough to learn something, few enough to take seconds
# share of rows, of cells learned together and alone: float sums in another order tip a close decision
_MAY_DIFFER = 0.02
_TOLERANCE = 1e-2  # absolute and relative, of figures in all other rows; some are kept in half precision


class Cells(Protocol):
    """Runs cells of one strategy, each with a fresh instance.

    Raises:
        Unsuitable: the strategy cannot take part.
        Exception: whatever keeps a cell from its answers.
    """

    def answers(self, episodes: Sequence[Episode], settings: CellSettings) -> list[StoredPrediction]:
        """Return what a cell answers to these episodes."""

    def continued(
        self, episodes: Sequence[Episode], settings: CellSettings
    ) -> tuple[list[StoredPrediction], str]:
        """Return what a cell answers that is killed after its first stage and begun again; and what there is
        to say of how it went on, as a claim's test does.
        """


Make = Callable[[], Strategy]


@dataclass(frozen=True)
class _Here:
    """Runs cells in this process. make: gives a fresh strategy."""

    make: Make

    def answers(self, episodes: Sequence[Episode], settings: CellSettings) -> list[StoredPrediction]:
        return _answers(self.make, episodes, settings)

    def continued(
        self, episodes: Sequence[Episode], settings: CellSettings
    ) -> tuple[list[StoredPrediction], str]:
        with tempfile.TemporaryDirectory() as folder:
            keep = Path(folder)
            first = self.make()
            next(run_cell(first, episodes, settings, scratch=keep, keep=keep))
            results = list(run_cell(self.make(), episodes, settings, scratch=keep, keep=keep))
        note = ""
        if not first.resumable:
            note = "note: declared as starting again at the first stage"
        elif len(episodes) > 1 and not results[0].borrowed_s:
            note = "its state could not be loaded into a fresh one, so that it began again at the first stage"
        return [answer for result in results for answer in result.answers], note


@dataclass(frozen=True, kw_only=True)
class _Case:
    """What claims are put to. deal: gives the part of the scenario anew."""

    cells: Cells
    deal: Callable[[], Deal]
    settings: CellSettings

    @cached_property
    def alone(self) -> list[StoredPrediction]:
        """What an ordinary cell answers; most claims compare another cell with it."""
        return self.answers(seal(self.deal(), _SEED).episodes)

    def answers(self, episodes: Sequence[Episode]) -> list[StoredPrediction]:
        """Return what a fresh cell answers to these episodes."""
        return self.cells.answers(episodes, self.settings)


def check_strategy(
    make: Make, scenario: Scenario, *, reveal: bool = False, before: Surroundings | None = None
) -> list[Finding]:
    """Hold a strategy against every claim on a small part of `scenario`.

    Args:
        make: gives a fresh instance at every call.
        scenario: what to deal from; with a single stage the claims about later ones are left out.
        reveal: hand over every training label, as the scenario's upper bound gets them.
        before: what was around before the first of several checks in this process; looked at here by default.
    """
    case, one = _case(_Here(make), scenario, reveal=reveal), make()
    looked = cache(surroundings)  # once, also where it refuses

    def around() -> Surroundings:
        was = before or looked()
        _ = case.alone
        return was

    first: dict[str, Callable[[_Case], str]] = {
        "leaves global state alone": lambda _: changed_globals(around()),
        "leaves nothing running and no library patched": lambda _: left_behind(around()),
    }  # while nothing has been changed yet
    last = {_NO_SEED: _knows_no_seed} | (
        {_TOGETHER: lambda case: _learns_together(make, case)} if one.together else {}
    )
    return _held(first | _claims(scenario) | last, case, type(one))


def judge(cells: Cells, scenario: Scenario, *, reveal: bool = False) -> list[Finding]:
    """Hold a strategy that runs elsewhere against the claims that its answers alone decide.

    Args:
        cells: runs cells of it.
        scenario, reveal: as of `check_strategy`.
    """
    return _held(_claims(scenario), _case(cells, scenario, reveal=reveal))


def case_of(make: Make, scenario: Scenario) -> _Case:
    """Return the small part of `scenario` for a strategy that runs in this process."""
    return _case(_Here(make), scenario, reveal=False)


def _case(cells: Cells, scenario: Scenario, *, reveal: bool) -> _Case:
    def deal() -> Deal:
        small = _shrunk(scenario.deal(_SEED))
        return fully_labelled(small) if reveal else small

    return _Case(cells=cells, deal=deal, settings=_settings(scenario))


def _claims(scenario: Scenario) -> dict[str, Callable[[_Case], str]]:
    if len(scenario.deal(_SEED).stages) > 1:
        return _STRATEGY_CLAIMS
    return {claim: test for claim, test in _STRATEGY_CLAIMS.items() if test not in _OF_LATER_STAGES}


def _held(claims: Mapping[str, Callable[[_Case], str]], case: _Case, of: type | None = None) -> list[Finding]:
    """Put the case to every claim, the first of which looks at an ordinary cell: one that refuses that is put
    to no further test.
    """
    findings: list[Finding] = []
    for claim, test in claims.items():
        findings.append(found(claim, partial(test, case), of=of, method=_ABOUT.get(test, "learn")))
        if findings[0].unsuitable:
            return [replace(findings[0], claim=claim) for claim in claims]
    return findings


def digest_of_last(make: Make, scenario: Scenario, seeds: Sequence[int], *, reveal: bool = False) -> str:
    """Run a cell of the small part of `scenario` under each of `seeds`, one after another; return the digest
    of what the last answers.

    A process that runs seed 1 and then seed 0 answers as one that runs seed 0 alone, unless the strategy
    keeps something outside itself: on its class, in a module, in a library.

    Raises:
        Unsuitable: the strategy cannot take part.
    """
    last = ""
    for seed in seeds:
        small = _shrunk(scenario.deal(seed))
        episodes = seal(fully_labelled(small) if reveal else small, seed).episodes
        last = predictions.digest(
            _answers(make, episodes, replace(_settings(scenario), root_seed=learner_seed(seed)))
        )
    return last


# --- strategies ---------------------------------------------------------------------------------------------


def _answers_every_stage(case: _Case) -> str:
    given = [answer for answer in case.alone if answer.step is None]
    queries = [query for _, query in seal(case.deal(), _SEED).episodes]
    if [answer.stage for answer in given] != list(range(len(queries))):
        return f"{len(given)} answers for {len(queries)} stages"
    wrong = [
        answer.stage
        for answer, query in zip(given, queries, strict=True)
        if not np.array_equal(answer.ids, np.sort(query.ids))
    ]
    return f"answers other items than those asked after stage {wrong[0]}" if wrong else ""


def _is_deterministic(case: _Case) -> str:
    return _differs(case.alone, case.answers(seal(case.deal(), _SEED).episodes))


def _survives_one_class(case: _Case) -> str:
    whole = case.deal()
    second = whole.stages[1]
    visible = second.observed_labels[second.observed_labels != HIDDEN]
    only = (
        second.observed_labels == visible[0] if len(visible) else np.arange(len(second.observed_labels)) < 2
    )
    thin = replace(second, rows=second.rows[only], observed_labels=second.observed_labels[only])
    case.answers(seal(replace(whole, stages=[whole.stages[0], thin, *whole.stages[2:]]), _SEED).episodes)
    return ""


def _continues(case: _Case) -> str:
    answers, note = case.cells.continued(seal(case.deal(), _SEED).episodes, case.settings)
    return _differs(case.alone, answers) or note


def _ignores_hidden_labels(case: _Case) -> str:
    """One world at a time exists, so that whatever truth a cheat finds is that of the world it is in."""
    as_dealt = _answers_beside(seal(case.deal(), _SEED), case)
    permuted = _answers_beside(seal(with_permuted_truth(case.deal(), _SEED), _SEED), case)
    return _differs(as_dealt, permuted)


def _ignores_the_future(case: _Case) -> str:
    cut = case.answers(seal(case.deal(), _SEED).episodes[:1])
    return _differs([answer for answer in case.alone if answer.stage == 0], cut)


def _ignores_query_order(case: _Case) -> str:
    turned = [Episode(stage, _turned(query)) for stage, query in seal(case.deal(), _SEED).episodes]
    for a, b in zip(case.alone, case.answers(turned), strict=True):
        for name, array in a.arrays.items():
            if not _same(array, b.arrays[name]):
                return f"{name} after stage {a.stage} depends on the order of the query"
    return ""


def _knows_no_seed(case: _Case) -> str:
    deal = case.deal()

    def answers(seed: int) -> list[StoredPrediction]:
        if seed == _SEED:
            return case.alone
        settings = replace(case.settings, root_seed=learner_seed(seed))
        return case.cells.answers(seal(deal, seed).episodes, settings)

    return known_seed_leads(deal, _SEED, answers)


def _learns_together(make: Make, case: _Case) -> str:
    """Two cells of stage 0 (items in another order, other streams), with a probe at every step, at once and
    each alone.
    """
    invalid = [name for name in make().together if name not in model_of(type(make())).model_fields]
    if invalid:
        return f"`together` names {', '.join(invalid)}, which is no parameter"
    first = [seal(replace(case.deal(), stages=case.deal().stages[:1]), seed).episodes for seed in _TWO_SEEDS]
    probed = replace(case.settings.budget, probe_every=1)
    each = [replace(case.settings, root_seed=learner_seed(seed), budget=probed) for seed in _TWO_SEEDS]
    with tempfile.TemporaryDirectory() as folder:
        members = [
            Member(strategy=make(), episode=episodes[0], settings=own, scratch=Path(folder))
            for episodes, own in zip(first, each, strict=True)
        ]
        at_once = run_together(members)
    for seed, episodes, own, result in zip(_TWO_SEEDS, first, each, at_once, strict=True):
        if problem := _apart(_answers(make, episodes, own), result.answers):
            return f"the cell of seed {seed}: {problem}"
    return ""


def _apart(alone: Sequence[StoredPrediction], together: Sequence[StoredPrediction]) -> str:
    """Return where two cells answer differently by more than the order of float sums explains."""
    if [answer.step for answer in alone] != [answer.step for answer in together]:
        return f"{len(together)} answers together, {len(alone)} alone"
    for a, b in zip(alone, together, strict=True):
        when = "after the stage" if a.step is None else f"at step {a.step}"
        for name, array in a.arrays.items():
            other = b.arrays.get(name)
            if other is None or other.shape != array.shape:
                return f"{name} {when} has another shape together than alone"
            exact = array.dtype.kind != "f"
            same = (
                array == other
                if exact
                else np.isclose(array, other, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
            )
            if (share := 1 - float(np.mean(same))) > _MAY_DIFFER:
                return f"{share:.0%} of {name} {when} differ"
    return ""


def _same(first: AnyArray, second: AnyArray) -> bool:
    if first.dtype.kind != "f":
        return np.array_equal(first, second)
    return np.allclose(first, second, atol=1e-4, equal_nan=True)


_NO_SEED = "answers as well under seeds that nobody could know"
_TOGETHER = "two cells at once answer as each alone"
_STRATEGY_CLAIMS: dict[str, Callable[[_Case], str]] = {
    "answers every stage": _answers_every_stage,
    "same seed, same bytes": _is_deterministic,
    "survives a stage with one class": _survives_one_class,
    "a killed cell continues to the same bytes": _continues,
    "permuted hidden labels change no byte": _ignores_hidden_labels,
    "removed future stages change nothing earlier": _ignores_the_future,
    "shuffled query order changes nothing": _ignores_query_order,
}


_ABOUT: dict[Callable[[_Case], str], str] = {_answers_every_stage: "predict", _ignores_query_order: "predict"}
"""The method that a claim is about, where that is not `learn`."""
_OF_LATER_STAGES = (_survives_one_class, _ignores_the_future)


def _answers_beside(world: Sealed, case: _Case) -> list[StoredPrediction]:
    """Answer with the truth within reach of anything but the contract; `world` stays alive until the last
    answer.
    """
    given = case.answers(world.episodes)
    assert len(world.truth.labels)
    return given


def _answers(make: Make, episodes: Sequence[Episode], settings: CellSettings) -> list[StoredPrediction]:
    with tempfile.TemporaryDirectory() as folder:
        results = run_cell(make(), episodes, settings, scratch=Path(folder))
        return [answer for result in results for answer in result.answers]


def _differs(first: Sequence[StoredPrediction], second: Sequence[StoredPrediction]) -> str:
    if predictions.digest(first) == predictions.digest(second):
        return ""
    for a, b in zip(first, second, strict=False):
        if predictions.digest([a]) != predictions.digest([b]):
            return f"the answers differ after stage {a.stage}"
    return f"{len(first)} answers against {len(second)}"


def _turned(query: Any) -> Any:
    order: IntArray = seeds.stream("turned", seed=_SEED).permutation(len(query.ids)).astype(np.int64)
    tasks = None if query.tasks is None else query.tasks[order]
    return replace(query, ids=query.ids[order], inputs=query.inputs[order], tasks=tasks)


def _settings(scenario: Scenario) -> CellSettings:
    budget = scenario.budget()
    budget = replace(
        budget,
        epochs=min(2, budget.epochs),
        first_epochs=None if budget.first_epochs is None else min(2, budget.first_epochs),
        gradient_steps=min(2, budget.gradient_steps),
        batch_size=min(16, budget.batch_size),
        first_batch_size=None if budget.first_batch_size is None else min(16, budget.first_batch_size),
        probe_every=0,
    )
    return replace(settings_of(scenario, _SEED), budget=budget)


def _shrunk(deal: Deal) -> Deal:
    """Keep at most `_ITEMS` items of the first three stages and of every query."""
    stages = []
    for index, stage in enumerate(deal.stages[:3]):
        chosen = _some(len(stage.rows), index)
        query, watched = (rows[_some(len(rows), -1)] for rows in (stage.query, stage.monitored))
        held = _some(len(stage.validation), -2)
        stages.append(
            replace(
                stage,
                rows=stage.rows[chosen],
                observed_labels=stage.observed_labels[chosen],
                query=query,
                monitored=watched,
                validation=stage.validation[held],
                validation_labels=stage.validation_labels[held],
            )
        )
    return replace(deal, stages=stages)


def _some(size: int, address: int) -> IntArray:
    return np.sort(seeds.stream("check", seed=_SEED, at=address).permutation(size)[:_ITEMS]).astype(np.int64)


__all__ = ["Cells", "Make", "case_of", "check_strategy", "digest_of_last", "judge"]
