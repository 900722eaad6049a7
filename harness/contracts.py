"""The whole plugin contract: what a scenario deals, what a strategy holds, what it answers, and who knows the
truth.

A **scenario** deals items into stages. `harness.cell.sealing` splits the deal into a public part (`Stage`,
`Query`), which a strategy may hold, and a sealed part (`Truth`), which never enters a worker. A **strategy**
learns stages one after another and predicts queries. A **data set** loads real inputs and labels from an
installed package or from the user's disk.

Legend for arrays: N items of one stage or query, U items of the whole deal, C classes named so far.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from harness.checkpoint import parts_of, restore, state_of
from harness.errors import UserError
from harness.parameters import (
    former_classes,
    former_names,
    model_of,
    param,
    renamed,
    take_former_methods,
    validated,
    with_new_names,
)

if TYPE_CHECKING:
    from torch import Tensor

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]
AnyArray = NDArray[Any]

HIDDEN = -1
"""The label a strategy finds where it may not see one."""

TaskAccess = Literal["train", "test"]
"""When a strategy learns which stage an item belongs to: while training only, or also when it predicts
(task-incremental).
"""


Precision = Literal["float32", "bfloat16", "float16"]
"""The number format of the forward pass; weights stay float32."""


class Status(StrEnum):
    """How a cell stands: the one vocabulary of runner, record, board and command line."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CACHED = "cached"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out of memory"
    DIVERGED = "diverged"
    FAILED = "failed"
    SKIPPED = "skipped"


class Inputs(Protocol):
    """Inputs of N items: an array (N, ...) in memory, or a loader that fetches items by index. Never a path
    that names a class.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *item shape)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: IntArray) -> AnyArray:
        """Return the items at `index`, shape (len(index), *item shape)."""
        ...


@runtime_checkable
class Divisible(Inputs, Protocol):
    """Inputs that can be cut down to some of their items, with nothing of the others left behind."""

    def subset(self, rows: IntArray) -> Inputs:
        """Return the items at `rows`, in that order, in memory of their own."""
        ...


# --- what a strategy holds ----------------------------------------------------------------------------------


@renamed(told="noise_info")
@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a learner may see of one stage (an "experience" in Avalanche's words). Made by `sealing`, read by
    `Strategy.learn`.

    ids: int64 (N,), opaque and in shuffled order; an item keeps its id across stages, unless the scenario
    says otherwise.
    inputs: N images (C, H, W) as uint8 or float32 in [0, 1], or N feature vectors float32.
    labels: int64 (N,), classes numbered in order of arrival; `HIDDEN` where the learner may not see the
    label.
    named_classes: how many classes have been named up to and including this stage; labels lie in [0,
    named_classes).
    new_classes: how many classes arrive in this stage, or None where the protocol keeps the number unknown.
    validation: the validation split, where the protocol has one.
    noise_info: what the protocol gives away of the errors in `labels`.
    """

    index: int
    ids: IntArray
    inputs: Inputs
    labels: IntArray
    named_classes: int
    new_classes: int | None
    task_access: TaskAccess = "train"
    validation: Validation | None = None
    noise_info: NoiseInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Labelled items to choose an epoch or a setting by, never trained on. ids, labels: int64 (V,); inputs: V
    items.

    Whether these labels are true is the protocol's choice.
    """

    ids: IntArray
    inputs: Inputs
    labels: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseInfo:
    """What a learner knows of the label noise: its rate, and the transition matrix P(observed label = j | true
    class = i), float32 (C, C).
    """

    rate: float
    matrix: FloatArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Items to predict after a stage, in shuffled order. Kept apart from `Stage`, so that no learner trains
    on test inputs.

    ids: int64 (N,).  inputs: as in `Stage`.  tasks: int64 (N,) stage of each item under task access "test",
    otherwise None.
    """

    ids: IntArray
    inputs: Inputs
    tasks: IntArray | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What a field of a prediction has to be, said where the field is declared: `field(default=None,
    metadata={"rule": Rule("index", axes=(1,))})`.

    kind: an index is a whole number, kept as int64; a probability lies in [0, 1], up to rounding; a flag is
    kept as bool; a float is of any scale.
    axes: how many axes an array may have, the first for the items; empty for any number from 1 on.
    half: whether floats may be kept in half precision, where that changes no value.
    of_learner: it speaks of the learner and not of items; kept as float32, of any shape.
    finite: whether every value must be a finite number.
    """

    kind: Literal["index", "probability", "flag", "float"] = "float"
    axes: tuple[int, ...] = ()
    half: bool = False
    of_learner: bool = False
    finite: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a strategy answers, row by row as in the query. Never labels.

    A scenario that asks for more names a subclass as its `prediction`: a frozen dataclass with further
    fields, each with its `Rule`.

    Floats may be of any scale, and all must be finite: they are kept in the smallest format that has every
    value as it was answered.
    classes: int (N,) class or cluster index.  scores: float (N, C), larger is likelier.
    clusters: int (N,), how many classes and clusters the learner now tells apart, the same for every item.
    old_probability: float (N,), the total probability of those it told apart before the stage.
    anomaly_scores: float (N,), larger is stranger.  anomaly_maps: float (N, h, w), the same per place, of any
    size. The following speak of the label that was handed over with an item, and are zero for items that came
    with none.
    suspicion: float (N,), larger is likelier to be wrong.  kept: (N,) whether the learner takes the label for
    right.
    label_losses: float (N,) its cross-entropy; in grokking, its loss by the learner's own loss.
    The following answer as if it were told whether an item's class is known or novel, among the rows of that
    group (task-aware).
    among_known: int (N,) class.  among_novel: int (N,) row, counted from the first new one, or (N, H), a
    column per head, the chosen first.
    relation_shift: float (N,) divergence of its distribution over known classes from that when these had just
    been learned. The following speak of the learner and not of items; a scenario that reads them says what
    stands where.
    weights: float32, any shape.  health: float32 (M,), not a number where a measure does not apply.
    """

    classes: AnyArray | None = field(default=None, metadata={"rule": Rule("index", axes=(1,))})
    scores: AnyArray | None = None
    clusters: AnyArray | None = field(default=None, metadata={"rule": Rule("index", axes=(1,))})
    old_probability: AnyArray | None = field(default=None, metadata={"rule": Rule("probability", half=True)})
    anomaly_scores: AnyArray | None = field(default=None, metadata={"rule": Rule(axes=(1,))})
    anomaly_maps: AnyArray | None = field(default=None, metadata={"rule": Rule(axes=(3,), half=True)})
    suspicion: AnyArray | None = field(default=None, metadata={"rule": Rule(half=True)})
    kept: AnyArray | None = field(default=None, metadata={"rule": Rule("flag")})
    label_losses: AnyArray | None = field(default=None, metadata={"rule": Rule(half=True)})
    among_known: AnyArray | None = field(default=None, metadata={"rule": Rule("index", axes=(1,))})
    among_novel: AnyArray | None = field(default=None, metadata={"rule": Rule("index", axes=(1, 2))})
    relation_shift: AnyArray | None = field(default=None, metadata={"rule": Rule(half=True)})
    weights: AnyArray | None = field(default=None, metadata={"rule": Rule(of_learner=True)})
    health: AnyArray | None = field(default=None, metadata={"rule": Rule(of_learner=True, finite=False)})

    def arrays(self) -> dict[str, AnyArray]:
        """Return the fields that were answered, by name."""
        answers = {name: getattr(self, name) for name in rules_of(type(self))}
        return {name: array for name, array in answers.items() if array is not None}


def rules_of(prediction: type[Prediction]) -> dict[str, Rule]:
    """Return the rule of every field, by name; one that declares none is a float of any scale for every
    item.
    """
    return {one.name: one.metadata.get("rule", Rule()) for one in fields(prediction)}


def of_learner(prediction: type[Prediction]) -> tuple[str, ...]:
    """Return the fields that speak of the learner and not of items."""
    return tuple(name for name, rule in rules_of(prediction).items() if rule.of_learner)


@renamed(views="augmentations")
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingBudget:
    """What a protocol fixes for every learner: the network, the augmentations, how long it trains, when it
    is probed.

    backbone: the network to train, or the encoder that nobody trains.  augmentations: random changes of items
    in training.
    epochs, batch_size: of every stage; `first_epochs`, `first_batch_size`, where they are said, of the first.
    gradient_steps: steps in every stage but one with `first_epochs`; 0 for as many as the passes take.
    apart: every stage has a learner of its own, for which it is the first.
    probe_every, probe_epochs: gradient steps or epochs between probes, 0 for none; each of the last
    `probe_tail` epochs is probed as well.
    """

    backbone: str
    epochs: int
    batch_size: int
    first_epochs: int | None = None
    first_batch_size: int | None = None
    gradient_steps: int = 0
    apart: bool = False
    augmentations: str = "same"
    probe_every: int = 0
    probe_epochs: int = 0
    probe_tail: int = 0

    def for_stage(self, index: int) -> TrainingBudget:
        """Return what holds in stage `index`, where nothing is said of the first one any more."""
        own = replace(self, first_epochs=None, first_batch_size=None)
        if index == 0 and self.first_epochs is not None:
            own = replace(own, epochs=self.first_epochs, gradient_steps=0)
        if index == 0 and self.first_batch_size is not None:
            own = replace(own, batch_size=self.first_batch_size)
        return own


class Context(Protocol):
    """What the harness lends a strategy for one cell. Network, augmentations and budget are the
    protocol's.

    epochs, gradient_steps: how long the stage may train; steps count where there are any, epochs where they
    are 0.
    compile: whether torch is to compile networks; those of the toolkit see to it.
    """

    device: str
    precision: Precision
    compile: bool
    backbone: str
    augmentations: str
    epochs: int
    gradient_steps: int
    batch_size: int
    scratch: Path

    def stream(self, name: str) -> np.random.Generator:
        """Return the named random stream of the current stage: `init`, `batches`, `method`, or a name of your
        own.
        """
        ...

    def progress(self, step: int, total: int, **values: float) -> None:
        """Say how far the stage is; cheap enough to call at every step."""
        ...

    def probe(self, step: int) -> None:
        """Offer the strategy for evaluation in mid-stage, after so many gradient steps, and at 0 before the first;
        the harness decides whether a probe is due and keeps the predictions.
        """
        ...

    def epoch_ended(self, epoch: int) -> None:
        """Say that `epoch` passes over the stage are done, out of `epochs`; the same offer as `probe`,
        counted in epochs.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a learner shows of itself for N items, in evaluation mode, as `predict` sees them.

    features: float (N, d), what the classifier gets, several axes laid out flat.  logits: float (N, C).  head: float
    (C, d), the classifier's rows; bias: float (C,). Whatever a learner does not have is None.
    """

    features: AnyArray | None = None
    logits: AnyArray | None = None
    head: AnyArray | None = None
    bias: AnyArray | None = None


class Surface(Protocol):
    """The training loss around the weights as they are, for items that came with labels. Nothing here changes the
    weights, their gradients, a running statistic or a random generator.

    name: which loss it is.  rate: the learning rate now.  momentum: of the gradient steps. NaN where there is none.
    """

    name: str
    rate: float
    momentum: float

    def parameters(self) -> list[Tensor]:
        """Return the weights that are trained, each of which requires a gradient."""
        ...

    def loss(self, rows: slice) -> Tensor:
        """Return the mean loss of the items in `rows`, a scalar in evaluation mode with its graph."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A named set of parameter values and where it comes from."""

    values: Mapping[str, Any]
    source: str


class Strategy(ABC):
    """A learner. Parameters are class attributes made by `param`; what `learn` remembers is set on `self`.

    The harness calls `start(context)`, then for every stage `learn(stage)` and `predict(query)`. Between
    stages it keeps `state()`, from which a killed cell continues.
    """

    resumable: ClassVar[bool] = True
    """Whether a killed cell can continue at its last finished stage. False: it starts again at the first."""

    shares_first_stage: ClassVar[bool] = False
    """Set by a class whose parameters (those with since_stage=0) alone decide what `learn` does in stage 0,
    whatever a subclass adds: it is then trained once for all that agree in them.
    """

    together: ClassVar[tuple[str, ...]] = ()
    """Parameters in which strategies learned at once by `learn_together` may differ; empty where it is not
    implemented.
    """

    together_at_most: ClassVar[int] = 16
    """How many strategies `learn_together` takes at most."""

    loaded_ahead: ClassVar[tuple[str, ...]] = ()
    """Modules that take long to load. They are loaded once, and the process of every cell begins with them
    loaded.
    """

    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType({})

    later: ClassVar[tuple[str, ...]] = ()
    """Parameters that came after results had been kept: where one has its default it is not written, and keys stay."""

    context: Context
    """Set by `start`."""

    made_in_setup: frozenset[tuple[Any, ...]]
    """Where `setup` put objects with `load_state_dict`, into which a kept state is loaded. Set by `start`."""

    def __init__(self, **values: Any) -> None:
        """Check `values` against the declared parameters; raise `UserError` that names the parameter, its
        range and the value.
        """
        for name, value in validated(type(self), values).items():
            setattr(self, name, value)

    def start(self, context: Context) -> None:
        """Take the context and make ready for the first stage. Called once per cell, also before
        `load_state`.
        """
        self.context = context
        self.setup()
        self.made_in_setup = parts_of(self)

    def setup(self) -> None:  # noqa: B027  (optional hook, not abstract)
        """Make what must exist before the first stage: models, buffers. Override as needed."""

    @abstractmethod
    def learn(self, stage: Stage) -> None:
        """Learn one stage. Earlier stages are not handed over again."""

    @classmethod
    def learn_together(cls, strategies: Sequence[Self], stages: Sequence[Stage]) -> None:
        """Learn one stage for each of `strategies` in one computation. The harness calls it where `together`
        names parameters.

        All are started, each with a context of its own, and are alike in every parameter outside `together`.
        The stages, one for each, are the only ones of their cells and have equal shapes; labels, items and
        seeds may differ. Every strategy draws from its own streams and offers its own probes, and is left as
        its own `learn` would leave it, within float tolerance.
        """
        raise NotImplementedError(f"{cls.__name__} does not learn several cells together")

    @abstractmethod
    def predict(self, query: Query) -> Prediction:
        """Answer `query`; the answer for an item must not depend on the other items or their order."""

    def observed(self, inputs: Inputs) -> Observation | None:
        """Return what probes see of the learner for `inputs`; None where it has no network that could show it.

        It changes nothing of the learner. Of several networks it is the one that is named first. The default finds
        a network that says `observed` itself, among what was set on the strategy.
        """
        network = _observable(vars(self))
        return None if network is None else network.observed(inputs)

    def surface(self, inputs: Inputs, labels: IntArray) -> Surface | None:
        """Return the loss that the method minimises around its weights, for items whose labels (N,) it may see; None
        where it has none. The default finds the network as `observed` does.
        """
        network = _observable(vars(self))
        return network.surface(inputs, labels) if hasattr(network, "surface") else None

    def state(self) -> dict[str, Any]:
        """Return all that later stages need: arrays, tensors, numbers, strings, and dicts, lists and tuples
        of them.

        By default, what was set on `self`; of objects with `state_dict` that, which `load_state` loads into
        those that `setup` made.
        """
        return state_of(self, skip={*model_of(type(self)).model_fields, "context", "made_in_setup"})

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Become what `state()` was taken from. Called after `start` on a fresh instance."""
        restore(self, state)


def _observable(values: Mapping[str, Any]) -> Any:
    """Return the first of `values`, or of the lists among them, that says `observed` itself."""
    for value in values.values():
        for one in value if isinstance(value, list | tuple) else (value,):
            if hasattr(one, "observed"):
                return one
    return None


# --- what only the scorer holds -----------------------------------------------------------------------------


def _no_rows() -> IntArray:
    return np.zeros(0, dtype=np.int64)


@renamed(
    given="observed_labels",
    watched="monitored",
    held="validation",
    held_given="validation_labels",
    told="noise_info",
)
@dataclass(frozen=True, slots=True, kw_only=True)
class DealtStage:
    """One stage with everything known; rows index the arrays of the `Deal`. Made by a scenario, split up by
    `sealing`.

    rows: int64 (N,) training items.  observed_labels: int64 (N,) the label that learners see of each, right or
    wrong, `HIDDEN` where none.
    query: int64 (M,) the test items, to predict after the stage.
    monitored: int64 (W,) training items that are predicted along with the query, to see what became of their
    labels.
    validation: int64 (V,) items of the validation split.  validation_labels: int64 (V,) their labels.
    noise_info: what learners know of the label noise.
    """

    rows: IntArray
    observed_labels: IntArray
    query: IntArray
    named_classes: int
    new_classes: int | None
    monitored: IntArray = field(default_factory=_no_rows)
    validation: IntArray = field(default_factory=_no_rows)
    validation_labels: IntArray = field(default_factory=_no_rows)
    noise_info: NoiseInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """A scenario under one seed, with everything known. It never leaves the process that scores.

    inputs: U items.  labels: int64 (U,) true classes, numbered in order of arrival.
    facts: further truths per item, each with U rows: the stage an item's class arrives in (`stage`), its
        group; arrays, or loaders (`Inputs`) of what fills no memory until it is scored, such as masks.
    recurring: whether an item that comes again keeps its id; where this would tell old classes from new ones,
    it gets a new one.
    class_numbers: int64 (C,) the number that the data set gives to each class, in order of arrival; None
    where both agree.
    """

    inputs: Inputs
    labels: IntArray
    facts: Mapping[str, Any]
    stages: Sequence[DealtStage]
    task_access: TaskAccess = "train"
    recurring: bool = True
    class_numbers: IntArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """The sealed part, by item id (I ids): labels int64 (I,), facts with I rows each, number of classes named
    after every stage.
    """

    labels: IntArray
    facts: Mapping[str, Any]
    named_classes: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPrediction:
    """Predictions of one stage or probe, sorted by id. Made by `run`, read by scorers.

    ids: int64 (N,) ascending.  arrays: the fields of `Prediction`, each with N rows: int64, bool, or float16,
    float32 or float64, whichever is the first to hold what was answered.  step: None after the stage, else
    the probe's.
    """

    stage: int
    step: int | None
    ids: IntArray
    arrays: Mapping[str, AnyArray]

    def subset(self, rows: NDArray[np.bool_], prediction: type[Prediction] = Prediction) -> StoredPrediction:
        """Return what is said of the items in `rows`, bool (N,); what speaks of the learner, by the rules of
        `prediction`, stays whole.
        """
        whole = of_learner(prediction)
        arrays = {name: values if name in whole else values[rows] for name, values in self.arrays.items()}
        return replace(self, ids=self.ids[rows], arrays=arrays)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure that a scenario reports. `better` says which way is up.

    censored: a time that may not be reached within the budget; NaN where it was not. Over seeds it has a
    median, not a mean.
    """

    name: str
    better: Literal["higher", "lower"] = "higher"
    meaning: str = ""
    censored: bool = False


class Axes(NamedTuple):
    """What the lines and columns of a matrix are, and their names where they have some."""

    rows: str
    columns: str
    row_names: Sequence[str] = ()
    column_names: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a scenario makes of the answers of one cell.

    final: one figure per metric.  per_stage: one figure per finished stage.  probes: (stage, step, figure)
    rows.
    matrices: named arrays for pictures, such as the accuracy matrix R[i, j].  axes: what stands on those that
    are not commonly known.
    panels: pictures that show several of the probes' curves together: the names of the curves.
    histograms: pictures that set distributions side by side: group -> values.
    strips: pictures that set images side by side: a row per case, (rows, panels, h, w) in [0, 1], and what
    each row shows.
    """

    final: Mapping[str, float]
    per_stage: Mapping[str, Sequence[float]] = field(default_factory=dict)
    probes: Mapping[str, Sequence[tuple[int, int, float]]] = field(default_factory=dict)
    matrices: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    axes: Mapping[str, Axes] = field(default_factory=dict)
    panels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    histograms: Mapping[str, Mapping[str, NDArray[np.float64]]] = field(default_factory=dict)
    strips: Mapping[str, tuple[AnyArray, Sequence[str]]] = field(default_factory=dict)


class ClassCounts(NamedTuple):
    """How often one cell was right after `stage`, by class.

    right: float64 (C,) how many of the `n_items`, int64 (C,).  arrival: int64 (C,) the stage each class came
    in.
    classes: C names, the same for a class whatever its place in the order of arrival.
    """

    stage: int
    right: NDArray[np.float64]
    n_items: IntArray
    arrival: IntArray
    classes: tuple[str, ...]


class Scorer(Protocol):
    """Scores one cell as its answers come. What an answer says by itself is worked out once, when it is
    added.
    """

    def add(self, answer: StoredPrediction) -> None:
        """Take in the next answer, in order of stages, the probes of a stage before its end."""
        ...

    def scores(self) -> Scores:
        """Return what the answers so far come to; what is added later does not change it."""
        ...


class Scenario(BaseModel, ABC):
    """What is learned from, as a value: typed, hashable, comparable. Unknown keys are refused.

    It says how it scores by one of two methods: `score`, from all answers at once, or `scorer`, answer by
    answer, which a cell of hundreds of stages needs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics: ClassVar[tuple[Metric, ...]]
    """The first is the primary metric, by which boards rank."""

    prediction: ClassVar[type[Prediction]] = Prediction
    """What is asked for: the fields that a strategy may answer, and their rules. Others are left out."""

    answers: ClassVar[tuple[str, ...]] = ("classes",)
    """The fields of `prediction` that scoring needs; of `one|other` any one will do."""

    probed: ClassVar[tuple[str, ...]] = tuple(rules_of(Prediction))
    """The fields of `prediction` that are kept of a probe; all of them where nothing else is said."""

    kept: ClassVar[tuple[str, ...]] = tuple(rules_of(Prediction))
    """The fields of `prediction` that are kept of an answer after a stage; likewise."""

    lower_bound: ClassVar[str] = "fine-tune"
    upper_bound: ClassVar[str] = "joint"
    """The strategy that is handed every training label, also those hidden from all others."""

    not_known: ClassVar[str] = ""
    """What its family scores and these data do not tell, as a sentence that stands below its tables."""

    frozen_encoder: ClassVar[bool] = False
    """Whether `backbone` names an encoder that nobody trains, instead of a network to train."""

    backbone: str = param(
        "mlp",
        "network that every strategy trains: mlp, cnn, adapter, or timm:NAME, with parameters in brackets",
    )
    epochs: int = param(10, "passes over a stage's training items", ge=1, unit="epochs")
    batch_size: int = param(32, "items per gradient step", ge=1, unit="items")
    probe_every: int = param(0, "gradient steps between probes in mid-stage; 0 for none", ge=0, unit="steps")

    presets: ClassVar[Mapping[str, Preset]] = MappingProxyType({})

    later: ClassVar[tuple[str, ...]] = ()
    """Parameters that came after results did. At their defaults they are not written, so that a protocol from
    before is still the same.
    """

    def __init_subclass__(cls, **said: Any) -> None:
        """Keep every field of the class's own `prediction` where nothing else is said."""
        super().__init_subclass__(**said)
        take_former_methods(cls, inadmissible="board_exclusion_reason", choosing="model_selection")
        if "prediction" in vars(cls) and isinstance(cls.prediction, type):
            for name in {"probed", "kept"} - {*vars(cls)}:
                setattr(cls, name, tuple(rules_of(cls.prediction)))

    @model_validator(mode="before")
    @classmethod
    def _with_new_names(cls, values: Any) -> Any:
        return with_new_names(cls, values) if isinstance(values, dict) else values

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = written(self)
        unsaid = {name for name in self.later if getattr(self, name) == type(self).model_fields[name].default}
        former = {new: old for old, new in former_names(type(self)).items()}
        return {former.get(name, name): value for name, value in content.items() if name not in unsaid}

    def budget(self) -> TrainingBudget:
        """Return what the protocol fixes for every learner."""
        return TrainingBudget(
            backbone=self.backbone,
            epochs=self.epochs,
            batch_size=self.batch_size,
            probe_every=self.probe_every,
        )

    def board_exclusion_reason(self) -> str:
        """Return why results under this configuration may not stand on a board; empty where they may."""
        return ""

    def model_selection(self) -> str:
        """Return the selection of the scenario for model selection, which deals no test label; empty where there
        is none.
        """
        return ""

    @abstractmethod
    def deal(self, seed: int) -> Deal:
        """Deal all stages under `seed`; raise `UserError` where the parameters do not fit the data."""

    def score(self, truth: Truth, answers: Sequence[StoredPrediction]) -> Scores:
        """Score the answers of the stages finished so far."""
        scorer = self.scorer(truth)
        for answer in answers:
            scorer.add(answer)
        return scorer.scores()

    def scorer(self, truth: Truth) -> Scorer:
        """Return what scores a cell answer by answer. Ask for it by `scorer_of`, which serves scenarios that
        have none.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither score nor scorer")

    def perfect(self, truth: Truth, ids: IntArray) -> Prediction:
        """Return what somebody would answer for the items `ids` who knows the truth; every declared metric
        has a figure for it.
        """
        return Prediction(classes=truth.labels[ids])

    def per_class_measure(self) -> str:
        """Return in words what `correct_by_class` counts as right."""
        return "accuracy"

    def correct_by_class(
        self, truth: Truth, answers: Sequence[StoredPrediction], class_names: tuple[str, ...]
    ) -> list[ClassCounts]:
        """Return for every answer how often it is right, by class; classes that have not arrived are left
        out.

        The default takes classes to be answered by name, and to have arrived when they are named.
        `class_names`: in order of arrival.

        Raises:
            UserError: predictions under this scenario do not say classes.
        """
        if "classes" not in self.answers:
            raise UserError(
                f"{type(self).__name__} asks for {', '.join(self.answers) or 'no classes'}, not for "
                "classes to be compared"
            )
        arrival = np.searchsorted(truth.named_classes, np.arange(len(class_names)), side="right").astype(
            np.int64
        )
        found = []
        for answer in answers:
            labels = truth.labels[answer.ids]
            come = labels < truth.named_classes[answer.stage]
            hits = (answer.arrays["classes"] == labels)[come]
            n_items = np.bincount(labels[come], minlength=len(class_names))
            right = np.bincount(labels[come], weights=hits, minlength=len(class_names)).astype(np.float64)
            found.append(ClassCounts(answer.stage, right, n_items, arrival, class_names))
        return found

    @abstractmethod
    def data_digests(self) -> Mapping[str, str]:
        """Return the digest of every data set that is dealt from."""


class _FromScratch:
    """Scores all answers so far whenever it is asked."""

    def __init__(self, scenario: Scenario, truth: Truth) -> None:
        self.scenario, self.truth, self.answers = scenario, truth, list[StoredPrediction]()

    def add(self, answer: StoredPrediction) -> None:
        self.answers.append(answer)

    def scores(self) -> Scores:
        return self.scenario.score(self.truth, [*self.answers])


def scorer_of(scenario: Scenario, truth: Truth) -> Scorer:
    """Return what scores a cell answer by answer: the scenario's scorer, or where it wrote `score` after
    that, one that calls `score`.
    """
    score, scorer = (
        next(at for at, kind in enumerate(type(scenario).__mro__) if name in vars(kind))
        for name in ("score", "scorer")
    )
    return _FromScratch(scenario, truth) if score < scorer else scenario.scorer(truth)


# --- data sets ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a reader should know about a data set before trusting a number from it."""

    title: str
    items: int
    classes: int
    shape: tuple[int, ...]
    licence: str
    source: str
    package: str
    digest: str
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A loaded data set. What is said here is checked before anything is dealt (`scenarios.datasets.sound`).

    inputs: N items as in `Stage`.  labels: int64 (N,), or integers of another width, in [0, number of
    classes).
    class_names: one per class, no two alike; every class has an item.
    groups: int64 (N,) items that must stay on one side of a split (a font family, a writer), or None.
    published_test: bool (N,) which items the publisher set apart for the test, or None.
    published_validation: bool (N,) which of the others it set apart to choose by, or None.
    given: int64 (N,) labels that came with the items, some of them wrong, beside the true ones in `labels`; or
        None. `noisy-labels[noise=published]` hands these over.
    """

    inputs: Inputs
    labels: IntArray
    class_names: tuple[str, ...]
    groups: IntArray | None = None
    published_test: NDArray[np.bool_] | None = None
    published_validation: NDArray[np.bool_] | None = None
    given: IntArray | None = None


class Dataset(BaseModel, ABC):
    """Real inputs and labels, located without importing the package that ships them, checked by digest, never
    unpickled.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    card: ClassVar[Card]

    @abstractmethod
    def load(self) -> Data:
        """Return all items in a fixed order.

        Raises:
            UserError: the package is missing, or its files differ from the digest on the card.
        """


if not TYPE_CHECKING:
    __getattr__ = former_classes(globals(), Answer="StoredPrediction", NoiseFacts="NoiseInfo")

__all__ = [
    "HIDDEN",
    "AnyArray",
    "Axes",
    "Card",
    "ClassCounts",
    "Context",
    "Data",
    "Dataset",
    "Deal",
    "DealtStage",
    "Divisible",
    "FloatArray",
    "Inputs",
    "IntArray",
    "Metric",
    "NoiseInfo",
    "Observation",
    "Precision",
    "Prediction",
    "Preset",
    "Query",
    "Rule",
    "Scenario",
    "Scorer",
    "Scores",
    "Stage",
    "Status",
    "StoredPrediction",
    "Strategy",
    "Surface",
    "TaskAccess",
    "TrainingBudget",
    "Truth",
    "Validation",
    "of_learner",
    "param",
    "rules_of",
    "scorer_of",
]
