"""Backbones against timm's and torchvision's own forward passes; what trains, what stands still, how images
are prepared.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from fakes import FakeContext, stage_of
from torch import Tensor, nn
from torch.nn.functional import interpolate

from harness.errors import UserError
from strategies.toolkit.classifier import Classifier
from strategies.toolkit.discovery.split_network import SplitNetwork
from strategies.toolkit.networks import Timm, backbone

VIT = "timm:vit_tiny_patch16_224"
SMALL = "img_size=32,patch_size=8,embed_dim=48,depth=4,num_heads=3"
IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def _made(text: str, shape: tuple[int, ...] = (3, 32, 32)) -> Any:
    return backbone(FakeContext(backbone=text), shape)


def _composed(network: Any, inputs: Tensor) -> Tensor:
    for part in network.parts():
        inputs = part(inputs)
    return inputs


def _trained(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return models as drawn, and files with their weights."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("weights")
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 4, "num_heads": 3}
    vit = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0, **options).eval()
    resnet: Any = timm.create_model("resnet18", pretrained=False, num_classes=0).eval()
    for norm in (part for part in resnet.modules() if isinstance(part, nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.1, 0.1)
    torch.save(vit.state_dict(), folder / "vit.pth")
    torch.save(resnet.state_dict(), folder / "resnet.pth")
    return {"vit": vit, "resnet": resnet, "folder": folder}


# --- the same numbers as the libraries ----------------------------------------------------------------------


@pytest.mark.parametrize("trainable", ["all", "last", "blocks-3", "blocks-4", "head"])
@torch.no_grad()
def test_a_transformer_with_weights_gives_what_timm_gives_for_scaled_images(
    files: dict[str, Any], trainable: str
) -> None:
    text = f"{VIT}[weights={files['folder'] / 'vit.pth'},{SMALL},trainable={trainable}]"
    expected = files["vit"]((IMAGES - 0.5) / 0.5)  # the mean and deviation of this model's tag at timm
    network = _made(text).eval()
    torch.testing.assert_close(network(IMAGES), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(_composed(network, IMAGES), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("trainable", ["all", "last", "blocks-5", "head"])
@torch.no_grad()
def test_a_resnet_with_weights_gives_what_timm_gives_for_scaled_images(
    files: dict[str, Any], trainable: str
) -> None:
    mean, deviation = (
        torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    expected = files["resnet"]((IMAGES - mean) / deviation)
    network = _made(f"timm:resnet18[weights={files['folder'] / 'resnet.pth'},trainable={trainable}]").eval()
    torch.testing.assert_close(network(IMAGES), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(_composed(network, IMAGES), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        "global_pool=avg",
        "class_token=false,global_pool=avg",
        "init_values=0.1",
        "global_pool=avg,fc_norm=true",
    ],
)
@torch.no_grad()
def test_any_plain_transformer_comes_apart_by_block(options: str) -> None:
    whole = _made(f"{VIT}[{SMALL},{options}]").eval()
    for trainable in ("last", "blocks-2"):
        apart = _made(f"{VIT}[{SMALL},{options},trainable={trainable}]").eval()
        torch.testing.assert_close(apart(IMAGES), whole(IMAGES), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "layers"), [("resnet18", 18), ("resnet34", 34)])
@torch.no_grad()
def test_a_cifar_resnet_is_torchvisions_with_another_stem(name: str, layers: int) -> None:
    import torchvision

    ours = _made(f"{name}-cifar").eval()
    theirs: Any = getattr(torchvision.models, name)()
    theirs.conv1, theirs.maxpool, theirs.fc = (
        nn.Conv2d(3, 64, 3, padding=1, bias=False),
        nn.Identity(),
        nn.Identity(),
    )
    theirs.load_state_dict(ours.model.state_dict())
    for side in (32, 18):
        images = IMAGES[:1, :, :side, :side]
        torch.testing.assert_close(ours(images), theirs.eval()(images))
    assert ours.features == 512
    shapes = {part.weight.shape[-1] for part in ours.modules() if isinstance(part, nn.Conv2d)}
    assert shapes == {1, 3} and float(ours.model.layer1[0].bn2.weight.min()) == 1.0
    assert (
        sum(isinstance(part, nn.Conv2d) and part.weight.shape[-1] == 3 for part in ours.modules())
        == layers - 1
    )


@pytest.mark.parametrize(
    ("name", "features"), [("mobilenetv3_small_050", 1024), ("resnet10t", 512), ("convnext_atto", 320)]
)
@torch.no_grad()
def test_a_backbone_says_how_many_features_it_gives(name: str, features: int) -> None:
    """Networks with a hidden layer in their head were once said to give what lies before it, and no head
    fitted them.
    """
    network = _made(f"timm:{name}").eval()
    assert network.features == network(IMAGES).shape[1] == features


# --- what trains --------------------------------------------------------------------------------------------


def test_happys_share_of_vit_b_trains() -> None:
    """Method card of Happy, section 3.1: 7,087,872 of 85,798,656 weights, block 11 without the final norm."""
    network = _made("timm:vit_base_patch16_224[trainable=last]", (3, 224, 224))
    assert _trained(network) == 7_087_872
    assert sum(weight.numel() for weight in network.parameters()) == 85_798_656


def test_the_number_of_trained_blocks_is_that_said() -> None:
    block = sum(weight.numel() for weight in _made(f"{VIT}[{SMALL}]").model.blocks[0].parameters())
    for trainable, blocks in (("head", 0), ("last", 1), ("blocks-2", 2), ("blocks-4", 4)):
        assert _trained(_made(f"{VIT}[{SMALL},trainable={trainable}]")) == blocks * block
    names = [
        name
        for name, weight in _made("timm:resnet18[trainable=blocks-2]").named_parameters()
        if weight.requires_grad
    ]
    assert {name.split(".")[:3][2] for name in names} == {"0", "1"} and all(
        name.startswith("pieces.1.") for name in names
    )
    assert _trained(_made("timm:mobilenetv3_small_050[trainable=head]")) == 0


def _step(network: nn.Module, output: Tensor) -> None:
    output.square().sum().backward()
    with torch.no_grad():
        for weight in network.parameters():
            if weight.grad is not None:
                weight.sub_(weight.grad, alpha=1e-3)


def test_what_is_not_lent_stands_still_also_its_running_means(files: dict[str, Any]) -> None:
    text = f"timm:resnet18[weights={files['folder'] / 'resnet.pth'},trainable=last]"
    network: Timm = _made(text)
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    _step(network, network(IMAGES))
    moved = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved and all(name.startswith("pieces.1.") for name in moved)
    assert any("running_mean" in name for name in moved)


def test_a_strategy_trains_no_more_than_the_protocol_lends() -> None:
    for lent, own, frozen in (
        ("last", "all", 1),
        ("blocks-2", "all", 1),
        ("blocks-2", "last", 2),
        ("last", "head", 2),
        ("all", "last", 1),
    ):
        network = SplitNetwork(FakeContext(backbone=f"{VIT}[{SMALL},trainable={lent}]"))
        network.build_backbone((3, 32, 32))
        network.freeze(own).train()  # type: ignore[arg-type]
        assert network.frozen == frozen
        assert [part.training for part in network.parts] == [False] * frozen + [True] * (
            len(network.parts) - frozen
        )
        assert not network.hidden(IMAGES).requires_grad
        assert any(weight.requires_grad for weight in network.parts[:frozen].parameters()) is False


def test_a_frozen_part_with_batch_norm_does_not_follow_its_batches() -> None:
    """A frozen part once kept the mode of the network, and its running means followed whatever passed through
    it.
    """
    network = SplitNetwork(FakeContext(backbone="timm:resnet10t"))
    network.build_backbone((3, 32, 32))
    network.freeze("head").train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network(IMAGES)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_classifier_comes_back_from_its_state_with_the_same_part_frozen(files: dict[str, Any]) -> None:
    context = FakeContext(backbone=f"{VIT}[weights={files['folder'] / 'vit.pth'},{SMALL},trainable=last]")
    model = Classifier(context)
    labels = np.arange(len(IMAGES)) % 2
    model.grow(replace(stage_of(0, labels, 2), inputs=IMAGES.numpy()))
    _step(model, model(IMAGES))
    copy = model.snapshot()
    torch.testing.assert_close(copy.eval()(IMAGES), model.eval()(IMAGES), rtol=0, atol=0)
    assert not torch.allclose(copy.backbone(IMAGES), _made(context.backbone).eval()(IMAGES), atol=1e-4)


# --- images -------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_images_of_another_size_are_brought_to_the_models(files: dict[str, Any]) -> None:
    network = _made(
        f"{VIT}[weights={files['folder'] / 'vit.pth'},{SMALL},trainable=last]", (3, 20, 20)
    ).eval()
    small = IMAGES[:, :, :20, :20]
    large = interpolate(small, size=(32, 32), mode="bicubic", align_corners=False, antialias=True)
    torch.testing.assert_close(network(small), network(large))
    asked = _made(f"timm:resnet18[weights={files['folder'] / 'resnet.pth'},image=32]").eval()
    free = _made(f"timm:resnet18[weights={files['folder'] / 'resnet.pth'}]").eval()
    torch.testing.assert_close(asked(small), free(large))
    assert not torch.allclose(free(small), free(large), atol=1e-3)


@torch.no_grad()
def test_grey_images_are_three_equal_channels_where_there_are_weights(files: dict[str, Any]) -> None:
    network = _made(f"{VIT}[weights={files['folder'] / 'vit.pth'},{SMALL}]", (1, 32, 32)).eval()
    torch.testing.assert_close(network(IMAGES[:, :1]), network(IMAGES[:, :1].repeat(1, 3, 1, 1)))


@torch.no_grad()
def test_images_are_scaled_as_said(files: dict[str, Any]) -> None:
    mean, deviation = (
        torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    for norm, images in (
        ("none", IMAGES),
        ("imagenet", (IMAGES - mean) / deviation),
        ("model", (IMAGES - 0.5) / 0.5),
    ):
        network = _made(f"{VIT}[weights={files['folder'] / 'vit.pth'},{SMALL},norm={norm}]").eval()
        torch.testing.assert_close(network(IMAGES), files["vit"](images))
    drawn = _made(f"{VIT}[{SMALL}]").eval()
    torch.testing.assert_close(drawn(IMAGES), drawn.model(IMAGES))  # as before there were weights


# --- mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "timm:mobilenetv3_small_050[trainable=last]",
            "timm:mobilenetv3_small_050 cannot be taken apart by its blocks, so its trainable should be all or head",
        ),
        (
            "timm:resnet18[trainable=blocks-9]",
            "timm:resnet18 has 8 blocks, so trainable=blocks-9 asks for too many",
        ),
        (
            f"{VIT}[{SMALL},trainable=blocks-5]",
            "timm:vit_tiny_patch16_224 has 4 blocks, so trainable=blocks-5 asks for too many",
        ),
        (
            "timm:resnet18[trainable=most]",
            "trainable of a backbone should be all, last, head, or blocks-N such as blocks-2, got 'most'",
        ),
        ("timm:resnet18[width=3]", "backbone timm:resnet18 cannot be made with width=3: "),
        ("timm:resnet18[norm=cifar]", "norm of a backbone should be model, imagenet or none, got 'cifar'"),
        (
            "dino",
            "backbone dino needs its weights: dino[weights=FILE], such as dino_vitbase16_pretrain.pth of its authors",
        ),
        ("dinov2[size=small]", "backbone dinov2 needs its weights: dinov2[weights=FILE]"),
        ("dino[weights=x,sise=small]", "unknown parameter of backbone dino 'sise'; did you mean 'size'?"),
        ("resnet18-cifr", "unknown backbone 'resnet18-cifr'; did you mean 'resnet18-cifar'?"),
    ],
)
def test_a_mistake_gets_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(UserError) as told:
        _made(name)
    assert str(told.value).startswith(sentence)


def test_weights_want_grey_or_coloured_images(files: dict[str, Any]) -> None:
    with pytest.raises(
        UserError, match=r"with weights takes images of 1 or 3 channels, the inputs have shape \(4, 32, 32\)"
    ):
        _made(f"{VIT}[weights={Path(files['folder']) / 'vit.pth'},{SMALL}]", (4, 32, 32))
