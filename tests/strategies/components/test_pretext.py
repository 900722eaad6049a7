"""What is fitted to inputs alone: closed forms, EM by hand, and what the learner takes from it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from component_steps import begun, learner_with
from noisy_problem import noisy_stage
from scipy.stats import multivariate_normal, norm

from harness.errors import Unsuitable
from strategies.components.latent import Factors, Mixture, factors_of, mixture_of
from strategies.components.pretext import info_nce

KINDS = ("denoise", "contrastive", "factor[width=3]", "mixture[width=3]")


def _options(kind: str) -> str:
    name, _, options = kind.rstrip("]").partition("[")
    return f"kind={name},{options}".rstrip(",")


def test_factors_are_the_likeliest_and_their_features_the_mean_of_the_posterior() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)) + 3
    found = factors_of(torch.from_numpy(inputs), 2)
    mean, w, s = (each.numpy() for each in found)
    covariance = np.cov(inputs.T, bias=True)
    values = np.sort(np.linalg.eigvalsh(covariance))[::-1]
    assert np.allclose(mean, inputs.mean(axis=0), atol=1e-9)
    assert float(s) == pytest.approx(values[2:].mean(), abs=1e-9)
    assert np.allclose(np.sort(np.linalg.eigvalsh(w.T @ w))[::-1], values[:2] - s, atol=1e-9)

    def likelihood(weights: np.ndarray) -> float:
        law = multivariate_normal(mean, weights @ weights.T + s * np.eye(5))
        return float(law.logpdf(inputs).mean())

    best = likelihood(w)
    assert all(likelihood(w + 0.05 * rng.normal(size=w.shape)) < best for _ in range(20))
    whole = np.linalg.inv(w @ w.T + s * np.eye(5))
    posterior = (inputs - mean) @ whole @ w  # Gauss's formula by the covariance of x, of the other size
    assert np.allclose(found.features(torch.from_numpy(inputs)), posterior, atol=1e-9)


def test_the_sign_of_a_factor_does_not_depend_on_the_solver() -> None:
    inputs = torch.from_numpy(np.random.default_rng(1).normal(size=(50, 4)) * [4, 3, 2, 1])
    weights = factors_of(inputs, 2).weights
    assert bool((weights.gather(0, weights.abs().argmax(dim=0, keepdim=True)) > 0).all())
    assert isinstance(factors_of(inputs.float().view(50, 2, 2), 3), Factors)


def test_a_round_of_em_is_the_one_of_loops_and_never_loses_likelihood() -> None:
    rng = np.random.default_rng(0)
    inputs = np.concatenate([rng.normal(size=(30, 2)), rng.normal(size=(30, 2)) * 0.3 + [4, 0]])
    x = torch.from_numpy(inputs)
    first = mixture_of(x, 2, 0, torch.Generator().manual_seed(0))
    second = mixture_of(x, 2, 1, torch.Generator().manual_seed(0))
    shares, means, variances = (each.numpy() for each in first)
    density = np.stack(
        [shares[k] * norm.pdf(inputs, means[k], variances[k] ** 0.5).prod(axis=1) for k in range(2)], 1
    )
    assert np.allclose(first.logs(x), np.log(density), atol=1e-9)
    given = density / density.sum(axis=1, keepdims=True)
    for k in range(2):
        own = np.average(inputs, axis=0, weights=given[:, k])
        spread = np.average((inputs - own) ** 2, axis=0, weights=given[:, k])
        assert np.allclose(second.means[k], own, atol=1e-9)
        assert np.allclose(second.variances[k], spread, atol=1e-9)
        assert float(second.shares[k]) == pytest.approx(given[:, k].mean())
    likelihoods = [
        float(mixture_of(x, 2, rounds, torch.Generator().manual_seed(0)).logs(x).logsumexp(dim=1).mean())
        for rounds in range(12)
    ]
    assert likelihoods == sorted(likelihoods)
    last = mixture_of(x, 2, 30, torch.Generator().manual_seed(0))
    assert isinstance(last, Mixture)
    assert sorted(last.means[:, 0].round().tolist()) == [0, 4]


def test_info_nce_is_the_mean_over_both_directions() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 4, 3))
    a, b = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (first, second))
    by_hand = 0.0
    for i in range(4):
        for one, other in ((a, b), (b, a)):
            shares = np.exp([one[i] @ other[j] / 0.1 for j in range(4)])
            by_hand -= np.log(shares[i] / shares.sum()) / 8
    assert float(info_nce(torch.from_numpy(first), torch.from_numpy(second))) == pytest.approx(
        by_hand, abs=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_encoder_is_fitted_at_the_first_stage_to_inputs_and_to_no_label(kind: str) -> None:
    def after(stage: Any, options: str = "") -> tuple[Any, Any, Any]:
        learner = learner_with(f"pretext[{_options(kind)}{options}]", epochs=10, augmentations="noise")
        one, network = begun(learner, stage)
        return one, network, learner

    stage = noisy_stage()
    one, network, learner = after(stage)
    assert one.passes_taken == (1 if kind.startswith("factor") else 3)
    other_labels = replace(stage, labels=np.roll(stage.labels, 1), validation=None)
    _, same, _ = after(other_labels)
    untouched = learner_with("").models[0].grow(stage)
    moved = 0
    for name, values in network.named_parameters():
        assert torch.equal(values, same.get_parameter(name))
        moved += int(not torch.equal(values, untouched.get_parameter(name)))
        assert values.grad is None
    assert moved == (1 if kind.startswith("factor") else 4)  # the two layers of the backbone, not the head
    before = copy.deepcopy(network.backbone.state_dict())
    again, _ = begun(learner, noisy_stage(1))
    assert again.passes_taken == 0
    assert all(torch.equal(values, before[name]) for name, values in network.backbone.state_dict().items())
    _, _, every = after(stage, ",stages=all,freeze=true")
    again, network = begun(every, noisy_stage(1))
    assert again.passes_taken
    assert {*again.rates(network)} == {*network.backbone.parameters()}


def test_a_first_layer_starts_with_the_factors_at_its_own_size() -> None:
    stage = noisy_stage()
    _, network = begun(
        learner_with("pretext[kind=factor,width=2]+compander[learned=true]"), stage, which="pretext"
    )
    _, plain = begun(learner_with("pretext[kind=factor,width=2]"), stage)
    rows = factors_of(torch.from_numpy(np.asarray(stage.inputs)), 2).weights.T.float()
    weights = plain.backbone.layers[1].weight
    start = learner_with("").models[0].grow(stage).backbone.layers[1].weight
    assert torch.allclose(weights[:2] / rows, weights[0, 0] / rows[0, 0], rtol=1e-4)
    assert float(weights[:2].std()) == pytest.approx(float(start.std()), rel=1e-4)
    assert torch.equal(weights[2:], start[2:])
    assert torch.allclose(network.backbone.layers[1].weight, weights, atol=1e-6)


def test_what_cannot_be_fitted_is_refused() -> None:
    for options, context, sentence in (
        (
            "kind=contrastive",
            {},
            r"has no augmentation in this protocol, whose views pretext\[kind=contrastive\]",
        ),
        ("kind=factor", {}, "has a first layer 5 -> 16, too small for width=16 of component pretext"),
        ("kind=factor", {"backbone": "linear"}, "has no first layer that reads all 5 numbers of an input"),
        ("share=0.9", {"epochs": 2}, "is left no pass to learn in: component pretext takes 2 of 2"),
    ):
        with pytest.raises(Unsuitable, match=sentence):
            begun(learner_with(f"pretext[{options}]", **context), noisy_stage())
