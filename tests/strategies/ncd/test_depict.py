"""DEPICT: targets against loops, three depths of reconstruction, what each switch changes, and clusters that
are there to be found.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeContext
from torch import Tensor

from harness.contracts import HIDDEN, Prediction, Query, Stage
from harness.errors import Unsuitable, UserError
from harness.metrics.discovery import match
from strategies.ncd import depict
from strategies.ncd.autoencoder import Autoencoder, reconstruction_loss
from strategies.ncd.depict import DEPICT, Start, first_centres, targets

KNOWN = 2


def _answers(items: int = 12, clusters: int = 3, seed: int = 0) -> Tensor:
    logits = np.random.default_rng(seed).normal(size=(items, clusters))
    return torch.from_numpy(logits).softmax(dim=1)


# --- targets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [True, False])
def test_targets_by_loops(prior: bool) -> None:
    p = _answers().numpy()
    frequency = p.sum(axis=0) if prior else np.ones(3)
    for item, row in enumerate(p):
        squared = [row[k] ** 2 / frequency[k] for k in range(3)]
        root = [row[k] / math.sqrt(frequency[k]) for k in range(3)]
        hard = [float(max(row)) if k == int(np.argmax(squared)) else 0.0 for k in range(3)]
        expected = {
            "squared_freq": np.array(squared) / sum(squared),
            "sqrt_freq": np.array(root) / sum(root),
            "hard": np.array(hard),
        }
        for kind, wanted in expected.items():
            found = targets(torch.from_numpy(p), kind, frequency_prior=prior)[item]  # type: ignore[arg-type]
            assert found.tolist() == pytest.approx(wanted.tolist()), kind


def test_the_papers_targets_without_the_prior_are_the_answers_themselves() -> None:
    torch.testing.assert_close(targets(_answers(), "sqrt_freq", frequency_prior=False), _answers())


def test_the_papers_targets_lower_its_objective_and_more_so_than_the_sharper_ones() -> None:
    """KL(Q || P) + KL(f || u); the closed form is an approximation, for f depends on Q."""
    p = _answers(items=200)
    best = targets(p, "sqrt_freq")

    def objective(q: Tensor) -> float:
        f = q.mean(dim=0)
        return float((q * (q / p).log()).sum(dim=1).mean() + (f * (f * 3).log()).sum())

    assert objective(best) < objective(p)
    assert objective(best) < objective(targets(p, "squared_freq"))


def test_the_prior_fills_a_cluster_that_nobody_would_choose() -> None:
    p = torch.tensor([[0.9, 0.1]] * 8 + [[0.55, 0.45]] * 2)
    assert set(p.argmax(dim=1).tolist()) == {0}
    assert targets(p, "squared_freq").argmax(dim=1).tolist() == [0] * 8 + [1] * 2
    assert targets(p, "hard").argmax(dim=1).tolist() == [0] * 8 + [1] * 2
    assert set(targets(p, "squared_freq", frequency_prior=False).argmax(dim=1).tolist()) == {0}
    assert float(targets(p, "squared_freq")[9, 1]) == pytest.approx(
        (0.2025 / 1.7) / (0.2025 / 1.7 + 0.3025 / 8.3)
    )


@pytest.mark.parametrize("kind", ["squared_freq", "sqrt_freq", "hard"])
def test_an_empty_cluster_leaves_targets_finite(kind: Any) -> None:
    assert targets(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), kind).tolist() == [[1.0, 0.0], [1.0, 0.0]]


# --- the autoencoder ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 14), (1, 28, 28), (2, 33, 10), (5,), (6, 4)])
def test_every_depth_comes_back_in_its_own_shape(shape: tuple[int, ...]) -> None:
    model = Autoencoder(shape, 3, filters=4, units=7)
    prepared = model.prepared(torch.rand(2, *shape))
    encoded = model.encode(prepared)
    assert encoded.embedding.shape == (2, 3)
    assert [depth.shape for depth in model.decode(encoded.embedding)] == [
        depth.shape for depth in encoded.depths
    ]
    assert prepared.shape == ((2, 4) if shape == (6, 4) else (2, *shape))


def test_images_are_brought_to_minus_one_and_one_and_vectors_to_mean_zero_and_deviation_one() -> None:
    assert Autoencoder((1, 8, 8), 2).prepared(
        torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)
    ).flatten().tolist() == [-1, 0, 1]
    rows = 5 + 3 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    model = Autoencoder((4,), 2)
    model.measure(rows)
    prepared = model.prepared(rows)
    torch.testing.assert_close(prepared.mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)
    assert float(prepared.square().mean()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(prepared[0] - prepared[1], (rows[0] - rows[1]) / model.scale)


@pytest.mark.parametrize("shape", [(1, 7, 8), (1, 2, 8, 8), ()])
def test_other_items_are_unsuitable(shape: tuple[int, ...]) -> None:
    with pytest.raises(Unsuitable, match="from 8 x 8"):
        Autoencoder(shape, 3)


def test_the_noisy_pass_drops_values_at_input_and_first_depth_alone() -> None:
    torch.manual_seed(0)
    model = Autoencoder((1, 8, 8), 3, filters=4, noise=0.5)
    prepared = model.prepared(torch.rand(4, 1, 8, 8))
    clean, again, noisy = (model.encode(prepared, noisy=noise) for noise in (False, False, True))
    assert torch.equal(clean.embedding, again.embedding)
    assert not torch.equal(clean.embedding, noisy.embedding)
    shares = [float((depth == 0).float().mean()) for depth in noisy.depths]
    assert shares[0] == shares[2] == 0
    assert shares[1] == pytest.approx(0.5, abs=0.1)


def test_reconstruction_adds_three_depths_and_its_gradient_reaches_the_clean_pass() -> None:
    generator = torch.Generator().manual_seed(0)
    decoded, clean = (
        tuple(
            torch.randn(2, *shape, generator=generator, requires_grad=True) for shape in ((1, 3), (4,), (5,))
        )
        for _ in range(2)
    )
    value = reconstruction_loss(decoded, clean, 0.1)  # type: ignore[arg-type]
    expected = sum(
        weight * np.mean((a.detach().numpy() - b.detach().numpy()) ** 2)
        for a, b, weight in zip(decoded, clean, (1, 0.1, 0.1), strict=True)
    )
    assert float(value.detach()) == pytest.approx(float(expected))
    value.backward()  # type: ignore[no-untyped-call]
    for own, other, weight in zip(decoded, clean, (1, 0.1, 0.1), strict=True):
        assert own.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(other.grad, 2 * weight * (other - own).detach() / own.numel())
        torch.testing.assert_close(other.grad, -own.grad)


# --- the start ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["kmeans", "agglomerative"])
def test_starts_find_separate_groups(start: Start) -> None:
    places = np.array([[0, 0], [5, 0], [0, 5]], dtype=np.float32)
    points = np.repeat(places, 10, axis=0)
    centres = first_centres(points, 3, start, np.random.default_rng(0))
    assert sorted(map(tuple, centres.tolist())) == sorted(map(tuple, places.tolist()))


@pytest.mark.parametrize("start", ["kmeans", "random", "agglomerative"])
@pytest.mark.parametrize("items", [1, 2])
def test_fewer_items_than_clusters_are_a_start_too(start: Start, items: int) -> None:
    points = np.arange(2 * items, dtype=np.float32).reshape(items, 2)
    assert first_centres(points, 3, start, np.random.default_rng(0)).shape == (items, 2)


# --- the strategy -------------------------------------------------------------------------------------------


def _bright_corners(items: int, clusters: int, *, side: int = 8, seed: int = 0) -> tuple[Tensor, np.ndarray]:
    """Noisy grey images with a bright square in one of four corners; the corner is the class."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(items) % clusters)
    images = rng.uniform(0, 0.3, size=(items, 1, side, side)).astype(np.float32)
    half = side // 2
    for image, label in zip(images, labels, strict=True):
        top, left = half * (label // 2), half * (label % 2)
        image[0, top : top + half, left : left + half] += 0.6
    return torch.from_numpy(images), labels


def _stage(index: int, inputs: Tensor, labels: np.ndarray, *, named: int, new: int | None) -> Stage:
    return Stage(
        index=index,
        ids=np.arange(len(inputs)),
        inputs=inputs.numpy(),
        labels=labels.astype(np.int64),
        named_classes=named,
        new_classes=new,
    )


def _query(inputs: Tensor) -> Query:
    return Query(ids=np.arange(len(inputs)), inputs=inputs.numpy())


def _started(*, batch: int = 16, steps: int = 0, epochs: int = 3, **values: Any) -> DEPICT:
    context: Any = FakeContext(batch_size=batch, gradient_steps=steps, epochs=epochs)
    learner = DEPICT(**values)
    learner.start(context)
    torch.manual_seed(0)  # as the harness does before every stage
    return learner


def _learnt(
    inputs: Tensor, labels: np.ndarray, clusters: int, *, steps: int = 30, batch: int = 16, **values: Any
) -> DEPICT:
    """Learn a stage with labels of known classes, then one where everything is hidden but four labelled items
    of known classes.
    """
    learner = _started(batch=batch, steps=steps, **values)
    learner.learn(_stage(0, inputs[:8], np.arange(len(inputs[:8])) % KNOWN, named=KNOWN, new=KNOWN))
    both = torch.cat([inputs, torch.rand(4, *inputs.shape[1:], generator=torch.Generator().manual_seed(1))])
    given = np.concatenate([np.full(len(inputs), HIDDEN), np.arange(4) % KNOWN])
    learner.learn(_stage(1, both, given, named=KNOWN + clusters, new=clusters))
    return learner


def _novel(prediction: Prediction) -> np.ndarray:
    assert prediction.among_novel is not None
    return prediction.among_novel


def test_clusters_of_images_are_found_on_items_seen_and_unseen() -> None:
    inputs, labels = _bright_corners(200, 4)
    learner = _learnt(inputs, labels, 4, steps=150, batch=32, filters=16)
    unseen, truth = _bright_corners(100, 4, seed=1)
    for items, classes in ((inputs, labels), (unseen, truth)):
        prediction = learner.predict(_query(items))
        assert match(_novel(prediction), classes).accuracy() > 0.9
        assert _novel(prediction).dtype == np.int64
        assert prediction.classes is not None
        np.testing.assert_array_equal(prediction.classes, KNOWN + _novel(prediction))


@pytest.mark.parametrize("tokens", [0, 3])
def test_clusters_of_vectors_and_of_sets_of_vectors_are_found(tokens: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 3
    rows = (4 * np.eye(6)[labels] + 0.3 * rng.normal(size=(max(tokens, 1), 150, 6))).astype(np.float32)
    inputs = torch.from_numpy(rows[0] if not tokens else rows.transpose(1, 0, 2).copy())
    learner = _learnt(inputs, labels, 3, steps=150, batch=32, units=32)
    assert match(_novel(learner.predict(_query(inputs))), labels).accuracy() > 0.9


def test_before_clusters_are_learnt_everything_is_class_zero() -> None:
    learner = _started()
    inputs, labels = _bright_corners(6, 2)
    learner.learn(_stage(0, inputs, labels, named=2, new=2))
    prediction = learner.predict(_query(inputs))
    assert prediction.among_novel is None
    assert prediction.classes is not None
    assert prediction.classes.tolist() == [0] * 6


def test_labelled_items_change_nothing() -> None:
    inputs, labels = _bright_corners(40, 4)
    learner = _learnt(inputs, labels, 4, filters=4)
    alone = _started(steps=30, filters=4)
    alone.learn(_stage(1, inputs, np.full(40, HIDDEN), named=4, new=4))
    for name, weight in learner.network.state_dict().items():
        if name != "_extra_state":
            assert torch.equal(weight, alone.network.state_dict()[name]), name


def test_the_protocols_steps_are_taken_and_split_by_the_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, labels = _bright_corners(40, 4)
    learner = _learnt(inputs, labels, 4, steps=10, filters=4)
    told = learner.context.steps  # type: ignore[attr-defined]
    assert [step for step, _, values in told if not values] == list(range(1, 11))

    events: list[str] = []

    def seen(name: str) -> Any:
        original = getattr(depict, name)

        def call(*given: Any, **named: Any) -> Any:
            events.append(name)
            return original(*given, **named)

        return call

    for name in ("reconstruction_loss", "first_centres", "soft_cross_entropy", "targets"):
        monkeypatch.setattr(depict, name, seen(name))
    _learnt(inputs, labels, 4, steps=10, filters=4, autoencoder=0.4, fitting=0.25)
    start, turns = events.index("first_centres"), events.index("targets")
    assert events[:start].count("reconstruction_loss") == 4
    assert events[start:turns].count("soft_cross_entropy") == 3, "0.65 of ten steps end within the seventh"
    assert events[turns:].count("soft_cross_entropy") == 3


def test_epochs_count_where_no_steps_are_given() -> None:
    inputs, _ = _bright_corners(40, 4)
    learner = _started(epochs=3, filters=4)
    learner.learn(_stage(1, inputs, np.full(40, HIDDEN), named=4, new=4))
    assert learner.context.steps[-1][:2] == (9, 9)  # type: ignore[attr-defined]


SWITCHES: list[dict[str, Any]] = [
    {"target": "sqrt_freq"},
    {"target": "hard"},
    {"frequency_prior": False},
    {"reconstruction": 0.0},
    {"layer_weights": 0.0},
    {"noise": 0.0},
    {"init": "random"},
    {"init": "agglomerative"},
]


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_each_switch_changes_what_is_learnt(switch: dict[str, Any]) -> None:
    inputs, labels = _bright_corners(40, 3)
    usual, other = (
        _learnt(inputs, labels, 3, filters=4, steps=12, **values).network for values in ({}, switch)
    )
    again = _learnt(inputs, labels, 3, filters=4, steps=12).network
    prepared = usual.autoencoder.prepared(inputs)
    assert torch.equal(usual.likelihoods(prepared), again.likelihoods(prepared))
    assert not torch.allclose(usual.likelihoods(prepared), other.likelihoods(prepared), atol=1e-6)


def test_a_state_gives_the_same_answers_on_a_fresh_instance() -> None:
    rng = np.random.default_rng(0)
    for inputs in (_bright_corners(40, 3)[0], torch.from_numpy(rng.normal(size=(40, 5)).astype(np.float32))):
        learner = _learnt(inputs, np.zeros(40), 3, filters=4, units=8)
        fresh = _started(filters=4, units=8)
        fresh.load_state(learner.state())
        first, second = (one.predict(_query(inputs)) for one in (learner, fresh))
        assert first.classes is not None
        assert second.classes is not None
        np.testing.assert_array_equal(first.classes, second.classes)
        prepared = learner.network.autoencoder.prepared(inputs)
        assert torch.equal(
            learner.network.likelihoods(prepared),
            fresh.network.likelihoods(fresh.network.autoencoder.prepared(inputs)),
        )


def test_a_state_before_anything_was_clustered_can_be_loaded() -> None:
    learner, fresh = _started(), _started()
    learner.learn(_stage(0, torch.rand(4, 1, 8, 8), np.arange(4) % 2, named=2, new=2))
    fresh.load_state(learner.state())
    assert fresh.named_before == 2


def test_a_single_cluster_and_fewer_items_than_clusters_are_survived() -> None:
    inputs, labels = _bright_corners(2, 2)
    for clusters in (1, 5):
        prediction = _learnt(inputs, labels, clusters, filters=4, steps=5).predict(_query(inputs))
        assert _novel(prediction).max() < clusters


def test_an_unknown_number_of_clusters_and_labels_everywhere_are_unsuitable() -> None:
    inputs, labels = _bright_corners(6, 2)
    learner = _started()
    with pytest.raises(Unsuitable, match="stage 1 does not tell how many"):
        learner.learn(_stage(1, inputs, np.full(6, HIDDEN), named=4, new=None))
    with pytest.raises(Unsuitable, match="stage 1 has none"):
        learner.learn(_stage(1, inputs, labels, named=4, new=2))


def test_shares_that_leave_nothing_for_the_clusters_are_told() -> None:
    with pytest.raises(UserError, match=r"autoencoder \+ fitting should be below 1"):
        _started(autoencoder=0.7, fitting=0.3)
