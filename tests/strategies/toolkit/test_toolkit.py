"""The toolkit against hand calculation and plain second implementations."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from fakes import FakeContext, stage_of
from torch import nn
from torch.nn.functional import cross_entropy

from harness.contracts import Query
from harness.errors import Diverged, UserError
from strategies.class_incremental.buffer import Buffer
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.networks import backbone
from strategies.toolkit.training.loop import Batch, batch_sizes, constant, cosine, sgd, train
from strategies.toolkit.training.tensors import Items, as_tensor

# --- training -----------------------------------------------------------------------------------------------


def _data(items: int = 30) -> Items:
    generator = torch.Generator().manual_seed(0)
    return Items(torch.randn(items, 5, generator=generator), torch.randint(3, (items,), generator=generator))


def test_the_loop_takes_the_same_steps_as_a_bare_one() -> None:
    context, items = FakeContext(), _data()
    torch.manual_seed(0)
    ours, bare = nn.Linear(5, 3), nn.Linear(5, 3)
    bare.load_state_dict(ours.state_dict())
    train(
        ours,
        items,
        lambda batch: cross_entropy(ours(batch.inputs), batch.labels),
        sgd(ours.parameters(), lr=0.1, momentum=0.9),
        context,
    )
    optimiser = torch.optim.SGD(bare.parameters(), lr=0.1, momentum=0.9)
    rng = context.stream("batches")
    for _ in range(2):
        order = torch.from_numpy(rng.permutation(30))
        for rows in (order[:8], order[8:16], order[16:24], order[24:]):
            optimiser.zero_grad()
            cross_entropy(bare(items.inputs[rows]), items.labels[rows]).backward()
            optimiser.step()
    torch.testing.assert_close(ours.weight, bare.weight)
    assert context.begun == [0] and context.probes == list(range(1, 9))
    assert context.ended == [1, 2]
    assert [step for step, _, _ in context.steps if step] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
    assert all(total == 8 for _, total, _ in context.steps)


@pytest.mark.parametrize(
    ("items", "size", "expected"),
    [(10, 4, [4, 4, 2]), (9, 4, [4, 5]), (8, 4, [4, 4]), (1, 4, [1]), (3, 1, [1, 1, 1])],
)
def test_batches_cover_every_item_and_none_but_a_lone_item_is_alone(
    items: int, size: int, expected: list[int]
) -> None:
    assert batch_sizes(items, size) == expected


def test_rows_say_which_items_are_in_a_batch() -> None:
    items, model = _data(), nn.Linear(5, 3)
    seen: Counter[int] = Counter()

    def loss(batch: Batch) -> torch.Tensor:
        seen.update(batch.rows.tolist())
        torch.testing.assert_close(batch.inputs, items.inputs[batch.rows])
        return model(batch.inputs).sum()

    train(model, items, loss, sgd(model.parameters(), lr=0.0), FakeContext())
    assert seen == Counter(dict.fromkeys(range(30), 2))


def test_a_schedule_scales_the_rate_of_every_step() -> None:
    context, model = FakeContext(epochs=1, batch_size=10), nn.Linear(1, 1, bias=False)
    optimiser = sgd(model.parameters(), lr=2.0)
    rates = []

    def loss(batch: Batch) -> torch.Tensor:
        rates.append(optimiser.param_groups[0]["lr"])
        return model(batch.inputs[:, :1]).sum() * 0

    train(model, _data(), loss, optimiser, context, schedule=lambda done: 1 - done)
    assert rates == pytest.approx([2.0, 4 / 3, 2 / 3])
    assert (constant(0.7), cosine(0.0), cosine(0.5)) == pytest.approx((1.0, 1.0, 0.5))


def test_the_gradient_is_clipped_to_a_norm() -> None:
    model = nn.Linear(5, 1, bias=False)
    before = model.weight.detach().clone()
    train(
        model,
        _data(),
        lambda batch: 1000 * model(batch.inputs).sum(),
        sgd(model.parameters(), lr=1.0),
        FakeContext(epochs=1, batch_size=30),
        clip_norm=0.25,
    )
    assert float((model.weight.detach() - before).norm()) == pytest.approx(0.25, rel=1e-4)


def test_a_method_may_change_gradients_and_weights_between_the_backward_pass_and_the_step() -> None:
    """The loss 3 w has the gradient 3; doubled, and then clipped to 5, a step at rate 1 takes 5 off."""
    model = nn.Linear(1, 1, bias=False)
    start, seen = float(model.weight), []

    def double(batch: Batch) -> None:
        assert model.weight.grad is not None
        seen.append((float(model.weight), float(model.weight.grad), batch.step))
        model.weight.grad *= 2

    train(
        model,
        _data(),
        lambda batch: 3 * model(torch.ones(1, 1)).sum(),
        sgd(model.parameters(), lr=1.0),
        FakeContext(epochs=1, batch_size=15),
        clip_norm=5.0,
        before_step=double,
    )
    assert seen == [(pytest.approx(start), 3.0, 0), (pytest.approx(start - 5), 3.0, 1)]
    assert float(model.weight) == pytest.approx(start - 10, rel=1e-5)


def test_a_loss_that_is_not_a_number_is_divergence() -> None:
    model = nn.Linear(5, 3)
    with pytest.raises(Diverged, match="loss is nan in epoch 1 of 2"):
        train(
            model,
            _data(),
            lambda batch: model(batch.inputs).sum() * math.nan,
            sgd(model.parameters(), lr=1.0),
            FakeContext(),
        )


def test_bfloat16_runs_the_forward_pass_in_bfloat16_and_keeps_float32_weights() -> None:
    model, kinds = nn.Linear(5, 3), set()

    def loss(batch: Batch) -> torch.Tensor:
        logits = model(batch.inputs)
        kinds.add(logits.dtype)
        return cross_entropy(logits.float(), batch.labels)

    train(model, _data(), loss, sgd(model.parameters(), lr=0.1), FakeContext(precision="bfloat16"))
    assert kinds == {torch.bfloat16}
    assert model.weight.dtype == torch.float32


# --- classifier ---------------------------------------------------------------------------------------------


def test_growing_keeps_what_the_old_rows_say() -> None:
    model = Classifier(FakeContext())
    model.grow(stage_of(0, np.array([0, 1, 0]), 2))
    inputs = torch.randn(4, 5)
    before = model(inputs)
    model.grow(stage_of(1, np.array([2, 3, 4]), 5))
    after = model(inputs)
    assert after.shape == (4, 5)
    torch.testing.assert_close(after[:, :2], before)
    assert model.task_of == [0, 0, 1, 1, 1]


def test_a_state_loads_into_an_empty_classifier() -> None:
    model = (
        Classifier(FakeContext())
        .grow(stage_of(0, np.array([0, 1]), 2))
        .grow(stage_of(1, np.array([2, 2]), 3))
    )
    other = Classifier(FakeContext())
    other.load_state_dict(model.state_dict())
    inputs = torch.randn(4, 5)
    torch.testing.assert_close(other(inputs), model(inputs), rtol=0, atol=0)
    assert other.task_of == model.task_of
    empty = Classifier(FakeContext())
    empty.load_state_dict(Classifier(FakeContext()).state_dict())
    assert empty.task_of == []


def test_a_snapshot_does_not_follow_the_model() -> None:
    model = Classifier(FakeContext()).grow(stage_of(0, np.array([0, 1]), 2))
    copy = model.snapshot()
    inputs = torch.randn(4, 5)
    before = copy(inputs)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1)
    torch.testing.assert_close(copy(inputs), before, rtol=0, atol=0)
    assert not any(weight.requires_grad for weight in copy.parameters())


def test_a_told_task_leaves_only_its_classes() -> None:
    model = (
        Classifier(FakeContext())
        .grow(stage_of(0, np.array([0, 1]), 2))
        .grow(stage_of(1, np.array([2, 3]), 4))
    )
    inputs = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
    tasks = np.arange(50) % 3  # task 2 is not known yet: any known class may be answered
    classes = model.answer(Query(ids=np.arange(50), inputs=inputs, tasks=tasks)).classes
    assert classes is not None
    assert set(classes[tasks == 0]) <= {0, 1}
    assert set(classes[tasks == 1]) <= {2, 3}
    assert set(classes[tasks == 2]) <= {0, 1, 2, 3}


def test_answers_do_not_depend_on_the_chunk() -> None:
    model = Classifier(FakeContext()).grow(stage_of(0, np.array([0, 1, 2]), 3))
    query = Query(ids=np.arange(40), inputs=np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32))
    inputs = as_tensor(query.inputs, "cpu")
    torch.testing.assert_close(model.evaluated(inputs, chunk=7), model.evaluated(inputs))


# --- backbones ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "features"),
    [
        ("mlp", (1, 8, 8), 128),
        ("mlp[width=7,depth=3]", (5,), 7),
        ("cnn[width=8]", (3, 20, 20), 32),
        ("timm:resnet10t", (3, 32, 32), 512),
    ],
)
def test_a_backbone_gives_as_many_features_as_it_says(
    name: str, shape: tuple[int, ...], features: int
) -> None:
    network = backbone(FakeContext(backbone=name), shape)
    network.eval()
    assert network(torch.zeros(2, *shape)).shape == (2, features)
    assert network.features == features


def test_a_backbone_is_drawn_from_the_stream_and_from_nothing_else() -> None:
    torch.manual_seed(0)
    first, state = backbone(FakeContext(), (5,)), torch.get_rng_state()
    torch.manual_seed(1)
    second = backbone(FakeContext(), (5,))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("mpl", "unknown backbone 'mpl'; did you mean 'mlp'?"),
        ("mlp[widht=3]", "unknown parameter of backbone mlp 'widht'; did you mean 'width'?"),
        ("timm:resnet81", "unknown timm model 'resnet81'; did you mean 'resnet"),
    ],
)
def test_a_wrong_backbone_gets_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        backbone(FakeContext(backbone=name), (3, 32, 32))
    assert str(caught.value).startswith(sentence)


def test_images_become_floats_between_zero_and_one() -> None:
    tensor = as_tensor(np.array([[0, 255]], dtype=np.uint8), "cpu")
    assert tensor.tolist() == [[0.0, 1.0]]


# --- buffer -------------------------------------------------------------------------------------------------


def test_a_balanced_buffer_gives_every_class_its_share() -> None:
    buffer, rng = Buffer(10), np.random.default_rng(0)
    for first in (0, 2):
        labels = torch.arange(first, first + 2).repeat(20)
        buffer.balance(Items(labels[:, None].float(), labels), rng)
    assert buffer.items is not None
    assert Counter(buffer.items.labels.tolist()) == {0: 3, 1: 3, 2: 2, 3: 2}
    torch.testing.assert_close(buffer.items.inputs[:, 0], buffer.items.labels.float())


def test_a_reservoir_keeps_every_item_of_the_stream_with_the_same_chance() -> None:
    counts = np.zeros(50)
    rng = np.random.default_rng(0)
    runs = 2000
    for _ in range(runs):
        buffer = Buffer(10)
        for part in torch.arange(50).split(8):
            buffer.flow(part[:, None].float(), part, part[:, None].float(), rng)
        assert buffer.items is not None
        kept = buffer.items.labels.numpy()
        assert len(set(kept)) == 10
        counts[kept] += 1
    expected = runs * 10 / 50
    chi_square = float(np.sum((counts - expected) ** 2 / (expected * (1 - 10 / 50))))
    assert chi_square < 49 + 4 * math.sqrt(
        2 * 49
    )  # four standard deviations of a chi-square with 49 degrees of freedom


def test_logits_stored_before_a_class_existed_say_nothing_about_it() -> None:
    buffer, rng = Buffer(4), np.random.default_rng(0)
    buffer.flow(torch.zeros(2, 1), torch.zeros(2, dtype=torch.long), torch.ones(2, 2), rng)
    buffer.flow(torch.zeros(2, 1), torch.full((2,), 2), torch.ones(2, 3), rng)
    drawn = buffer.draw(4, rng)
    assert drawn.logits is not None
    by_label = {int(label): row for label, row in zip(drawn.labels, drawn.logits, strict=True)}
    assert by_label[0][:2].tolist() == [1.0, 1.0]
    assert math.isnan(by_label[0][2])
    assert by_label[2].tolist() == [1.0, 1.0, 1.0]


def test_a_buffer_comes_back_from_its_state() -> None:
    buffer, rng = Buffer(4), np.random.default_rng(0)
    buffer.flow(torch.rand(6, 3), torch.arange(6), torch.rand(6, 2), rng)
    other = Buffer(4)
    other.load_state_dict(buffer.state_dict())
    first, second = buffer.draw(4, np.random.default_rng(1)), other.draw(4, np.random.default_rng(1))
    assert all(
        torch.equal(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None
    )
    assert other.seen == 6
