"""VGG-19 against torchvision's convolutions, its published size, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear, relu
from torchvision.models.vgg import cfgs, make_layers  # type: ignore[import-untyped]

from harness.errors import UserError
from harness.networks import maker
from strategies.toolkit.networks import VGG19


def test_features_are_those_of_torchvisions_convolutions_and_two_connected_layers() -> None:
    torch.manual_seed(0)
    network = VGG19((3, 64, 64), width=24).eval()
    maps = make_layers(cfgs["E"], batch_norm=True).eval()
    maps.load_state_dict(dict(zip(maps.state_dict(), network.maps.state_dict().values(), strict=True)))
    images = torch.rand(2, 3, 64, 64)
    hidden = maps(images).flatten(1)
    assert hidden.shape == (2, 512 * 2 * 2)
    for layer in (network.first[0], network.second[0]):
        assert isinstance(layer, torch.nn.Linear)
        hidden = relu(linear(hidden, layer.weight, layer.bias))
    torch.testing.assert_close(network(images), hidden)
    parted = images
    for part in network.parts():
        parted = part(parted)
    torch.testing.assert_close(parted, hidden)


def test_it_has_the_published_number_of_weights() -> None:
    """143,678,248 with the head of a thousand classes, as torchvision gives for vgg19_bn (the last layer has
    4,097 weights a class).
    """
    with torch.device("meta"):
        network = VGG19((3, 224, 224))
    assert sum(weights.numel() for weights in network.parameters()) + 4097 * 1000 == 143_678_248


@pytest.mark.parametrize("shape", [(3, 28, 28), (64,)])
def test_images_that_leave_nothing_after_five_poolings_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"needs images .* of at least 32 px"):
        maker("backbone", "vgg19")(shape)
