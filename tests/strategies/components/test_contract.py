"""What a component can do to a learner, and what is refused before anything is learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeContext, stage_of
from runs import Owb
from torch import Tensor, nn

from harness.checkpoint import kept_state
from harness.contracts import Query, Stage, Validation
from harness.errors import Unsuitable, UserError
from harness.plugins import registered
from harness.protocol.cells import addressed_components, contenders
from harness.selection import configured
from strategies.components.chain import Chain, components_of
from strategies.components.contract import Component, Rate, Task
from strategies.components.learner import TakesComponents
from strategies.components.losses import mean_cross_entropy, mean_of
from strategies.noisy_labels.loss_learners import CrossEntropy
from strategies.ood_scores import Seen
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.losses.robust import cross_entropy, generalised_cross_entropy, soft_cross_entropy
from strategies.toolkit.training.loop import Batch, train
from strategies.toolkit.training.tensors import Items

STAGE = stage_of(0, np.arange(40) % 3, 3)
SETTINGS = (
    "gns[cg=1,tries=1]",
    "fire-together[mode=joint]+crrelu",
    "region-labels[selfmix=0.5,drop=0.4]",
    "self-tuning[warmup=0,tunes=dropout+noise+smoothing]",
    "random-teacher[freeze=true]",
    "distil[teachers=1,discriminator=adversarial]",
    "pretext[kind=mixture,stages=all,width=3]",
    "aggregate[size=4,privacy=1]",
)
"""Components as they are not by default, which are cut and resumed too."""
LEARNERS = ("cross-entropy", "fine-tune", "replay", "co-teaching[forget_rate=0.2]", "elr", "loss-correction")


class Told(Component):
    """Note what every hook is given."""

    def begin(self, task: Task) -> int:
        self.passes = task.passes
        return 1

    def rates(self, network: Classifier) -> Mapping[nn.Parameter, Rate]:
        assert network.head is not None
        return {network.head.bias: Rate(lr=0.0, decay=0.0)}

    def change(self, network: Classifier, batch: Batch) -> Batch:
        return batch._replace(inputs=batch.inputs + 1, weights=torch.full((len(batch.rows),), 2.0))

    def term(self, network: Classifier, batch: Batch, seen: Seen) -> Tensor:
        assert network.head is not None
        assert torch.equal(network.backbone(batch.inputs), seen.features)
        assert torch.equal(network.head(seen.features), seen.logits)
        self.terms = getattr(self, "terms", 0) + 1
        return 0.5 * seen.logits.square().mean()

    def step(self, network: Classifier, batch: Batch, loss: Callable[[], Tensor]) -> None:
        assert torch.isfinite(loss())
        self.steps = getattr(self, "steps", 0) + 1


class OwnStep(Component):
    """Descend without the optimiser."""

    needs = frozenset({"own-step"})

    def step(self, network: Classifier, batch: Batch, loss: Callable[[], Tensor]) -> None:
        for weights in network.parameters():
            assert weights.grad is not None
            weights.data -= 0.1 * weights.grad
            weights.grad = None


class Second(OwnStep):
    """Another one."""


HERE = f"{Path(__file__)}"


def _learned(text: str, stage: Stage = STAGE, **context: Any) -> Any:
    learner = configured("strategy", text)
    learner.start(FakeContext(**context))
    learner.learn(stage)
    return learner


def _stage_of_images(index: int = 0) -> Stage:
    images = np.random.default_rng(0).random((40, 1, 8, 8)).astype(np.float32) + index
    labels = STAGE.labels + index
    held = Validation(ids=STAGE.ids[:12] + 1000, inputs=images[:12], labels=labels[:12])
    return Stage(
        index=index,
        ids=STAGE.ids + 40 * index,
        inputs=images,
        labels=labels,
        named_classes=3 + index,
        new_classes=None,
        validation=held,
    )


def _logits(learner: Any) -> Tensor:
    network = learner.models[0] if hasattr(learner, "models") else learner.model
    return network.evaluated(torch.from_numpy(np.asarray(STAGE.inputs)))


def _same(first: Any, second: Any) -> bool:
    return torch.equal(_logits(first), _logits(second))


# --- what the hooks do --------------------------------------------------------------------------------------


def test_a_rate_is_the_learners_rate_times_its_factor() -> None:
    for learner in (
        "cross-entropy",
        "fine-tune",
        "elr",
        "dividemix",
        "nested-dropout[keep_best=false,choose=full]",
    ):
        name, _, options = learner.rstrip("]").partition("[")
        said = f"{options}," if options else ""
        slow = _learned(f"{name}[{said}lr=0.1,components=rate[factor=0.5]]")
        assert _same(slow, _learned(f"{name}[{said}lr=0.05]"))


def test_no_component_moves_what_the_learner_draws() -> None:
    for learner in LEARNERS:
        name, _, options = learner.rstrip("]").partition("[")
        said = f"{options}," if options else ""
        assert _same(_learned(learner), _learned(f"{name}[{said}components=rate[factor=1]]"))


def test_every_hook_is_called_with_what_it_is_promised() -> None:
    learner = CrossEntropy(components=f"{HERE}:Told", loss="cross-entropy", weight_decay=0.0)
    learner.start(FakeContext(epochs=3))
    before = learner.models[0].grow(STAGE).head
    assert before is not None
    bias = before.bias.detach().clone()
    learner.learn(STAGE)
    network = learner.models[0]
    assert isinstance(network.components, Chain)
    (told,) = network.components.parts.values()
    # 2 passes of 5 batches, each loss taken twice
    assert (told.passes, told.steps, told.terms) == (3, 10, 20)  # type: ignore[attr-defined]
    assert network.head is not None
    assert torch.equal(network.head.bias, bias)
    again = CrossEntropy(components=f"{HERE}:Told")
    again.start(FakeContext(epochs=3))
    again.load_state(kept_state(learner.state()))
    assert isinstance(again.models[0].components, Chain)
    (kept,) = again.models[0].components.parts.values()
    assert kept.steps == 10  # type: ignore[attr-defined]
    assert _same(learner, again)


def test_what_takes_the_step_itself_leaves_none_to_the_optimiser() -> None:
    own = _learned(f"cross-entropy[lr=7,components={HERE}:OwnStep]")
    assert torch.allclose(_logits(own), _logits(_learned("cross-entropy[lr=0.1,momentum=0,weight_decay=0]")))


def test_targets_stand_for_the_expectation_of_the_loss_and_weights_multiply_it() -> None:
    rng = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(6, 3, generator=rng), torch.rand(6, 3, generator=rng).softmax(dim=1)
    weights = torch.rand(6, generator=rng)
    batch = Batch(torch.zeros(6, 1), torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6))
    soft = soft_cross_entropy(logits, targets)
    for mean in (lambda *given: mean_of(cross_entropy, *given), mean_cross_entropy):
        assert torch.equal(mean(logits, batch), torch.nn.functional.cross_entropy(logits, batch.labels)) or (
            torch.allclose(mean(logits, batch), cross_entropy(logits, batch.labels).mean())
        )
        assert torch.allclose(mean(logits, batch._replace(targets=targets)), soft.mean())
        assert torch.allclose(
            mean(logits, batch._replace(targets=targets, weights=weights)), (weights * soft).mean()
        )


@pytest.mark.parametrize("at_once", [10**6, 40, 1])
def test_any_loss_has_an_expectation_however_many_classes_are_taken_at_once(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strategies.components.losses.AT_ONCE", at_once)
    rng = torch.Generator().manual_seed(0)
    logits, targets = (torch.randn(6, 3, generator=rng, dtype=torch.float64) for _ in range(2))
    targets = targets.softmax(dim=1)
    batch = Batch(torch.zeros(6, 1), torch.zeros(6, dtype=torch.long), torch.arange(6), targets=targets)
    p = logits.softmax(dim=1)
    by_hand = (targets * (1 - p**0.7) / 0.7).sum(dim=1).mean()
    assert float(mean_of(generalised_cross_entropy, logits, batch)) == pytest.approx(
        float(by_hand), abs=1e-12
    )


def test_teachers_take_their_passes_from_the_learner_and_say_what_it_is_shown() -> None:
    counted = FakeContext(epochs=10)
    learner = configured("strategy", "cross-entropy[components=early-teacher[share=0.2,teachers=2]]")
    learner.start(counted)
    learner.learn(STAGE)
    assert counted.ended == [1, 2, 3, 4, 5, 6]  # two teachers took two passes each
    assert len(counted.probes) == 6 * 5
    (one,) = learner.models[0].components.parts.values()
    batch = Batch(torch.rand(4, 5), torch.zeros(4, dtype=torch.long), torch.arange(4))
    targets = one.change(learner.models[0], batch).targets
    by_hand = sum(teacher.evaluated(batch.inputs).softmax(dim=1) for teacher in one.trained) / 2
    assert torch.allclose(targets, by_hand)
    fresh = Classifier(FakeContext(), init=f"{one.stream_name}-1").grow(STAGE)
    assert not torch.equal(fresh.evaluated(batch.inputs), one.trained[1].evaluated(batch.inputs))
    with pytest.raises(Unsuitable, match="is left no pass to learn in: component early-teacher takes 4 of 4"):
        _learned("cross-entropy[components=early-teacher[share=0.5,teachers=2]]", epochs=4)


@pytest.mark.parametrize("name", sorted(registered("component")))
def test_with_neutral_parameters_a_learner_answers_as_without(name: str) -> None:
    neutral = registered("component")[name].load().neutral
    if neutral is None:
        return
    said = ",".join(f"{key}={str(value).lower()}" for key, value in neutral.items())
    stage = _stage_of_images()
    with_it = _learned(f"cross-entropy[components={name}[{said}]]", stage)
    without = _learned("cross-entropy", stage)
    inputs = torch.from_numpy(np.asarray(stage.inputs))
    assert torch.allclose(with_it.models[0].evaluated(inputs), without.models[0].evaluated(inputs), atol=1e-5)


@pytest.mark.parametrize("name", [*sorted({*registered("component")} - {"gns"}), *SETTINGS])
def test_a_learner_goes_on_from_its_state_and_old_rows_outlive_a_stage_boundary(name: str) -> None:
    backbone, stage = "cnn[width=8]", _stage_of_images
    images = np.asarray(stage().inputs)

    def fresh() -> Any:
        learner = configured("strategy", f"cross-entropy[components={name}]")
        learner.start(FakeContext(epochs=4, backbone=backbone))
        return learner

    whole, cut = fresh(), fresh()
    whole.learn(stage(0))
    cut.load_state(kept_state(whole.state()))
    before = whole.models[0].head
    grown = fresh()
    grown.load_state(kept_state(whole.state()))
    head = grown.models[0].grow(stage(1)).head
    assert torch.equal(head.weight[:3], before.weight)
    assert torch.equal(head.bias[:3], before.bias)
    for learner in (whole, cut):
        learner.learn(stage(1))
    query = Query(ids=STAGE.ids, inputs=images, tasks=None)
    assert torch.equal(*(each.models[0].evaluated(torch.from_numpy(images)) for each in (whole, cut)))
    assert np.array_equal(whole.predict(query).classes, cut.predict(query).classes)


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("crelu", "unknown component 'crelu'; did you mean 'crrelu'? (all: owb list components)"),
        ("crrelu+rate+crrelu", "component crrelu is there twice in 'crrelu+rate+crrelu'"),
        ("rate[factr=1]", "unknown parameter of RateMatched 'factr'; did you mean 'factor'?"),
        ("rate[factor=0]", "factor should be greater than 0, got 0 (RateMatched)"),
        (f"{HERE}:OwnStep+{HERE}:Second", f"{HERE}:OwnStep and {HERE}:Second each take the gradient steps"),
        (f"{HERE}:Seen", f"{HERE}:Seen is no component: it should be a class below Component"),
    ],
)
def test_what_is_wrong_is_one_sentence_before_anything_runs(text: str, sentence: str) -> None:
    for refuse in (components_of, lambda said: configured("strategy", f"cross-entropy[components={said}]")):
        with pytest.raises(UserError) as caught:
            refuse(text)
        assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("learner", "component", "sentence"),
    [
        ("cross-entropy", "fixed-mask", r"has items of shape \(5,\), and component fixed-mask needs images"),
        ("elr-plus", "quantise", "does not offer change, which component quantise needs"),
        ("replay", "early-teacher", "does not offer begin, which component early-teacher needs"),
        ("replay", "gns", "does not offer own-step, which component gns needs"),
        ("ps-kd", "early-teacher", "does not offer begin, which component early-teacher needs"),
    ],
)
def test_what_a_learner_does_not_offer_does_not_apply(learner: str, component: str, sentence: str) -> None:
    with pytest.raises(Unsuitable, match=sentence):
        _learned(f"{learner}[components={component}]")


class Loop(CrossEntropy):
    """A loop of its own, which calls no hook."""

    def fit(self, stage: Stage, items: Items, first: int) -> None:
        network, optimiser = self.models[0], self.new_optimiser()
        train(
            network,
            items,
            lambda batch: network(batch.inputs).logsumexp(dim=1).mean(),
            optimiser,
            self.context,
        )


class ToldLoop(Loop):
    """The same, which says what holds all the same."""

    offers = frozenset({"network", "rates"})


def test_what_a_learner_offers_is_not_inherited_past_a_loop_of_its_own() -> None:
    for learner, components, lacks in (
        ("Loop", f"{HERE}:Told", "begin"),
        ("Loop", "rate", "rates"),
        ("Loop", "quantise", "change"),
        ("ToldLoop", "quantise", "change"),
    ):
        with pytest.raises(Unsuitable, match=f"does not offer {lacks}, which component"):
            _learned(f"{HERE}:{learner}[components={components}]")
    assert not _same(_learned(f"{HERE}:Loop"), _learned(f"{HERE}:Loop[components=critical]"))
    assert not _same(_learned(f"{HERE}:ToldLoop"), _learned(f"{HERE}:ToldLoop[components=rate]"))


@pytest.mark.parametrize("name", sorted(registered("strategy")))
def test_every_learner_of_ours_declares_what_its_loop_calls(name: str) -> None:
    cls = registered("strategy")[name].load()
    if issubclass(cls, TakesComponents):
        assert cls.called() == cls.offers


def test_a_protocol_that_counts_steps_has_no_passes_to_give_away() -> None:
    with pytest.raises(
        Unsuitable, match="counts steps in this protocol, and component early-teacher takes passes"
    ):
        _learned("cross-entropy[components=early-teacher]", gradient_steps=7)


# --- keys ---------------------------------------------------------------------------------------------------


def test_a_key_has_the_code_of_components_and_nothing_where_there_are_none(tmp_path: Path) -> None:
    plain, empty, rate, both = (
        contenders([text])[0]
        for text in (
            "cross-entropy",
            "cross-entropy[components='']",
            "cross-entropy[components=rate]",
            "cross-entropy[components=rate+crrelu]",
        )
    )
    assert "components" not in plain.params
    assert empty.params == plain.params
    assert len({plain.code, rate.code, both.code}) == 3
    assert empty.code == plain.code
    file = tmp_path / "mine.py"
    text = "from strategies.components.rate import RateMatched\nclass Mine(RateMatched):\n    twice = {}\n"
    codes = []
    for number in (1, 2):
        file.write_text(text.format(number))
        codes.append(contenders([f"cross-entropy[components={file}:Mine]"])[0].code)
    assert codes[0] != codes[1]


def test_a_worker_is_told_whole_paths_and_the_folder_of_a_component_moves_no_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "from strategies.components.rate import RateMatched\nclass Mine(RateMatched): ...\n"
    )
    (one,) = contenders(["cross-entropy[components=mine.py:Mine+rate]"])
    assert one.params["components"] == "mine.py:Mine+rate"
    assert addressed_components(one)["components"] == f"{tmp_path}/mine.py:Mine+rate"
    names = []
    for text in (one.params["components"], addressed_components(one)["components"]):
        names.append([part.stream_name for part in Chain(text, FakeContext(), "init").parts.values()])
    assert names == [["init-mine.py:Mine", "init-rate"]] * 2


def test_the_list_has_them_with_their_parameters(call_owb: Owb) -> None:
    listed = call_owb("list", "components", "--json").json["components"]
    assert {*listed} == {*registered("component")}
    assert all(listed.values())
    (factor,) = call_owb("list", "rate", "--json").json["parameters"]
    assert (factor["name"], factor["default"], factor["range"]) == ("factor", 0.25, "> 0")
    assert call_owb("list", f"{HERE}:Told", "--json").json["kind"] == "component"
