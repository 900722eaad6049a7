"""Thresholds against a search over a grid, codes against what must fall and what must not matter."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeContext
from torch import Tensor

from harness.errors import UserError
from strategies.anomaly.encoders.by_name import encoder
from strategies.anomaly.encoders.sparse_codes import THRESHOLDS, SparseCodes, dictionary

IMAGES = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
WEIGHT = 0.05


def _envelope(a: np.ndarray) -> np.ndarray:
    """CEL0 of unit columns over its weight (Soubies, Blanc-Feraud and Aubert 2015)."""
    edge = math.sqrt(2 * WEIGHT)
    found: np.ndarray = 1 - 0.5 * (np.abs(a) - edge) ** 2 / WEIGHT * (np.abs(a) <= edge)
    return found


PENALTIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "soft": np.abs,
    "half": lambda a: np.sqrt(np.abs(a)),
    "hard": lambda a: (a != 0).astype(float),
    "cel0": _envelope,
}


@pytest.mark.parametrize("name", THRESHOLDS)
@pytest.mark.parametrize("step", [0.1, 0.6])
def test_a_threshold_is_the_minimum_of_its_penalty(name: str, step: float) -> None:
    """No point of a fine grid is better, up to the grid's width."""
    grid = np.linspace(-1.5, 1.5, 30001)
    grid[15000] = 0.0
    u = torch.linspace(-1.3, 1.3, 53, dtype=torch.float64)
    found = THRESHOLDS[name](u, step, WEIGHT).numpy()
    for own, a in zip(u.tolist(), found, strict=True):
        best = ((own - grid) ** 2 / 2 + step * WEIGHT * PENALTIES[name](grid)).min()
        ours = (own - a) ** 2 / 2 + step * WEIGHT * PENALTIES[name](np.array([a]))[0]
        assert ours <= best + 1e-9
    assert (np.sign(found) * np.sign(u.numpy()) >= 0).all()


def test_columns_have_unit_length_and_no_mean_and_span_all_patches_without_one() -> None:
    atoms = dictionary(12)
    assert atoms.shape == (64, 143)
    torch.testing.assert_close(atoms.norm(dim=0), torch.ones(143, dtype=torch.float64))
    assert float(atoms.mean(dim=0).abs().max()) < 1e-12
    assert int(torch.linalg.matrix_rank(atoms)) == 63
    plain = dictionary(8)  # the discrete cosine transform itself
    torch.testing.assert_close(plain.T @ plain, torch.eye(63, dtype=torch.float64))


def _objective(made: SparseCodes, items: Tensor, codes: Tensor, name: str) -> float:
    left = (items - codes @ made.atoms.T).square().sum() / 2
    return float(left) + WEIGHT * float(PENALTIES[name](codes.numpy()).sum())


@pytest.mark.parametrize("name", THRESHOLDS)
def test_no_step_makes_the_objective_worse(name: str) -> None:
    items = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    items = (items - items.mean(dim=1, keepdim=True)) / 2
    values = []
    for steps in (1, 2, 5, 20, 50):
        made = SparseCodes((1, 8, 8), threshold=name, weight=WEIGHT, steps=steps)
        values.append(_objective(made, items, made.coded(items), name))
    assert all(later <= before + 1e-5 for before, later in itertools.pairwise(values))
    assert values[-1] < _objective(made, items, torch.zeros(5, 143), name)


def test_orthogonal_columns_give_the_threshold_of_the_products() -> None:
    """D'D = I: after enough steps each code is the minimum of its own scalar problem, prox at step 1."""
    items = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)) / 8
    items = items - items.mean(dim=1, keepdim=True)
    made = SparseCodes((1, 8, 8), threshold="soft", weight=WEIGHT, frequencies=8)
    torch.testing.assert_close(made.coded(items), THRESHOLDS["soft"](items @ made.atoms, 1.0, WEIGHT))


def test_the_other_penalties_use_fewer_atoms_than_soft() -> None:
    items = torch.randn(20, 64, generator=torch.Generator().manual_seed(0))
    items = (items - items.mean(dim=1, keepdim=True)) / items.norm(dim=1, keepdim=True)
    used = {
        name: int((SparseCodes((1, 8, 8), threshold=name, weight=WEIGHT).coded(items) != 0).sum())
        for name in THRESHOLDS
    }
    assert used["hard"] < used["cel0"] < used["soft"]
    assert used["half"] < used["soft"]


def _made(name: str, shape: tuple[int, ...] = (3, 16, 24)) -> Any:
    return encoder(FakeContext(backbone=name), shape)


def test_tokens_stand_on_the_grid_of_gabor() -> None:
    made = _made("sparse-codes")
    tokens = made.encode(IMAGES.mul(255).byte().numpy())
    assert (made.grid, made.groups, made.channels, made.digest) == ((4, 6), 1, 144, "")
    assert tokens.shape == (2, 1, 24, 144)
    assert bool((tokens >= 0).all())
    assert _made("sparse-codes[threshold=soft,frequencies=9]").channels == 81


def test_a_token_is_the_mean_of_the_codes_of_its_four_patches() -> None:
    made = SparseCodes((3, 16, 24))
    grey = IMAGES.mean(dim=1)[0].numpy()
    mirrored = np.pad(grey, 3, mode="reflect")
    codes = []
    for down in (4, 6):
        for across in (8, 10):  # the patches of the token in row 1, column 2
            patch = mirrored[down : down + 8, across : across + 8].ravel()
            patch = patch - patch.mean()
            codes.append(made.coded(torch.from_numpy(patch / (np.linalg.norm(patch) + 8 / 255))).abs())
    token = made(IMAGES)[0, 0, 1 * 6 + 2]
    torch.testing.assert_close(token[:-1], torch.stack(codes).mean(dim=0).float(), atol=1e-5, rtol=1e-4)
    assert float(token[-1]) == pytest.approx(float(grey[4:8, 8:12].mean()), rel=1e-5)


def test_brightness_moves_the_last_channel_alone_and_a_blank_image_has_no_codes() -> None:
    made = SparseCodes((3, 16, 24))
    dark, light = made(IMAGES / 2), made(IMAGES / 2 + 0.3)
    torch.testing.assert_close(light[..., :-1], dark[..., :-1], atol=1e-4, rtol=0)
    torch.testing.assert_close(light[..., -1], dark[..., -1] + 0.3)
    assert not made(torch.full((1, 3, 16, 24), 0.5))[..., :-1].any()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sparse-codes[threshold=sofd]", "did you mean 'soft'"),
        ("sparse-codes[weight=-1]", "weight of encoder sparse-codes should be at least 0, got -1"),
        ("sparse-codes[frequencies=1]", "at least 2 frequencies, got 1"),
        ("sparse-codes[step=3]", "did you mean 'steps'"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(UserError) as refused:
        _made(text)
    assert says in str(refused.value)
