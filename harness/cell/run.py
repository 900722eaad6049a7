"""One cell: drive a strategy through the stages, keep what it answers and the state it is in.

Every stage starts from seeds of its own, addressed by the cell's root seed and the stage. So a cell that
continues from the state after stage k answers the same bytes as one that was never interrupted. Cells of one
stage can be learned together (`run_together`): each then answers what it would have answered alone, within
float tolerance.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from harness import checkpoint, seeds
from harness.cell.prediction_check import validate_prediction
from harness.cell.sealing import Episode
from harness.cell.sessions import session_here
from harness.cell.shared_stage import compute_once
from harness.checkpoint import CannotKeep, kept_state
from harness.contracts import (
    Precision,
    Prediction,
    Query,
    Rule,
    Scenario,
    Stage,
    StoredPrediction,
    Strategy,
    TrainingBudget,
    rules_of,
)
from harness.networks import addressed
from harness.parameters import renamed


@dataclass(frozen=True, slots=True, kw_only=True)
class CellSettings:
    """What the protocol and the machine fix for a cell. `root_seed` is derived: a data stream cannot be
    rebuilt from it.

    rules: of the fields of a prediction that the protocol asks for.
    needed, probed, kept: the fields that scoring needs, those kept of a probe, and those kept of an answer
    after a stage.
    session: the driver's run, within which costs compare; empty where nobody compares them.
    """

    root_seed: int
    budget: TrainingBudget
    rules: Mapping[str, Rule] = field(default_factory=lambda: rules_of(Prediction))
    needed: tuple[str, ...] = ("classes",)
    probed: tuple[str, ...] = Scenario.probed
    kept: tuple[str, ...] = Scenario.kept
    device: str = "cpu"
    precision: Precision = "float32"
    compile: bool = False
    session: str = ""


def learner_seed(seed: int) -> int:
    """Return the root seed that a strategy's streams hang from under the run's `seed`."""
    return seeds.derive("learner", seed=seed)


def settings_of(scenario: Scenario, seed: int) -> CellSettings:
    """Return what a cell of `scenario` runs under with the run's `seed`, on the CPU; files that its texts name
    are found from any folder.
    """
    budget = scenario.budget()
    return CellSettings(
        root_seed=learner_seed(seed),
        budget=replace(
            budget, backbone=addressed(budget.backbone), augmentations=addressed(budget.augmentations)
        ),
        rules=rules_of(scenario.prediction),
        needed=scenario.answers,
        probed=scenario.probed,
        kept=scenario.kept,
    )


class Watcher(Protocol):
    """Looks at a learner while it learns, for probes, and changes nothing of it (`harness.cell.looks`).

    shown: what the looks of the stage have given so far, plain values.
    """

    shown: list[dict[str, Any]]

    def begin(self, stage: Stage, query: Query, context: Any) -> None:
        """Take a stage that is about to be learned."""
        ...

    def is_due(self, unit: Literal["step", "epoch"], at: int) -> bool:
        """Say whether to look after so many steps or epochs."""
        ...

    def at_end(self) -> bool:
        """Say whether to look after the stage."""
        ...

    def look(self, strategy: Strategy) -> None:
        """Look now."""
        ...


Progress = Callable[[int, int, int, dict[str, float]], None]
"""Told (stage, step, total steps, figures)."""


@renamed(views="augmentations")
@dataclass(kw_only=True)
class CellContext:
    """The `Context` of one cell."""

    settings: CellSettings
    scratch: Path
    on_progress: Progress
    stage: int = 0
    _probe: Callable[[int], None] = lambda _: None
    _offer: Callable[[Literal["step", "epoch"], int], None] = lambda *_: None

    def __post_init__(self) -> None:
        self.device = self.settings.device
        self.precision = self.settings.precision
        self.compile = self.settings.compile
        self.backbone = self.settings.budget.backbone
        self.augmentations = self.settings.budget.augmentations
        self._take(self.settings.budget)

    def stream(self, name: str) -> np.random.Generator:
        """Return the named stream of the current stage."""
        return seeds.stream(name, seed=self.settings.root_seed, stage=self.stage)

    def progress(self, step: int, total: int, **values: float) -> None:
        """Pass on how far the stage is."""
        self.on_progress(self.stage, step, total, values)

    def probe(self, step: int) -> None:
        """Let the harness ask in mid-stage, where a probe is due; before the first step (0) it looks alone."""
        every = self.settings.budget.probe_every
        if every and step and step % every == 0:
            self._probe(step)
        self._offer("step", step)

    def epoch_ended(self, epoch: int) -> None:
        """Let the harness ask after an epoch, where a probe is due; after the last one the whole stage is
        answered anyway.
        """
        every, tail = self.settings.budget.probe_epochs, self.settings.budget.probe_tail
        if epoch < self.epochs and ((every and epoch % every == 0) or epoch > self.epochs - tail):
            self._probe(epoch)
        self._offer("epoch", epoch)

    def enter(
        self, stage: int, probe: Callable[[int], None], offer: Callable[[Literal["step", "epoch"], int], None]
    ) -> None:
        """Begin a stage; `probe` asks the strategy now and keeps the answer, `offer` lets a look be taken."""
        self.stage, self._probe, self._offer = stage, probe, offer
        self._take(self.settings.budget.for_stage(stage))

    def _take(self, budget: TrainingBudget) -> None:
        self.epochs, self.gradient_steps = budget.epochs, budget.gradient_steps
        self.batch_size = budget.batch_size


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """What one stage gave: the answers of its probes, then the answer after it; and the seconds that
    learning, probes and the answer took.

    borrowed_s: the part of these seconds that another cell spent, which the stage was shared with, or an
    earlier attempt at this one.
    together: how many cells were learned at once; `learn_s` is then an equal share.
    session: where the seconds were measured (`sessions.session_here`); empty where that is not known.
    shown: what was shown to probes, in plain values (`looks.Shown`).
    """

    stage: int
    answers: tuple[StoredPrediction, ...]
    learn_s: float
    predict_s: float
    probe_s: float = 0.0
    borrowed_s: float = 0.0
    together: int = 1
    session: str = ""
    shown: tuple[Mapping[str, Any], ...] = ()


def run_cell(
    strategy: Strategy,
    episodes: Iterable[Episode],
    settings: CellSettings,
    *,
    scratch: Path,
    keep: Path | None = None,
    shared: Sequence[Path | None] = (),
    on_progress: Progress = lambda *_: None,
    watcher: Watcher | None = None,
) -> Iterator[StageResult]:
    """Yield the result of every stage; with `keep`, continue from what an interrupted call left there.

    Args:
        strategy: a fresh instance.
        episodes: the public stages in order.
        settings: root seed, network, budget, device.
        scratch: an existing folder the strategy may write to.
        keep: an existing folder for state and answers between stages, or None to keep nothing.
        shared: for the first stages, where the state after each is kept for cells that share it, or None to
            learn it here.
        on_progress: told about every step.
        watcher: looks at the learner for probes.

    Raises:
        InvalidPrediction: a prediction of the wrong shape or kind.
        CannotKeep: with `keep` or `shared`, a state that a later stage could not be continued from.
        Diverged: training or a prediction left the finite numbers.
        Exception: whatever the strategy raises.
    """
    learner = _Learner(strategy, settings, scratch, on_progress, watcher)
    finished = _continue(learner, keep) if keep else []
    yield from finished
    refusal: CannotKeep | None = None
    for index, (stage, query) in enumerate(episodes):
        if index < len(finished):
            continue
        if refusal:  # of the state before this stage; after the last one nobody needs it
            raise refusal
        if settings.budget.apart and index:
            learner.begin(stage=index)
        result = learner.run(stage, query, shared[index] if index < len(shared) else None)
        if keep:
            refusal = _keep(learner, result, keep)
        yield result


class _Learner:
    """The strategy of a cell with its context; it can begin anew, since a state is only ever loaded into a
    fresh instance.
    """

    strategy: Strategy
    context: CellContext

    def __init__(
        self,
        strategy: Strategy,
        settings: CellSettings,
        scratch: Path,
        on_progress: Progress,
        watcher: Watcher | None = None,
    ) -> None:
        self.settings, self.scratch, self.on_progress = settings, scratch, on_progress
        self.watcher = watcher
        self.blank = copy.copy(strategy)
        self._start(strategy, 0)

    def begin(self, *, stage: int = 0) -> None:
        """Start a fresh instance, for which `stage` is the first."""
        self._start(copy.copy(self.blank), stage)

    def run(self, stage: Stage, query: Query, shared: Path | None) -> StageResult:
        """Learn a stage and answer it; with `shared`, adopt the state after it where another cell has kept
        one.
        """
        looks = _Looks(self.strategy, stage, query, self.context, self.watcher)
        seen = replace(stage, index=0) if self.settings.budget.apart else stage
        borrowed_s, session, seed = (0.0, session_here(self.settings.session), _seed_of(stage, self.settings))

        def learn() -> Mapping[str, Any]:
            self.strategy.learn(seen)
            return {} if shared is None else _kept_state(self.strategy)

        def adopt(state: Mapping[str, Any]) -> None:
            strategy, context = self.strategy, self.context
            if stage.index:
                self.begin()
                _Looks(self.strategy, stage, query, self.context, self.watcher)
            try:
                with _seeded(seed, self.settings):
                    self.strategy.load_state(state)
            except Exception:
                if stage.index:
                    self.strategy, self.context = strategy, context
                else:  # it was fresh, and is no longer
                    self.begin()
                    _Looks(self.strategy, stage, query, self.context, self.watcher)
                raise

        with _seeded(seed, self.settings):
            started = clock(self.settings)
            if shared is None:
                learn()
            else:
                borrowed_s, session = compute_once(shared, learn, adopt, session=session)
            learned = clock(self.settings)
            answer = _predict(self.strategy, query, self.settings, stage.index, None)
            ended = clock(self.settings)
        learn_s = learned - started - looks.seconds + borrowed_s
        looks.end()
        return StageResult(
            stage=stage.index,
            answers=(*looks.answers, answer),
            learn_s=learn_s,
            predict_s=ended - learned,
            probe_s=looks.seconds,
            borrowed_s=borrowed_s,
            session=session,
            shown=looks.shown,
        )

    def _start(self, strategy: Strategy, stage: int) -> None:
        self.strategy = strategy
        self.context = CellContext(
            settings=self.settings, scratch=self.scratch, on_progress=self.on_progress, stage=stage
        )
        address = {"stage": stage} if stage else {}
        with _seeded(seeds.derive("setup", seed=self.settings.root_seed, **address), self.settings):
            strategy.start(self.context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One cell of a pack: what `run_cell` is given, with its only stage."""

    strategy: Strategy
    episode: Episode
    settings: CellSettings
    scratch: Path
    keep: Path | None = None
    on_progress: Progress = lambda *_: None
    watcher: Watcher | None = None


def run_together(members: Sequence[Member]) -> list[StageResult]:
    """Learn the only stage of several cells at once; return their results in order, none of them kept before
    all are there.

    A member that has its stage behind it already is not learned again. Global generators are seeded as for
    the first one that learns.

    Raises: as `run_cell`, whichever member it was.
    """
    done: dict[int, StageResult] = {}
    learning: list[tuple[int, Member, _Learner]] = []
    for place, one in enumerate(members):
        learner = _Learner(one.strategy, one.settings, one.scratch, one.on_progress, one.watcher)
        finished = _continue(learner, one.keep) if one.keep else []
        if finished:
            done[place] = finished[0]
        else:
            learning.append((place, one, learner))
    results = _learned([(one.episode, learner) for _, one, learner in learning]) if learning else []
    for (place, one, learner), result in zip(learning, results, strict=True):
        if one.keep:
            _keep(learner, result, one.keep)
        done[place] = result
    return [done[place] for place in range(len(members))]


def _learned(learning: Sequence[tuple[Episode, _Learner]]) -> list[StageResult]:
    strategies, stages = (
        [learner.strategy for _, learner in learning],
        [episode.stage for episode, _ in learning],
    )
    looked = [
        _Looks(learner.strategy, *episode, learner.context, learner.watcher) for episode, learner in learning
    ]
    first = learning[0][1].settings
    started = clock(first)
    with _seeded(_seed_of(stages[0], first), first):
        if len(learning) == 1:
            strategies[0].learn(stages[0])
        else:
            type(strategies[0]).learn_together(strategies, stages)
    learn_s = (clock(first) - started - sum(looks.seconds for looks in looked)) / len(learning)
    results = []
    for ((stage, query), learner), looks in zip(learning, looked, strict=True):
        settings = learner.settings
        started = clock(settings)
        with _seeded(_seed_of(stage, settings), settings):
            answer = _predict(learner.strategy, query, settings, stage.index, None)
        predict_s = clock(settings) - started
        looks.end()
        results.append(
            StageResult(
                stage=stage.index,
                answers=(*looks.answers, answer),
                learn_s=learn_s,
                predict_s=predict_s,
                probe_s=looks.seconds,
                together=len(learning),
                session=session_here(settings.session),
                shown=looks.shown,
            )
        )
    return results


class _Looks:
    """What is asked and looked at in a stage, and the seconds that took."""

    def __init__(
        self, strategy: Strategy, stage: Stage, query: Query, context: CellContext, watcher: Watcher | None
    ) -> None:
        self.strategy, self.stage, self.query, self.context = strategy, stage, query, context
        self.settings, self.watcher = context.settings, watcher
        self.answers: list[StoredPrediction] = []
        self.seconds = 0.0
        context.enter(stage.index, self.ask, self.offer)
        if watcher is not None:
            watcher.begin(stage, query, context)

    @property
    def shown(self) -> tuple[Mapping[str, Any], ...]:
        """What was shown to probes."""
        return () if self.watcher is None else tuple(self.watcher.shown)

    def ask(self, step: int) -> None:
        """Keep what the strategy answers now."""
        with self._apart("probe", step):
            self.answers.append(_predict(self.strategy, self.query, self.settings, self.stage.index, step))

    def offer(self, unit: Literal["step", "epoch"], at: int) -> None:
        """Look at the strategy, where that is due."""
        if self.watcher is not None and self.watcher.is_due(unit, at):
            with self._apart("look", at):
                self.watcher.look(self.strategy)

    def end(self) -> None:
        """Look at the strategy after the stage."""
        if self.watcher is not None and self.watcher.at_end():
            with self._apart("look", -1):
                self.watcher.look(self.strategy)

    @contextmanager
    def _apart(self, name: str, step: int) -> Iterator[None]:
        """Do something under seeds of its own, in time of its own."""
        started = clock(self.settings)
        address = {"seed": self.settings.root_seed, "stage": self.stage.index, "step": step}
        with _seeded(seeds.derive(name, **address), self.settings):
            yield
        self.seconds += clock(self.settings) - started


def clock(settings: CellSettings) -> float:
    """Read the clock in seconds; on a GPU once it has done what it was told, which would else count for
    whoever waits for it next.
    """
    if settings.device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(settings.device)
    return time.perf_counter()


def _predict(
    strategy: Strategy, query: Query, settings: CellSettings, stage: int, step: int | None
) -> StoredPrediction:
    """Return what the strategy answers now, of it what the protocol keeps."""
    answer = validate_prediction(
        strategy.predict(query), query, rules=settings.rules, needed=settings.needed, stage=stage, step=step
    )
    fields = settings.kept if step is None else settings.probed
    return replace(answer, arrays={name: array for name, array in answer.arrays.items() if name in fields})


def _seed_of(stage: Stage, settings: CellSettings) -> int:
    return seeds.derive("stage", seed=settings.root_seed, stage=stage.index)


def _kept_state(strategy: Strategy) -> dict[str, Any]:
    """Return the strategy's state, fit for a file. A `load_state` of its own may make what it needs."""
    fits = strategy.made_in_setup if type(strategy).load_state is Strategy.load_state else None
    return kept_state(strategy.state(), fits=fits)


def _keep(learner: _Learner, result: StageResult, keep: Path) -> CannotKeep | None:
    """Keep the answers first and the state last: a state on disk means that every earlier answer is there
    too.

    Return why the state cannot be kept, where it cannot.
    """
    rows = [
        {"stage": a.stage, "step": a.step, "ids": a.ids, "arrays": dict(a.arrays)} for a in result.answers
    ]
    times = {
        "stage": result.stage,
        "learn_s": result.learn_s,
        "predict_s": result.predict_s,
        "probe_s": result.probe_s,
        "together": result.together,
        "session": result.session,
        **({"shown": list(result.shown)} if result.shown else {}),
    }
    checkpoint.save(keep / f"answers-{result.stage:03d}.pt", {"answers": rows, **times})
    if learner.strategy.resumable:
        try:
            state = {} if learner.settings.budget.apart else _kept_state(learner.strategy)
        except CannotKeep as refusal:
            return refusal
        checkpoint.save(keep / "state.pt", {"stages": result.stage + 1, "state": state})
    return None


def _continue(learner: _Learner, keep: Path) -> list[StageResult]:
    """Load the kept state into the strategy and return the results of the stages it has behind it, whose
    seconds are now borrowed.

    Where one of the files cannot be used, all of them are dropped, and the strategy has no stage behind it.
    """
    if not learner.strategy.resumable or not (keep / "state.pt").exists():
        return []
    try:
        kept = checkpoint.load(keep / "state.pt")
        results = [_kept_result(keep / f"answers-{stage:03d}.pt") for stage in range(kept["stages"])]
        if not learner.settings.budget.apart:
            learner.strategy.load_state(kept["state"])
    except Exception as error:
        checkpoint.drop(
            [keep / "state.pt", *keep.glob("answers-*.pt")],
            error,
            instead="the cell begins at its first stage",
        )
        learner.begin()
        return []
    return results


def _kept_result(path: Path) -> StageResult:
    content = checkpoint.load(path)
    answers = tuple(StoredPrediction(**row) for row in content.pop("answers"))
    content["shown"] = tuple(content.get("shown", ()))
    result = StageResult(answers=answers, **content)
    return replace(result, borrowed_s=result.learn_s + result.probe_s + result.predict_s)


@contextmanager
def _seeded(seed: int, settings: CellSettings) -> Iterator[None]:
    """Seed the global generators for code that uses them, and put them back afterwards; those of other
    devices only where one is used.
    """
    import torch

    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    (torch.default_generator if settings.device == "cpu" else torch).manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
