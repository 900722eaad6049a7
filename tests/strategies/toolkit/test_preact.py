"""The pre-activation ResNet-18 of ELR+ and DivideMix, and that of pytorch-cifar, against the two written with
functions alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import FakeContext
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv2d

from harness.errors import UserError
from leaderboards.papers.preset import names, preset
from strategies.toolkit.networks import backbone

NAME = "preact-resnet18-cifar"
FORMS = ("identity", "normed")
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def _made(*options: str, channels: int = 3) -> Any:
    return backbone(
        FakeContext(backbone=f"{NAME}[{','.join(options)}]" if options else NAME), (channels, 32, 32)
    ).eval()


@pytest.fixture(scope="module")
def tensors() -> dict[str, dict[str, Tensor]]:
    """Return the tensors of both forms, with batch norms that are no identities."""
    torch.manual_seed(1)
    found = {}
    for form in FORMS:
        state = _made(f"form={form}").model.state_dict()
        found[form] = {
            name: torch.rand_like(value) / 2 + 0.75 if value.ndim == 1 else value
            for name, value in state.items()
        }
    return found


def _normed(t: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean, variance, scale, shift = (
        t[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return batch_norm(x, mean, variance, scale, shift).clamp_min(0)


def _features(t: dict[str, Tensor], form: str, images: Tensor) -> Tensor:
    """Return features as the two programs compute them, read from the weights alone."""
    x = conv2d(images, t["conv1.weight"], padding=1)
    if form == "normed":
        x = _normed(t, "bn1", x)
    for stage in range(1, 5):
        for block in range(2):
            at = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            active = _normed(t, f"{at}.bn1", x)
            y = conv2d(active, t[f"{at}.conv1.weight"], stride=stride, padding=1)
            y = conv2d(_normed(t, f"{at}.bn2", y), t[f"{at}.conv2.weight"], padding=1)
            same = active if form == "normed" else x
            x = y + (conv2d(active, t[f"{at}.shortcut.0.weight"], stride=2) if stride == 2 else same)
    return x.mean(dim=(2, 3))


@pytest.mark.parametrize("trainable", ["all", "last", "blocks-3", "blocks-8", "head"])
@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_it_gives_what_its_weights_give_by_hand(
    form: str, trainable: str, tensors: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    torch.save(
        {"state_dict": tensors[form] | {"linear.weight": torch.ones(10, 512), "linear.bias": torch.ones(10)}},
        tmp_path / "w.pth",
    )
    network = _made(f"form={form}", f"weights={tmp_path / 'w.pth'}", f"trainable={trainable}")
    expected = _features(tensors[form], form, IMAGES)
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(network(IMAGES), expected, rtol=1e-4, atol=1e-5)
    composed = IMAGES
    for part in network.parts():
        composed = part(composed)
    torch.testing.assert_close(composed, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        network(IMAGES[:, :, :18, :18]),
        _features(tensors[form], form, IMAGES[:, :, :18, :18]),
        rtol=1e-4,
        atol=1e-5,
    )


@torch.no_grad()
def test_the_two_forms_are_not_the_same_function(tensors: dict[str, dict[str, Tensor]]) -> None:
    with_both = tensors["normed"]
    assert not torch.allclose(
        _features(with_both, "identity", IMAGES), _features(with_both, "normed", IMAGES), rtol=0.1
    )


def _counted() -> int:
    """Return the weights of the form without a norm behind its stem and of a linear head for ten classes,
    counted by layer.
    """
    stem, total = 3 * 64 * 9, 0
    before = 64
    for width in (64, 128, 256, 512):
        first = (
            2 * before
            + before * width * 9
            + 2 * width
            + width * width * 9
            + (before * width if before != width else 0)
        )
        total += first + 2 * (2 * width + width * width * 9)
        before = width
    return stem + total + 512 * 10 + 10


def test_the_weights_are_as_many_as_counted_by_hand() -> None:
    assert _counted() == 11_171_146
    head = nn.Linear(512, 10)
    for form, more in (("identity", 0), ("normed", 2 * 64)):
        assert (
            sum(weight.numel() for weight in [*_made(f"form={form}").parameters(), *head.parameters()])
            == 11_171_146 + more
        )
    grey = sum(weight.numel() for weight in _made(channels=1).parameters())
    assert grey == sum(weight.numel() for weight in _made().parameters()) - 2 * 64 * 9


def test_its_last_block_trains_and_the_others_stand_still() -> None:
    network = _made("trainable=last").train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network(IMAGES).square().sum().backward()
    assert all(
        (weight.grad is not None) == name.startswith("pieces.1.")
        for name, weight in network.named_parameters()
    )
    moved = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved and all(
        name.startswith("pieces.1.") for name in moved
    )  # running means of the last block alone
    block = 2 * 512 * 512 * 9 + 4 * 512
    assert sum(weight.numel() for weight in network.parameters() if weight.requires_grad) == block


def test_mistakes_are_told() -> None:
    with pytest.raises(
        UserError, match="form of preact-resnet18-cifar should be identity or normed, got 'last'"
    ):
        _made("form=last")
    with pytest.raises(
        UserError, match="preact-resnet18-cifar has 8 blocks, so trainable=blocks-9 asks for too many"
    ):
        _made("trainable=blocks-9")


def test_elr_plus_on_cifar_runs_on_the_network_of_its_code() -> None:
    papers = [name for name in names() if name.startswith("paper/elr-plus-cifar")]
    assert len(papers) == 3
    for name in papers:
        assert all(f"backbone={NAME}[form=normed]" in scenario for scenario in preset(name).suite.scenarios)
