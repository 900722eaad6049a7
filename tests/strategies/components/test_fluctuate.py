"""Features that fluctuate keep their length, and their loss is weighted as said."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from component_steps import learner_with
from noisy_problem import noisy_stage

from strategies.components.fluctuate import moved, moved_as_released
from strategies.ood_scores import Seen
from strategies.toolkit.losses.robust import cross_entropy, soft_cross_entropy
from strategies.toolkit.training.loop import Batch


def test_rows_move_by_their_share_and_keep_their_length() -> None:
    rng = np.random.default_rng(0)
    f, noise, sizes = rng.normal(size=(4, 6)), rng.normal(size=(4, 6)), np.array([0.0, 0.1, 0.5, 1.0])
    found = moved(torch.from_numpy(f), torch.from_numpy(sizes), torch.from_numpy(noise)).numpy()
    for row, start, way, size in zip(found, f, noise, sizes, strict=True):
        length = np.linalg.norm(start)
        there = start + size * length * way / np.linalg.norm(way)
        assert np.allclose(row, there * length / np.linalg.norm(there), atol=1e-12)
    assert np.allclose(found[0], f[0], atol=1e-12)


def test_released_noise_standardises_a_row_and_draws_scale_and_offset_for_every_entry() -> None:
    rng = np.random.default_rng(0)
    f, first, second = rng.normal(size=(3, 2, 5)) + 2
    found = moved_as_released(*(torch.from_numpy(each) for each in (f, first, second))).numpy()
    for i in range(2):
        mean, deviation = f[i].mean(), f[i].std(ddof=1)
        a, b = 1 + deviation * first[i], mean + deviation * second[i]
        assert np.allclose(found[i], a * (f[i] - mean) / deviation + b, atol=1e-12)


def _shown(options: str, **where: Any) -> tuple[Any, Any, Batch, Seen]:
    network = learner_with(f"fluctuate[{options}]").models[0].grow(noisy_stage())
    (one,) = network.components.parts.values()
    torch.manual_seed(0)
    batch = Batch(torch.rand(6, 5), torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6), **where)
    features = network.backbone(batch.inputs)
    return one, network, batch, Seen(features, network.head(features))


@pytest.mark.parametrize("targets", [False, True])
def test_the_term_is_what_the_loss_of_noise_differs_by_from_the_clean_one(targets: bool) -> None:
    one, network, batch, seen = _shown("noise=1", step=3, steps=12)
    if targets:
        batch = batch._replace(targets=torch.rand(6, 3).softmax(dim=1))
    draws = torch.Generator().manual_seed(int(one.context.stream(f"{one.stream_name}-3").integers(2**63)))
    sizes = torch.rand(6, generator=draws)
    noisy = network.head(moved(seen.features, sizes, torch.randn(6, 16, generator=draws)))

    def losses(logits: torch.Tensor) -> torch.Tensor:
        return (
            cross_entropy(logits, batch.labels)
            if batch.targets is None
            else soft_cross_entropy(logits, batch.targets)
        )

    by_hand = 0.75 * ((torch.exp(-sizes) * losses(noisy)).mean() - losses(seen.logits).mean())
    assert float(one.term(network, batch, seen)) == pytest.approx(float(by_hand), rel=1e-5)


def test_the_released_loss_has_one_uncertainty_for_all_and_never_ends() -> None:
    one, network, batch, seen = _shown("form=released", step=3, steps=12, epoch=3, epochs=4)
    draws = torch.Generator().manual_seed(int(one.context.stream(f"{one.stream_name}-3").integers(2**63)))
    noisy = moved_as_released(seen.features, *(torch.randn(6, 16, generator=draws) for _ in range(2)))
    s = float(noisy.std())
    uncertain = 0.5 * (math.exp(-s) * float(cross_entropy(network.head(noisy), batch.labels).mean()) + s)
    by_hand = math.exp(-0.75) * (uncertain - float(cross_entropy(seen.logits, batch.labels).mean()))
    assert float(one.term(network, batch, seen)) == pytest.approx(by_hand, rel=1e-5)


def test_noise_falls_to_nothing_unless_it_is_to_stay() -> None:
    found = {}
    for options in ("noise=1", "noise=1,always=true", "noise=1,weighted=false"):
        for step in (0, 9):
            one, network, batch, seen = _shown(options, step=step, steps=10)
            found[options, step] = float(one.term(network, batch, seen)) / (
                1 if "always" in options else 1 - step / 10
            )
    for step in (0, 9):
        assert found["noise=1", step] == pytest.approx(found["noise=1,always=true", step], rel=1e-4)
        assert found["noise=1,weighted=false", step] > found["noise=1", step]
