"""A denoiser that is a proximal operator, its envelope in closed form, and the score made of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.metrics.detection import auroc, levels
from strategies.ood_scores import Seen, detector_of
from strategies.ood_scores.proximal import envelope, potential, proximal, trained


def _weights(seed: int = 0, inputs: int = 3, width: int = 7) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    shapes = {"w0": (width, inputs), "b0": (width,), "w1": (width, width), "v": (width, inputs)}
    made = {name: drawn(*shape) for name, shape in {**shapes, "b1": (width,), "w": (width,)}.items()}
    return {**made, "w1": made["w1"].exp(), "w": made["w"].exp(), "a": torch.tensor(0.3).double()}


def test_the_operator_is_the_gradient_of_the_potential_and_its_slopes_are_symmetric_and_positive() -> None:
    weights = _weights()
    y = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    (through,) = torch.autograd.grad(potential(weights, y).sum(), y)
    assert torch.allclose(proximal(weights, y), through, atol=1e-12)
    for row in y.detach():
        slopes = torch.autograd.functional.jacobian(lambda one: proximal(weights, one[None])[0], row)
        assert torch.allclose(slopes, slopes.T, atol=1e-12)
        assert float(torch.linalg.eigvalsh(slopes)[0]) >= 0.3


def test_the_potential_is_that_of_two_softplus_layers() -> None:
    weights = {name: values.numpy() for name, values in _weights().items()}
    y = np.array([0.4, -1.2, 2.0])

    def softplus(x: np.ndarray) -> np.ndarray:
        return np.log1p(np.exp(x))

    h1 = softplus(weights["w0"] @ y + weights["b0"])
    h2 = softplus(weights["w1"] @ h1 + weights["v"] @ y + weights["b1"])
    by_hand = weights["w"] @ h2 + 0.3 * (y @ y) / 2
    assert float(potential(_weights(), torch.from_numpy(y)[None])) == pytest.approx(by_hand, rel=1e-7)


def test_the_envelope_is_the_least_of_distance_and_prior() -> None:
    """R at f(z) is <z, f(z)> - |f(z)|^2 / 2 - psi(z); M(y) = min over x of |x - y|^2 / 2 + R(x), at x = f(y)."""
    weights = _weights()
    frame = {"mean": torch.zeros(3).double(), "directions": torch.eye(3).double()}
    z = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x = proximal(weights, z)
    prior = (z * x).sum(dim=1) - x.square().sum(dim=1) / 2 - potential(weights, z)
    found = envelope({**frame, **weights}, z)
    costs = torch.cdist(z, x).square() / 2 + prior
    assert torch.allclose(costs.diagonal(), found, atol=1e-10)
    assert bool((costs >= found[:, None] - 1e-10).all())


def test_trained_on_a_normal_law_it_is_the_log_density_with_noise() -> None:
    """For N(m, diag v) the noisy density is N(m, diag(v + sigma^2)), by principal directions."""
    rng = np.random.default_rng(0)
    scale = np.array([2.0, 1.0, 0.0])
    points = torch.from_numpy(5 + rng.normal(size=(4000, 3)) * scale)
    fitted = trained(
        points, dimensions=2, sigma=0.5, width=16, steps=600, draws=torch.Generator().manual_seed(0)
    )
    variances = np.array([4.0, 1.0]) / 2.5  # of mean one
    asked = rng.normal(size=(200, 3)) * scale
    unit = asked[:, :2] / np.sqrt(2.5)
    by_hand = 0.25 * (unit**2 / (variances + 0.25)).sum(axis=1) / 2
    found = envelope(fitted, torch.from_numpy(5 + asked)).numpy()
    away = (found - found.mean()) - (by_hand - by_hand.mean())
    assert np.corrcoef(found, by_hand)[0, 1] > 0.99
    assert np.abs(away).mean() < 0.2 * by_hand.std()


def _blobs(labels: list[int], seed: int) -> tuple[Seen, Tensor]:
    centres = torch.from_numpy(np.random.default_rng(9).normal(size=(5, 6)))
    of = torch.tensor(labels).repeat_interleave(60)
    noise = torch.from_numpy(np.random.default_rng(seed).normal(scale=0.2, size=(len(of), 6)))
    features = centres[of] + noise
    return Seen(features, -torch.cdist(features, centres)[:, : max(labels) + 1]), of


@pytest.mark.parametrize("centred", ["false", "true"])
def test_features_of_no_class_are_stranger_and_classes_that_are_gone_stay_known(centred: str) -> None:
    detector = detector_of(f"envelope[steps=200,width=24,dimensions=6,centred={centred}]")
    assert detector is not None
    assert not detector.is_ready
    for labels in ([0, 1], [2, 3]):
        seen, of = _blobs(labels, 0)
        detector.fit(seen, of)
    again = detector_of(f"envelope[centred={centred}]")
    assert again is not None
    again.load_state_dict(detector.state_dict())
    seen, of = _blobs([0, 1, 2, 3, 4], 1)
    seen = seen._replace(logits=seen.logits[:, :4])
    scores = detector.score(seen)
    assert np.array_equal(again.score(seen), scores)
    for old in ([0, 1], [2, 3]):
        rows = torch.isin(of, torch.tensor([*old, 4]))
        assert auroc(levels(scores[rows], (of[rows] == 4).numpy())) > 0.95
