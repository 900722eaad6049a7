"""Learners without a network: the votes and kernels of their source, and what all other items say of a label."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeContext
from noisy_problem import noisy_stage
from sklearn.datasets import load_digits
from torch import Tensor

from harness.checkpoint import kept_state
from harness.contracts import HIDDEN, Query, Stage
from harness.errors import Unsuitable
from harness.selection import configured
from strategies.components.hermite import Hermite
from strategies.noisy_labels import deep_kernel
from strategies.noisy_labels.deep_kernel import dual
from strategies.noisy_labels.hilbert import dimension

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def _learned(text: str, *stages: Stage) -> Any:
    learner = configured("strategy", text)
    learner.start(FakeContext())
    for stage in stages or (noisy_stage(),):
        learner.learn(stage)
    return learner


def _circle(angles: list[float], labels: list[int]) -> Stage:
    """Of any length: they go onto the circle."""
    return _stage(3 * np.stack([np.cos(angles), np.sin(angles)], axis=1), np.array(labels))


def _stage(inputs: Any, labels: Any) -> Stage:
    return Stage(
        index=0,
        ids=10 + np.arange(len(labels)),
        inputs=inputs.astype(np.float32),
        labels=labels,
        named_classes=int(labels.max()) + 1,
        new_classes=None,
    )


def _kept(stage: Stage) -> Query:
    return Query(ids=stage.ids, inputs=stage.inputs, tasks=None)


# --- hilbert ------------------------------------------------------------------------------------------------


def test_items_vote_by_a_power_of_their_distance() -> None:
    angles = [0.0, 0.5, 2.0, 3.0]
    learner = _learned("hilbert[alpha=3]", _circle(angles, [0, 1, 1, 2]))
    asked = torch.tensor([[math.cos(1.1), math.sin(1.1)]], dtype=torch.float64)
    votes = [(2 * math.sin(abs(1.1 - each) / 2)) ** -3 for each in angles]  # chords
    by_hand = np.array([votes[0], votes[1] + votes[2], votes[3]])
    assert np.allclose(learner.shares(asked)[0], by_hand / by_hand.max(), rtol=1e-6)
    others = learner.shares_of_others(torch.tensor([1]))[0]
    by_hand = np.array([(2 * math.sin(abs(0.5 - angles[each]) / 2)) ** -3 for each in (0, 2, 3)])
    assert np.allclose(others, by_hand / by_hand.max(), rtol=1e-6)


def test_a_large_exponent_is_the_nearest_neighbour_and_every_label_is_memorised() -> None:
    stage = noisy_stage()
    inputs = np.random.default_rng(5).normal(size=(60, 5)).astype(np.float32)
    query = Query(ids=5000 + np.arange(60), inputs=inputs, tasks=None)
    points, asked = (
        each / np.linalg.norm(each, axis=1, keepdims=True) for each in (np.asarray(stage.inputs), inputs)
    )
    nearest = np.linalg.norm(asked[:, None] - points, axis=2).argmin(axis=1)
    learner = _learned("hilbert[alpha=2000]")
    assert np.array_equal(learner.predict(query).classes, np.asarray(stage.labels)[nearest])
    for text in ("hilbert", "hilbert[alpha=0]", "deep-kernel[depth=3]", "deep-kernel[kernel=ntk,depth=2]"):
        assert np.array_equal(_learned(text, stage).predict(_kept(stage)).classes, stage.labels)


def test_the_dimension_is_that_of_the_surface_the_points_lie_on() -> None:
    rng = np.random.default_rng(0)
    for d in (2, 5):
        inside = rng.random((2000, d)) @ np.linalg.qr(rng.normal(size=(12, d)))[0].T
        assert dimension(torch.from_numpy(inside)) == pytest.approx(d, rel=0.1)
    same = torch.from_numpy(rng.random((50, 3)))
    assert dimension(torch.cat([same, same])) == dimension(same)
    assert dimension(torch.zeros(9, 2).double()) == 1


# --- deep kernel --------------------------------------------------------------------------------------------


def _quadrature(phi: Any, s: float) -> float:
    """E phi(u) phi(v) / E phi(u)^2 for standard normal u, v of correlation s."""
    u, v = NODES[:, None], s * NODES[:, None] + math.sqrt(1 - s * s) * NODES
    mean = float((WEIGHTS[:, None] * WEIGHTS * phi(u) * phi(v)).sum())
    return mean / float((WEIGHTS * phi(NODES) ** 2).sum())


@pytest.mark.parametrize(
    ("activation", "d", "tolerance"),
    [("relu", 0, 5e-3), ("erf", 0, 1e-9), ("hermite", 1, 1e-9), ("hermite", 2, 1e-9), ("hermite", 5, 1e-9)],
)
def test_correlations_are_those_of_the_activation(activation: str, d: int, tolerance: float) -> None:
    phis = {
        "relu": lambda x: np.maximum(x, 0),
        "erf": lambda x: np.vectorize(math.erf)(x),
        "hermite": lambda x: Hermite(d, scaled=False)(torch.from_numpy(x)).numpy(),
    }
    s = torch.tensor([-0.7, 0.0, 0.3, 0.9], dtype=torch.float64, requires_grad=True)
    value, slope = dual(s, activation, d)
    by_hand = [_quadrature(phis[activation], each) for each in s.tolist()]
    assert value.tolist() == pytest.approx(by_hand, abs=tolerance)
    (through,) = torch.autograd.grad(value.sum(), s)
    assert torch.allclose(slope, through, atol=1e-12)
    assert float(dual(torch.ones(1).double(), activation, d)[0]) == pytest.approx(1)


def test_a_kernel_of_one_and_two_layers_is_the_arc_cosine_one() -> None:
    """Cho and Saul 2009; the tangent kernel by Jacot, Gabriel and Hongler 2018."""
    first, second = (
        torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64) for angle in (0, 0.6)
    )

    def step(angle: float) -> tuple[float, float]:
        return (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / math.pi, (math.pi - angle) / math.pi

    one, slope = step(0.6)
    two, slope_2 = step(math.acos(one))
    tangent = one + math.cos(0.6) * slope
    for kernel, depth, expected in (
        ("nngp", 1, one),
        ("nngp", 2, two),
        ("ntk", 1, tangent),
        ("ntk", 2, two + tangent * slope_2),
    ):
        learner = configured("strategy", f"deep-kernel[activation=relu,kernel={kernel},depth={depth}]")
        assert float(learner.between(first, second)) == pytest.approx(expected, abs=1e-12)


def test_what_the_others_say_is_the_regression_without_the_item() -> None:
    stage = noisy_stage(items=20)
    learner = _learned("deep-kernel[depth=2]", stage)
    points, targets = learner.points, learner.one_hot
    for row in (0, 7):
        rest = torch.tensor([each for each in range(20) if each != row])
        kernel = learner.between(points[rest], points[rest])
        found = learner.between(points[[row]], points[rest]) @ torch.linalg.solve(kernel, targets[rest])
        assert torch.allclose(learner.left_out[row], found[0], atol=1e-6)
        asked = torch.tensor([[0.3, -0.1, 0.9, 0.2, 0.1]]).double()
    by_solving = learner.between(asked, points) @ torch.linalg.solve(learner.between(points, points), targets)
    assert torch.allclose(learner.shares(asked), by_solving.clamp_min(0), atol=1e-6)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_a_deep_hermite_kernel_falls_with_the_distance_to_its_exponent(d: int) -> None:
    """Half of a small distance is 2^d times the kernel, as with |x - x'|^-d."""
    learner = configured("strategy", f"deep-kernel[d={d},depth=60]")
    points = [[math.cos(angle), math.sin(angle)] for angle in (0, 1e-3, 2e-3, 4e-3)]
    kernel = learner.between(*(torch.tensor(each, dtype=torch.float64) for each in (points[:1], points[1:])))[
        0
    ]
    assert (kernel[:2] / kernel[1:]).tolist() == pytest.approx([2**d, 2**d], rel=1e-3)


def test_a_deep_relu_network_goes_to_the_majority() -> None:
    """The largest class has half of the items; a shallow kernel hears the items nearby, a very deep one the most."""
    rng = np.random.default_rng(0)
    stage = _stage(rng.normal(size=(24, 4)), np.array([0] * 12 + [1] * 6 + [2] * 6))
    asked = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(60, 4))))
    shares = [
        float(
            (_learned(f"deep-kernel[activation=relu,depth={depth}]", stage).shares(asked).argmax(1) == 0)
            .double()
            .mean()
        )
        for depth in (2, 3000)
    ]
    assert shares[0] < 0.7
    assert shares[1] > 0.95


# --- both ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["hilbert", "deep-kernel[depth=4]", "deep-kernel"])
def test_other_items_doubt_wrong_labels_and_the_answer_survives_a_state(text: str) -> None:
    stage = noisy_stage(items=150)
    true = np.arange(150) % 3
    learner = _learned(text, stage)
    again = configured("strategy", text)
    again.start(FakeContext())
    again.load_state(kept_state(learner.state()))
    first, second = (each.predict(_kept(stage)) for each in (learner, again))
    wrong = stage.labels != true
    assert first.suspicion is not None
    assert np.asarray(first.suspicion)[wrong].mean() > np.asarray(first.suspicion)[~wrong].mean() + 0.3
    assert np.array_equal(first.suspicion, second.suspicion)
    for each in (learner, again):
        each.learn(noisy_stage(1))
    later = noisy_stage(1)
    assert np.array_equal(learner.predict(_kept(later)).classes, later.labels)
    assert np.array_equal(again.predict(_kept(later)).classes, later.labels)


def test_benign_memorising_beats_the_nearest_neighbour_on_digits() -> None:
    digits = load_digits()
    rng = np.random.default_rng(0)
    inputs, true = digits.data[:900] / 16, digits.target[:900]
    wrong = rng.random(900) < 0.4
    stage = _stage(inputs, np.where(wrong, (true + rng.integers(1, 10, 900)) % 10, true))
    query = Query(ids=2000 + np.arange(300), inputs=(digits.data[900:1200] / 16).astype(np.float32))
    right = []
    for text in ("hilbert", "hilbert[alpha=64]", "deep-kernel"):
        learner = _learned(text, stage)
        assert np.array_equal(learner.predict(_kept(stage)).classes, stage.labels)
        right.append(float((learner.predict(query).classes == digits.target[900:1200]).mean()))
    assert min(right[0], right[2]) > right[1] + 0.1


def test_what_cannot_be_learned_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = noisy_stage()
    hidden = _stage(np.asarray(stage.inputs), np.where(np.asarray(stage.labels) == 1, HIDDEN, stage.labels))
    with pytest.raises(Unsuitable, match="learns from labels, and stage 0 hides some"):
        _learned("hilbert", hidden)
    monkeypatch.setattr(deep_kernel, "LARGEST", 40)
    with pytest.raises(Unsuitable, match="inverts a kernel of at most 40 items, and has been handed 48"):
        _learned("deep-kernel", stage)


def test_equal_items_with_different_labels_leave_the_kernel_invertible() -> None:
    stage = _stage(np.ones((4, 3)), np.array([0, 1, 1, 1]))
    found: Tensor = _learned("deep-kernel[depth=2]", stage).shares(torch.ones(1, 3).double() / 3**0.5)
    assert found[0].tolist() == pytest.approx([0.25, 0.75], abs=1e-4)
