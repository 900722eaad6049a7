"""UNO, Cr-KD and their peers on Gaussian blobs: what each parameter changes, what equals what, and worlds
that are too small.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeContext
from torch import Tensor
from torch.nn.functional import normalize
from worlds import NovelBlobs

from harness import checkpoint
from harness.cell.run import CellSettings, run_cell
from harness.cell.sealing import seal
from harness.clustering import assign
from harness.contracts import HIDDEN, Prediction, Query, Stage, Strategy
from harness.errors import Diverged, Unsuitable, UserError
from harness.metrics.discovery import match
from harness.parameters import model_of
from harness.plugins import find
from harness.protocol.cells import cells, contenders, protocols
from harness.protocol.stage_sharing import stage_keys
from harness.selection import configured
from harness.store import predictions
from strategies.ncd import losses
from strategies.ncd.base import NovelClasses
from strategies.ncd.cr_kd import CrKD
from strategies.ncd.joint import JointNovel
from strategies.ncd.kmeans import NCDKMeans
from strategies.ncd.rank_stats import RankStats
from strategies.ncd.semi_supervised_kmeans import NCDPinnedKMeans
from strategies.ncd.simgcd import NCDSimGCD
from strategies.ncd.uno import UNO
from strategies.toolkit.discovery.losses import pair_cross_entropy, rank_pairs
from strategies.toolkit.training.tensors import items_of

KNOWN, NOVEL, EACH = 2, 3, 20
TRAINED: list[type[NovelClasses]] = [CrKD, UNO, RankStats, NCDSimGCD]
CLUSTERED: list[type[NovelClasses]] = [NCDKMeans, NCDPinnedKMeans]
SMALL: dict[type[NovelClasses], dict[str, Any]] = {
    CrKD: {"width": 16, "out": 8, "alpha": 0.02},
    UNO: {"width": 16, "out": 8},
    RankStats: {},
    JointNovel: {},
    NCDSimGCD: {"projector_width": 16, "projector_out": 8},
    NCDKMeans: {},
    NCDPinnedKMeans: {},
}


@dataclass
class Context(FakeContext):
    """Noisy vectors and a two-layer network."""

    backbone: str = "mlp[width=16,depth=2]"
    augmentations: str = "noise[std=0.1]"
    batch_size: int = 32
    gradient_steps: int = 12


@dataclass
class Asking(Context):
    """Asks the learner before the first step and after every one."""

    learner: Any = None
    query: Query | None = None
    given: list[Prediction] = field(default_factory=list)

    def probe(self, step: int) -> None:
        assert self.query is not None
        self.given.append(self.learner.predict(self.query))


# --- the world ----------------------------------------------------------------------------------------------


def _blobs(spread: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Return points of 5 classes in 8 dimensions, and their classes."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(KNOWN + NOVEL), EACH)
    centres = 4 * np.eye(8)[: KNOWN + NOVEL]
    return (centres[labels] + spread * rng.normal(size=(len(labels), 8))).astype(np.float32), labels


POINTS, CLASSES = _blobs()
ALL = Query(ids=np.arange(len(POINTS)), inputs=POINTS)
HIDES = CLASSES >= KNOWN


def _stage(
    index: int, rows: np.ndarray, hidden: np.ndarray, *, new: int | None = NOVEL, named: int = KNOWN
) -> Stage:
    """Return a stage of items at `rows`; bool `hidden`, one for every item of the world."""
    labels = np.where(hidden, HIDDEN, CLASSES)[rows]
    return Stage(
        index=index, ids=rows, inputs=POINTS[rows], labels=labels, named_classes=named, new_classes=new
    )


FIRST = _stage(0, np.flatnonzero(~HIDES), HIDES)
SECOND = _stage(1, np.arange(len(POINTS)), HIDES)


def _started(cls: type[NovelClasses], context: Any = None, **values: Any) -> Any:
    strategy = cls(**{**SMALL[cls], **values})
    lent: Any = context or Context()
    strategy.start(lent)
    return strategy


def _learnt(
    cls: type[NovelClasses],
    *,
    first: Stage = FIRST,
    second: Stage = SECOND,
    context: Any = None,
    **values: Any,
) -> Any:
    strategy = _started(cls, context, **values)
    strategy.learn(first)
    strategy.learn(second)
    return strategy


def _leaves(value: Any) -> Iterator[bytes]:
    if isinstance(value, Tensor):
        yield value.detach().numpy().tobytes()
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    else:
        yield repr(value).encode()


def _digest(value: Any) -> str:
    """Return what stands for all bytes of a state."""
    return hashlib.sha256(b"|".join(_leaves(value))).hexdigest()


def _novel_accuracy(prediction: Prediction) -> float:
    assert prediction.among_novel is not None
    return match(prediction.among_novel[HIDES].reshape(HIDES.sum(), -1)[:, 0], CLASSES[HIDES]).accuracy()


def _answered(prediction: Prediction) -> dict[str, str]:
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in prediction.arrays().items()}


# --- parameters ---------------------------------------------------------------------------------------------

Values = dict[str, Any]
BASE: list[tuple[Values, Values]] = [
    ({}, {"lr": 0.02}),
    ({}, {"trainable": "last"}),
    ({}, {"trainable": "head"}),
    ({}, {"mix": "even"}),
    ({}, {"later_weight_decay": 0.0}),
    ({}, {"later_warmup": 0.5}),
    ({}, {"later_floor": 0.5}),
]
NEAR = {"small_view": "noise[std=0.1]"}
OF_UNO: list[tuple[Values, Values]] = [
    ({}, {"heads": 3}),
    ({}, {"width": 8}),
    ({}, {"out": 4}),
    ({}, {"epsilon": 0.2}),
    ({}, {"iterations": 1}),
    ({}, {"assignment": "sinkhorn[rounds=1]"}),
    ({}, {"assignment": "entropic"}),
    ({}, {"assignment": "relaxed"}),
    ({}, {"assignment": "sparse"}),
    ({}, {"assignment": "frequency"}),
    ({}, {"assignment": "softmax"}),
    ({}, {"queue": 16}),
    ({}, {"targets": "all"}),
    ({}, {"initialise": "k-means"}),
    (NEAR, {"small_views": 1}),
    ({}, {"cached_views": 3}),
    ({"small_views": 1, **NEAR}, {"small_view": "noise[std=1]"}),
    ({"heads": 5}, {"head_choice": "first"}),
]
SWITCHES: dict[type[NovelClasses], list[tuple[Values, Values]]] = {
    UNO: [*BASE, *OF_UNO, ({}, {"overcluster": 0})],
    CrKD: [
        *BASE,
        *OF_UNO,
        ({}, {"overcluster": 2}),
        ({}, {"alpha": 0.0}),
        ({}, {"alpha": 0.1}),
        ({}, {"temperature": 1.0}),
        ({}, {"weighting": "none"}),
        ({}, {"weighting": "mass-unscaled"}),
        ({}, {"weighting": "mass-constant"}),
        ({}, {"weighting": "teacher-confidence"}),
        ({}, {"divergence": "kl"}),
        ({}, {"per_head": True}),
        ({"small_views": 1, **NEAR}, {"relation_views": "all"}),
        ({}, {"teacher_momentum": 0.9}),
        ({}, {"teacher_unit_length": True}),
    ],
    RankStats: [
        *BASE,
        ({}, {"top": 2}),
        ({}, {"consistency": 0.0}),
        ({}, {"ramp": 0.9}),
        ({}, {"incremental": 0.0}),
    ],
    NCDSimGCD: [
        *BASE,
        ({}, {"supervised": 0.6}),
        ({}, {"entropy": 0.0}),
        ({}, {"contrast": False}),
        ({}, {"first_teacher": 0.09}),
        ({}, {"last_teacher": 0.02}),
        ({}, {"teacher_warmup": 0.9}),
        ({}, {"assignment": "relaxed"}),
        ({}, {"projection_loss": "msbreg"}),
        ({}, {"tau_views": 0.5}),
        ({}, {"tau_labels": 0.2}),
        ({}, {"projector_width": 8}),
        ({}, {"projector_out": 4}),
    ],
    NCDKMeans: [({}, {"space": "inputs"}), ({}, {"unit_length": False})],
    NCDPinnedKMeans: [({}, {"space": "inputs"}), ({}, {"unit_length": False})],
    JointNovel: [],
}
OF_TRAINING = {"lr", "trainable", "mix", "later_weight_decay", "later_warmup", "later_floor"}
"""What k-means, which trains nothing in stage 1, has no use for."""
ELSEWHERE = {"search", "restarts", "cache_mib"}
"""What tests of their own are about."""


def _since_stage_1(cls: type[Strategy]) -> set[str]:
    fields = model_of(cls).model_fields
    return {
        name
        for name, one in fields.items()
        if isinstance(one.json_schema_extra, dict) and one.json_schema_extra.get("since_stage")
    }


@pytest.mark.parametrize("cls", [*TRAINED, NCDKMeans])
def test_every_parameter_of_stage_1_is_put_to_the_test(cls: type[NovelClasses]) -> None:
    tried = {name for _, switch in SWITCHES[cls] for name in switch}
    assert tried | (OF_TRAINING if cls in CLUSTERED else set()) == _since_stage_1(cls) - ELSEWHERE


def _cases() -> list[Any]:
    return [
        pytest.param(cls, base, switch, id=f"{cls.__name__}-{switch}")
        for cls, switches in SWITCHES.items()
        for base, switch in switches
    ]


@pytest.mark.parametrize(("cls", "base", "switch"), _cases())
def test_a_parameter_of_stage_1_changes_what_is_learnt_there_and_nothing_before(
    cls: type[NovelClasses], base: Values, switch: Values
) -> None:
    states = []
    for values in (base, {**base, **switch}):
        strategy = _started(cls, **values)
        strategy.learn(FIRST)
        first = _digest(strategy.state())
        strategy.learn(SECOND)
        states.append((first, _digest(strategy.state())))
    assert states[0][0] == states[1][0]
    assert states[0][1] != states[1][1]


@pytest.mark.parametrize("cls", CLUSTERED)
def test_k_means_has_no_use_for_parameters_of_training(cls: type[NovelClasses]) -> None:
    expected = _digest(_learnt(cls).centres)
    assert all(_digest(_learnt(cls, **switch).centres) == expected for _, switch in BASE)


OF_BOTH: list[Values] = [
    {"first_lr": 0.02},
    {"momentum": 0.0},
    {"weight_decay": 0.1},
    {"tau": 0.5},
    {"warmup": 0.5},
    {"floor": 0.5},
    {"optimiser": "adamw"},
]


@pytest.mark.parametrize("switch", OF_BOTH, ids=str)
@pytest.mark.parametrize("cls", [CrKD, RankStats])
def test_a_parameter_of_both_stages_changes_the_first(cls: type[NovelClasses], switch: Values) -> None:
    usual, other = _started(cls), _started(cls, **switch)
    for strategy in (usual, other):
        strategy.learn(FIRST)
    assert _digest(usual.state()) != _digest(other.state())


@pytest.mark.parametrize("name", sorted(CrKD.presets))
def test_presets_are_valid_and_say_where_they_come_from(name: str) -> None:
    preset = CrKD.presets[name]
    strategy = CrKD(**preset.values)
    assert {key: getattr(strategy, key) for key in preset.values} == dict(preset.values)
    assert preset.source


# --- what equals what ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values", [{}, {"trainable": "last", "cached_views": 3}, {"small_views": 1, **NEAR}], ids=str
)
def test_without_its_relation_loss_cr_kd_is_uno_without_finer_rows(values: Values) -> None:
    ours, theirs = _learnt(CrKD, alpha=0.0, **values), _learnt(UNO, overcluster=0, **values)
    assert _digest(ours.state()) == _digest(theirs.state())
    assert _answered(ours.predict(ALL)) == _answered(theirs.predict(ALL))


def _first_loss(cls: type[NovelClasses], **values: Any) -> float:
    """Return the loss of the first step of stage 1, without any change to the views."""
    context = Context(augmentations="same", gradient_steps=1)
    _learnt(cls, context=context, **values)
    return context.steps[-1][2]["loss"]


@pytest.mark.parametrize("trainable", ["all", "last", "head"])
def test_a_bank_of_views_that_are_all_the_same_teaches_what_fresh_ones_teach(trainable: str) -> None:
    """Views of a bank are kept in half precision: 11 bits, so a relative error of 5e-4 a value."""
    values: Values = {"trainable": trainable, "temperature": 1.0}
    whole = [_first_loss(CrKD, alpha=0.5, cached_views=bank, **values) for bank in (0, 2)]
    clustering = [_first_loss(CrKD, alpha=0.0, cached_views=bank, **values) for bank in (0, 2)]
    assert whole[1] == pytest.approx(whole[0], rel=2e-3)
    relation = [2 * (with_it - without) for with_it, without in zip(whole, clustering, strict=True)]
    assert relation[0] > 0.01
    assert relation[1] == pytest.approx(relation[0], rel=0.02)


@pytest.mark.parametrize("values", [{}, {"teacher_momentum": 0.9}, {"alpha": 0.0}, {"mix": "even"}], ids=str)
def test_a_bank_of_views_finds_the_classes_too(values: Values) -> None:
    strategy = _learnt(CrKD, context=Context(gradient_steps=200), cached_views=4, **values)
    assert _novel_accuracy(strategy.predict(ALL)) > 0.55, "a guess has 0.4 at most"


def test_a_bank_beside_small_views_and_a_bank_of_one_view_are_refused() -> None:
    with pytest.raises(
        UserError, match="the feature cache holds large views only: set small_views=0, or cached_views=0"
    ):
        _started(UNO, cached_views=4, small_views=2)
    with pytest.raises(UserError, match="at least two views"):
        _learnt(UNO, cached_views=1)


@pytest.mark.parametrize("cls", [*TRAINED, *CLUSTERED])
def test_a_state_on_disk_gives_the_same_answers_on_a_fresh_instance(
    cls: type[NovelClasses], tmp_path: Path
) -> None:
    strategy, fresh = _learnt(cls), _started(cls)
    checkpoint.save(tmp_path / "state.pt", strategy.state())
    fresh.load_state(checkpoint.load(tmp_path / "state.pt"))
    assert _answered(strategy.predict(ALL)) == _answered(fresh.predict(ALL))


@pytest.mark.parametrize("cls", [*TRAINED, *CLUSTERED])
def test_a_cell_killed_between_the_stages_goes_on_to_the_same_answers(
    cls: type[NovelClasses], tmp_path: Path
) -> None:
    halfway, fresh = _started(cls), _started(cls)
    halfway.learn(FIRST)
    checkpoint.save(tmp_path / "state.pt", halfway.state())
    fresh.load_state(checkpoint.load(tmp_path / "state.pt"))
    for strategy in (halfway, fresh):
        strategy.learn(SECOND)
    assert _answered(halfway.predict(ALL)) == _answered(fresh.predict(ALL))


NAMES = ["cr-kd", "uno", "rank-stats", "ncd-simgcd", "ncd-k-means", "ncd-ss-k-means"]


def test_all_learners_share_stage_0_and_what_differs_there_does_not() -> None:
    """None did once: each replaced a method of the base, and every cell of a board trained stage 0 for
    itself.
    """

    def keys(*texts: str) -> list[str]:
        return [
            stage_keys(cell)[0] for cell in cells(protocols(["ncd[preset=digits]"]), contenders(texts), 1)
        ]

    shared = keys(*NAMES, "cr-kd[alpha=0.5,trainable=last]", "uno[cached_views=4]")
    assert len(set(shared)) == 1
    assert shared[0]
    assert keys("cr-kd[first_lr=0.5]")[0] not in {shared[0], ""}
    own = keys("joint-novel", "depict")  # with themselves alone
    assert len({*own, shared[0], ""}) == 4


def test_a_shared_stage_0_gives_the_bytes_of_an_unshared_one(tmp_path: Path) -> None:
    world = NovelBlobs()
    episodes = seal(world.deal(0), 0).episodes
    settings = CellSettings(root_seed=5, budget=world.budget())
    borrowed: dict[str, float] = {}

    def digest(name: str, shared: Path | None) -> str:
        results = list(
            run_cell(find("strategy", name).cls(), episodes, settings, scratch=tmp_path, shared=[shared])
        )
        borrowed[name] = results[0].borrowed_s
        return predictions.digest([answer for result in results for answer in result.answers])

    alone = {name: digest(name, None) for name in NAMES}
    for name in reversed(NAMES):  # the first trains, the others begin from there
        assert digest(name, tmp_path / "first.pt") == alone[name]
    assert [name for name in NAMES if not borrowed[name]] == [NAMES[-1]]


# --- what is found ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [*TRAINED, *CLUSTERED])
def test_novel_classes_are_found_and_known_ones_kept(cls: type[NovelClasses]) -> None:
    context = Context(gradient_steps=120, backbone="linear" if cls in CLUSTERED else Context.backbone)
    prediction = _learnt(cls, context=context).predict(ALL)
    assert _novel_accuracy(prediction) > 0.6, "a guess has 0.4 at most"
    assert prediction.classes is not None
    assert prediction.among_known is not None
    assert np.mean(prediction.among_known[~HIDES] == CLASSES[~HIDES]) > 0.95
    assert match(prediction.classes, CLASSES).accuracy() > 0.7


def test_joint_training_learns_every_class_and_refuses_hidden_labels() -> None:
    open_ = np.zeros(len(CLASSES), dtype=bool)
    second = _stage(1, np.arange(len(CLASSES)), open_, named=KNOWN + NOVEL)
    prediction = _learnt(JointNovel, second=second, context=Context(gradient_steps=60)).predict(ALL)
    assert prediction.classes is not None
    assert np.mean(prediction.classes == CLASSES) > 0.95
    assert _novel_accuracy(prediction) > 0.95
    strategy = _started(JointNovel)
    strategy.learn(FIRST)
    with pytest.raises(Unsuitable, match="needs every label"):
        strategy.learn(SECOND)


def test_stages_of_another_kind_are_refused() -> None:
    strategy = _started(UNO)
    with pytest.raises(Unsuitable, match="stage 0 hides some"):
        strategy.learn(_stage(0, np.arange(10), HIDES))
    strategy.learn(FIRST)
    for second in (
        _stage(1, np.flatnonzero(HIDES), HIDES),
        _stage(1, np.flatnonzero(~HIDES), HIDES),
        _stage(2, np.arange(10), HIDES),
    ):
        with pytest.raises(Unsuitable, match="one later stage"):
            strategy.learn(second)


def _generalised() -> tuple[Stage, Stage, np.ndarray]:
    """Return stages where half of the known items have lost their labels, and which items have none."""
    hidden = HIDES | (np.arange(len(CLASSES)) >= len(CLASSES) // 2)
    return _stage(0, np.flatnonzero(~hidden), hidden), _stage(1, np.arange(len(CLASSES)), hidden), hidden


def test_with_targets_among_all_rows_unlabelled_items_of_known_classes_stay_known() -> None:
    first, second, hidden = _generalised()
    kept = {}
    for targets in ("novel", "all"):
        strategy = _learnt(
            UNO, first=first, second=second, context=Context(gradient_steps=120), targets=targets
        )
        rows = strategy.predict(ALL).classes
        asked = hidden & ~HIDES
        kept[targets] = np.mean(rows[asked] == CLASSES[asked])
        if targets == "all":
            assert match(rows, CLASSES).accuracy() > 0.8
    assert kept["all"] > 0.9
    assert kept["all"] >= kept["novel"]


class Noted(UNO):
    """UNO that writes down the loss of every head."""

    def discover(self, stage: Stage, items: Any, novel: int) -> None:
        self.noted: list[list[float]] = []
        super().discover(stage, items, novel)

    def swapped_loss(
        self, known: Tensor, novel: Tensor, labels: Tensor, queued: list[Tensor | None], place: int
    ) -> Tensor:
        value = super().swapped_loss(known, novel, labels, queued, place)
        self.noted.append(value.tolist())
        return value


def test_the_head_that_answers_has_the_smallest_loss_of_the_last_epoch_or_of_all() -> None:
    SMALL[Noted] = {**SMALL[UNO], "overcluster": 0, "heads": 6}
    per_epoch, steps = 4, 11  # 100 items in batches of 32, and an epoch that is cut short
    for choice, since in (("last-epoch", per_epoch * (steps // per_epoch)), ("whole-stage", 0)):
        strategy = _learnt(Noted, context=Context(gradient_steps=steps), head_choice=choice)
        assert len(strategy.noted) == steps
        losses_ = np.sum(strategy.noted[since:], axis=0)
        assert strategy.best == int(losses_.argmin())
        features = strategy.features_of(strategy.network, torch.from_numpy(POINTS))
        scores = strategy.network.eval().scores(features).novel
        prediction = strategy.predict(ALL)
        assert prediction.among_novel.shape == (len(POINTS), 6)
        np.testing.assert_array_equal(prediction.among_novel[:, 0], scores[strategy.best].argmax(dim=1))
        joint = torch.cat([strategy.network.scores(features).known, scores[strategy.best]], dim=1)
        np.testing.assert_array_equal(prediction.classes, joint.argmax(dim=1))
        others = [scores[head].argmax(dim=1) for head in range(6) if head != strategy.best]
        np.testing.assert_array_equal(prediction.among_novel[:, 1:], torch.stack(others, dim=1))
    assert _learnt(Noted, head_choice="first").best == 0


@pytest.mark.parametrize("cls", [*TRAINED, *CLUSTERED])
def test_a_number_that_is_not_told_is_counted(cls: type[NovelClasses]) -> None:
    """The silhouette of three far blobs is largest at three clusters; `search` ends the search before."""
    untold = _stage(1, np.arange(len(POINTS)), HIDES, new=None)
    for search, number in ((30, NOVEL), (2, 2)):
        strategy = _started(cls, Context(backbone="linear"), search=search)
        strategy.learn(FIRST)
        assert strategy.count_novel(untold, items_of(untold, strategy.context)) == number
        assert strategy.count_novel(SECOND, items_of(SECOND, strategy.context)) == NOVEL
        strategy.learn(untold)
        rows = strategy.predict(ALL).among_novel
        assert rows.max() < number
        assert cls in TRAINED or len(np.unique(rows[HIDES])) == number


# --- worlds that are too small ------------------------------------------------------------------------------


def _few(labelled: int, unlabelled: int, new: int | None = NOVEL) -> Stage:
    rows = np.concatenate([np.flatnonzero(~HIDES)[:labelled], np.flatnonzero(HIDES)[:unlabelled]])
    return _stage(1, rows, HIDES, new=new)


TINY: dict[str, tuple[Stage, dict[str, Any]]] = {
    "batches of two": (SECOND, {"batch_size": 2}),
    "batches larger than the stage": (SECOND, {"batch_size": 1000}),
    "one unlabelled item": (_few(20, 1), {}),
    "one unlabelled item in batches of two": (_few(9, 1), {"batch_size": 2}),
    "one of either": (_few(2, 1), {}),
    "two unlabelled items for three classes": (_few(20, 2), {}),
    "three unlabelled items, of an unknown number of classes": (_few(20, 3, new=None), {}),
    "one unlabelled item, of an unknown number of classes": (_few(20, 1, new=None), {}),
    "more novel classes than unlabelled items": (_few(20, 4, new=9), {}),
    "one novel class": (_few(20, 20, new=1), {}),
}


@pytest.mark.parametrize("case", TINY)
@pytest.mark.parametrize("cls", [*TRAINED, *CLUSTERED])
def test_tiny_worlds_are_survived(cls: type[NovelClasses], case: str) -> None:
    second, lent = TINY[case]
    strategy = _learnt(cls, second=second, context=Context(**{"gradient_steps": 6, **lent}))
    assert all(weight.isfinite().all() for weight in strategy.network.parameters())
    prediction = strategy.predict(ALL)
    assert prediction.among_novel is not None
    assert prediction.among_novel.min() >= 0
    assert prediction.among_novel.max() < max(second.new_classes or 0, 3)
    assert np.isfinite(prediction.relation_shift).all()


SWITCHED: list[Values] = [
    {"initialise": "k-means"},
    {"queue": 8},
    {"targets": "all"},
    {"mix": "even"},
    {"cached_views": 2},
    {"teacher_momentum": 0.5},
    {"overcluster": 2},
    {"weighting": "teacher-confidence", "divergence": "kl"},
]


@pytest.mark.parametrize("switch", SWITCHED, ids=str)
@pytest.mark.parametrize(
    "case",
    [
        "one unlabelled item",
        "one unlabelled item in batches of two",
        "more novel classes than unlabelled items",
    ],
)
def test_tiny_worlds_are_survived_under_every_switch(case: str, switch: Values) -> None:
    second, lent = TINY[case]
    strategy = _learnt(CrKD, second=second, context=Context(**{"gradient_steps": 6, **lent}), **switch)
    assert all(weight.isfinite().all() for weight in strategy.network.parameters())


@pytest.mark.parametrize("cls", [UNO, NCDKMeans])
def test_features_too_long_for_their_format_end_as_diverged(cls: type[NovelClasses]) -> None:
    strategy = _learnt(cls)
    with torch.no_grad():
        for weight in strategy.network.parts.parameters():
            weight *= 1e15
    with pytest.raises(Diverged, match="so large that their length is not"):
        strategy.predict(ALL)


def test_answers_that_are_not_numbers_end_as_diverged() -> None:
    strategy = _learnt(UNO)
    with torch.no_grad():
        strategy.network.known.weight[0, 0] = torch.nan
    with pytest.raises(Diverged, match="not finite"):
        strategy.predict(ALL)


@pytest.mark.parametrize("cls", TRAINED)
def test_learners_can_be_asked_in_the_middle_of_stage_1_and_it_changes_nothing(
    cls: type[NovelClasses],
) -> None:
    """RankStats and SimGCD once had their heads only after the last step, and a probe in mid-stage ended in
    an error.
    """
    quiet, asking = _started(cls), _started(cls, Asking(query=ALL))
    asking.context.learner = asking
    for strategy in (quiet, asking):
        strategy.learn(FIRST)
        strategy.learn(SECOND)
    given = asking.context.given
    assert len(given) == 2 * (1 + 12)
    assert given[0].among_novel is None
    assert given[13].among_novel is not None
    assert _answered(given[13]) != _answered(given[-1])
    assert _answered(quiet.predict(ALL)) == _answered(asking.predict(ALL))


# --- Cr-KD --------------------------------------------------------------------------------------------------


def test_the_relation_of_the_answers_is_the_students_against_the_network_of_stage_0() -> None:
    strategy = _started(CrKD)
    strategy.learn(FIRST)
    inputs = torch.from_numpy(POINTS)
    taught = strategy.network.scores(strategy.features_of(strategy.network, inputs)).known.detach()
    strategy.learn(SECOND)
    ours = strategy.network.scores(strategy.features_of(strategy.network, inputs)).known.detach()
    np.testing.assert_allclose(
        strategy.predict(ALL).relation_shift, losses.relation_shift(ours, taught), rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("cls", [CrKD, RankStats, NCDSimGCD])
def test_the_relation_of_the_answers_is_that_of_the_known_rows_that_answer(cls: type[NovelClasses]) -> None:
    """SimGCD's was once that of the prototypes of stage 0, which it no longer uses."""
    strategy = _learnt(cls)
    inputs = torch.from_numpy(POINTS)
    taught = strategy.before.scores(strategy.features_of(strategy.before, inputs)).known.detach()
    rows = strategy.directions if cls is NCDSimGCD else strategy.network.known.weight
    ours = (
        normalize(strategy.features_of(strategy.network, inputs), dim=1)
        @ (normalize(rows, dim=1) if cls is NCDSimGCD else rows)[:KNOWN].detach().T
    )
    np.testing.assert_allclose(
        strategy.predict(ALL).relation_shift, losses.relation_shift(ours, taught), rtol=1e-3, atol=1e-6
    )


def test_the_relation_loss_keeps_relations_close() -> None:
    free, held = (
        float(
            _learnt(CrKD, context=Context(gradient_steps=150), alpha=alpha)
            .predict(ALL)
            .relation_shift[HIDES]
            .mean()
        )
        for alpha in (0.0, 0.1)
    )
    assert held < 0.6 * free


class Followed(CrKD):
    """Cr-KD that shows its teacher."""

    def auxiliary_loss(self, seen: Any, done: float) -> Tensor:
        self.before_step = [weight.clone() for weight in self.teacher.parameters()]
        value = super().auxiliary_loss(seen, done)
        self.after_step = [weight.clone() for weight in self.teacher.parameters()]
        self.student = [
            weight.detach().clone()
            for weight in (*self.network.parts.parameters(), *self.network.known.parameters())
        ]  # type: ignore[union-attr]
        return value


def test_the_teacher_stands_still_or_follows_at_its_momentum() -> None:
    SMALL[Followed] = SMALL[CrKD]
    still = _learnt(Followed)
    frozen = [weight for part in (*still.before.parts, still.before.known) for weight in part.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(still.after_step, frozen, strict=True))
    moving = _learnt(Followed, teacher_momentum=0.75)
    for before, after, student in zip(moving.before_step, moving.after_step, moving.student, strict=True):
        torch.testing.assert_close(after, 0.75 * before + 0.25 * student)


def test_a_teacher_that_follows_takes_the_statistics_of_batch_norm_along() -> None:
    """It once had the student's weights beside the statistics of stage 0."""
    strategy = _started(CrKD, Context(backbone="timm:test_resnet"), teacher_momentum=0.5)
    network = strategy.network.build((3, 32, 32), KNOWN)
    strategy.teacher = network.teacher()
    network.train()(torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    strategy.follow_student()
    assert list(strategy.teacher.buffers())
    assert all(
        torch.equal(a, b) for a, b in zip(strategy.teacher.buffers(), network.parts.buffers(), strict=True)
    )


# --- RankStats ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top", [1, 3, 5])
def test_pairs_are_alike_where_the_sets_of_their_largest_features_are_equal(top: int) -> None:
    features = torch.rand(30, 6, generator=torch.Generator().manual_seed(0))
    sets = [set(sorted(range(6), key=lambda place, row=row: -row[place])[:top]) for row in features.tolist()]  # type: ignore[misc]
    expected = [[one == other for other in sets] for one in sets]
    assert rank_pairs(features, top=top).tolist() == expected
    assert any(expected[0][1:]) or top > 1


def test_pairs_cost_the_cross_entropy_of_their_agreement() -> None:
    first, second = (
        torch.rand(4, 3, generator=torch.Generator().manual_seed(seed)).softmax(dim=1) for seed in (0, 1)
    )
    same = torch.tensor([[i == j or {i, j} == {0, 2} for j in range(4)] for i in range(4)])
    total = 0.0
    for i in range(4):
        for j in range(4):
            agreement = sum(float(first[i, c] * second[j, c]) for c in range(3))
            total -= np.log((agreement if same[i, j] else 1 - agreement) + 1e-7) / 16
    assert float(pair_cross_entropy(first, second, same)) == pytest.approx(total, rel=1e-5)


def test_more_ranks_than_features_are_all_features() -> None:
    assert _digest(_learnt(RankStats, top=99).weight) == _digest(_learnt(RankStats, top=16).weight)


def test_the_joint_rows_speak_for_all_and_learn_novel_classes_only_by_the_increment() -> None:
    for incremental, novel_known in ((0.5, True), (0.0, False)):
        strategy = _learnt(RankStats, context=Context(gradient_steps=120), incremental=incremental)
        prediction = strategy.predict(ALL)
        assert prediction.classes is not None
        agree = np.mean(prediction.classes[HIDES] - KNOWN == prediction.among_novel[HIDES, 0])
        assert (agree > 0.8) == novel_known


# --- k-means ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", CLUSTERED)
def test_k_means_answers_known_classes_as_stage_0_and_all_classes_by_the_nearest_centre(
    cls: type[NovelClasses],
) -> None:
    """Among known classes it once answered the nearest mean, and so was told to have forgotten what it never
    trained.
    """
    strategy = _started(cls, space="inputs", unit_length=False)
    strategy.learn(FIRST)
    first = strategy.predict(ALL)
    strategy.learn(SECOND)
    prediction = strategy.predict(ALL)
    np.testing.assert_array_equal(prediction.among_known, first.classes)
    assert not prediction.relation_shift.any()
    distances = np.linalg.norm(POINTS[:, None] - strategy.centres.numpy()[None], axis=2)
    np.testing.assert_array_equal(prediction.classes, distances.argmin(axis=1))
    np.testing.assert_array_equal(prediction.among_novel[:, 0], distances[:, KNOWN:].argmin(axis=1))


def test_plain_k_means_has_the_means_of_labels_and_the_clusters_of_the_others() -> None:
    strategy = _learnt(NCDKMeans, space="inputs", unit_length=False)
    for label in range(KNOWN):
        np.testing.assert_allclose(
            strategy.centres[label], POINTS[label == CLASSES].mean(axis=0), rtol=1e-5, atol=1e-6
        )
    found = sorted(map(tuple, strategy.centres[KNOWN:].tolist()))
    expected = sorted(tuple(POINTS[label == CLASSES].mean(axis=0)) for label in range(KNOWN, KNOWN + NOVEL))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_more_starts_of_k_means_end_in_tighter_clusters() -> None:
    points = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    spread = []
    for restarts in (1, 20):
        centres = _started(NCDKMeans, restarts=restarts).centres_of(
            points[:2], torch.tensor([0, 1]), points, 2, 25
        )[2:]
        spread.append(float(assign(points.numpy(), centres.numpy())[1].sum()))
    assert spread[1] < spread[0]


def test_pinned_k_means_keeps_a_labelled_item_in_its_class_wherever_it_lies() -> None:
    """A fixed point: every centre is the mean of the labelled items of its class and the unlabelled items
    nearest to it.
    """
    inputs = POINTS.copy()
    inputs[np.flatnonzero(CLASSES == 0)[:5]] = POINTS[CLASSES == 3][
        :5
    ]  # five items of class 0 amidst a novel class
    second = Stage(
        index=1, ids=ALL.ids, inputs=inputs, labels=SECOND.labels, named_classes=KNOWN, new_classes=NOVEL
    )
    strategy = _learnt(NCDPinnedKMeans, second=second, space="inputs", unit_length=False)
    nearest = assign(inputs[HIDES], strategy.centres.numpy())[0]
    for row, centre in enumerate(strategy.centres.numpy()):
        members = [*inputs[HIDES][nearest == row], *inputs[SECOND.labels == row]]
        np.testing.assert_allclose(centre, np.mean(members, axis=0), atol=1e-3)
    assert match(nearest, CLASSES[HIDES]).accuracy() == 1


# --- on digits ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Mapping[str, float]]:
    """Figures of three learners on digits, known 0 to 4 and novel 5 to 9, with a third of the preset's
    budget.
    """
    folder = tmp_path_factory.mktemp("digits")
    world = configured("scenario", "ncd[preset=digits,first_epochs=10,gradient_steps=300]")
    sealed = seal(world.deal(0), 0)
    settings = CellSettings(root_seed=0, budget=world.budget())
    found = {}
    for name, values in (("uno", {"overcluster": 0}), ("cr-kd", {"alpha": 0.02}), ("ncd-k-means", {})):
        strategy = find("strategy", name).cls(**values)
        results = run_cell(strategy, sealed.episodes, settings, scratch=folder, shared=[folder / "first.pt"])
        found[name] = world.score(
            sealed.truth, [answer for result in results for answer in result.answers]
        ).final
    return found


def test_the_relation_loss_keeps_the_relation_and_does_not_cost_known_classes(
    figures: dict[str, Mapping[str, float]],
) -> None:
    """Method card, section 12; there 0.32 to 0.39 at full budget. That it finds novel classes better is not
    asserted.
    """
    assert figures["cr-kd"]["relation_shift"] <= 0.6 * figures["uno"]["relation_shift"]
    for figure in ("known_test", "known_strict"):
        assert figures["cr-kd"][figure] >= figures["uno"][figure] - 0.02


def test_discovery_beats_k_means_on_the_features_of_stage_0(figures: dict[str, Mapping[str, float]]) -> None:
    assert (
        min(figures["cr-kd"]["novel_train"], figures["uno"]["novel_train"])
        > figures["ncd-k-means"]["novel_train"]
        > 0.3
    )
    assert figures["ncd-k-means"]["relation_shift"] == 0
    assert figures["ncd-k-means"]["known_test"] == figures["ncd-k-means"]["first_known"]
