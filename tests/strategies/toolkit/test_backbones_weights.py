"""Weights of backbones: files in every layout, files that are none, and what a protocol and a board say of
them.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from fakes import FakeContext
from safetensors.torch import save_file
from torch import Tensor
from worlds import Blobs

from harness.errors import UserError
from harness.protocol.cells import Protocol
from harness.weights import declared_weights
from leaderboards.publishing.board import BoardProtocol
from leaderboards.publishing.readme import division
from strategies.anomaly.encoders.by_name import encoder
from strategies.toolkit.networks import backbone

NAME = "vit_tiny_patch16_224"
OPTIONS: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 4, "num_heads": 3}
SAID = ",".join(f"{name}={value}" for name, value in OPTIONS.items())
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def _made(file: Path, more: str = SAID, name: str = f"timm:{NAME}", side: int = 32) -> Any:
    return backbone(FakeContext(backbone=f"{name}[weights={file},{more}]"), (3, side, side)).eval()


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    torch.manual_seed(2)
    return dict(timm.create_model(NAME, pretrained=False, num_classes=7, **OPTIONS).state_dict())


@pytest.fixture(scope="module")
def plain(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "plain.pth"
    torch.save(tensors, file)
    return file


# --- layouts ------------------------------------------------------------------------------------------------

LAYOUTS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "below state_dict": lambda t: {"state_dict": t, "epoch": 3},
    "below model": lambda t: {"model": t, "optimizer": {"lr": 0.1}},
    "below both": lambda t: {"model": {"state_dict": t}},
    "of several devices": lambda t: {"state_dict": {f"module.{key}": value for key, value in t.items()}},
    "of a contrastive learner": lambda t: (
        {f"module.encoder_q.{key}": value for key, value in t.items()} | {"module.queue": torch.ones(2)}
    ),
    "with a projector": lambda t: t | {"projector.0.weight": torch.ones(3), "fc.bias": torch.ones(2)},
    "dino": lambda t: {
        "student": {f"module.backbone.{key}": value + 1 for key, value in t.items()},
        "teacher": {f"backbone.{key}": value for key, value in t.items()}
        | {"head.last_layer.weight_g": torch.ones(3, 1)},
        "args": argparse.Namespace(arch="vit_small", lr=0.1),
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_a_file_is_read_in_any_layout(
    layout: str, tensors: dict[str, Tensor], plain: Path, tmp_path: Path
) -> None:
    torch.save(LAYOUTS[layout](tensors), tmp_path / "other.pth")
    assert torch.equal(_made(tmp_path / "other.pth")(IMAGES), _made(plain)(IMAGES))


@torch.no_grad()
def test_safetensors_are_read(tensors: dict[str, Tensor], plain: Path, tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "other.safetensors")
    assert torch.equal(_made(tmp_path / "other.safetensors")(IMAGES), _made(plain)(IMAGES))


@torch.no_grad()
def test_positions_are_brought_to_another_size_as_timm_does(plain: Path) -> None:
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    options = {**OPTIONS, "img_size": 48}
    theirs = timm.create_model(
        NAME, pretrained=True, num_classes=0, pretrained_cfg_overlay={"file": str(plain)}, **options
    ).eval()
    said = ",".join(f"{name}={value}" for name, value in options.items())
    torch.testing.assert_close(_made(plain, f"{said},norm=none", side=48)(images), theirs(images))


@torch.no_grad()
def test_dinov2_is_read_in_its_authors_layout(tmp_path: Path) -> None:
    """There the class token's position stands first among the positions, and the registers have none."""
    torch.manual_seed(4)
    name = "vit_small_patch14_reg4_dinov2"
    theirs: Any = timm.create_model(name, pretrained=False, num_classes=0, img_size=224).eval()
    theirs.cls_token.normal_()
    tensors = dict(theirs.state_dict())
    first = torch.randn(1, 1, 384)
    authors = {
        key: value for key, value in tensors.items() if key not in ("reg_token", "pos_embed", "cls_token")
    }
    authors |= {
        "register_tokens": tensors["reg_token"],
        "mask_token": torch.zeros(1, 384),
        "cls_token": tensors["cls_token"] - first,
        "pos_embed": torch.cat([first, tensors["pos_embed"]], dim=1),
    }
    torch.save(authors, tmp_path / "dinov2.pth")
    images = torch.rand(1, 3, 32, 32)
    network = _made(tmp_path / "dinov2.pth", "size=small", name="dinov2")
    torch.testing.assert_close(network(images), theirs(network.prepare(images)), atol=1e-4, rtol=1e-4)
    trained = {name.split(".")[1] for name, weight in network.named_parameters() if weight.requires_grad}
    assert trained == {"1"} and network.prepare.sides == (224, 224)


@torch.no_grad()
def test_dino_reads_the_checkpoint_of_its_authors(tmp_path: Path) -> None:
    theirs = timm.create_model("vit_small_patch16_224.dino", pretrained=False, num_classes=0).eval()
    torch.save(
        {"teacher": {f"backbone.{key}": value for key, value in theirs.state_dict().items()}},
        tmp_path / "dino.pth",
    )
    images = torch.rand(1, 3, 224, 224)
    mean, deviation = (
        torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    network = _made(tmp_path / "dino.pth", "size=small", name="dino", side=224)
    torch.testing.assert_close(network(images), theirs((images - mean) / deviation), atol=1e-4, rtol=1e-4)


# --- files that are no weights ------------------------------------------------------------------------------


class _Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("executed",))


def _bad_files(tensors: dict[str, Tensor], plain: Path, folder: Path) -> dict[str, str]:
    """Write files of every kind that is refused; return what is said of each after its name."""
    whole = plain.read_bytes()
    (folder / "page.pth").write_bytes(b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>")
    (folder / "page.safetensors").write_bytes(b"<html><body>404</body></html>")
    (folder / "empty.pth").write_bytes(b"")
    (folder / "pointer.pth").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
    )
    (folder / "half.pth").write_bytes(whole[: len(whole) // 2])
    save_file(tensors, folder / "half.safetensors")
    (folder / "half.safetensors").write_bytes((folder / "half.safetensors").read_bytes()[:5000])
    torch.save({"blocks": _Trap()}, folder / "trap.pth")
    (folder / "pickle.pth").write_bytes(pickle.dumps({"a": 1}))
    torch.save([1, 2], folder / "list.pth")
    torch.save({key: value for key, value in tensors.items() if "blocks.3" not in key}, folder / "few.pth")
    torch.save(tensors | {"stem.conv.weight": torch.ones(1)}, folder / "strange.pth")
    torch.save(tensors | {"norm.weight": torch.ones(5)}, folder / "wrong.pth")
    page = ": it is a web page that was saved in the place of weights; download the file itself"
    damaged = ": it is damaged, or holds more than tensors ("
    return {
        "none.pth": ": No such file or directory",
        "page.pth": page,
        "page.safetensors": page,
        "empty.pth": ": it is empty",
        "pointer.pth": ": it is a pointer of git-lfs; fetch the file itself (git lfs pull)",
        "half.pth": f": it is cut short, after {len(whole) // 2} bytes; download it again",
        "half.safetensors": damaged,
        "trap.pth": damaged,
        "pickle.pth": damaged,
        "list.pth": " holds no tensors by name",
        "few.pth": (
            f" does not fit {NAME}: 12 tensors missing (blocks.3.norm1.weight, blocks.3.norm1.bias, "
            "blocks.3.attn.qkv.weight, ...)"
        ),
        "strange.pth": f" does not fit {NAME}: 1 tensors of other models (stem.conv.weight)",
        "wrong.pth": f" does not fit {NAME}: 1 of other shapes (norm.weight of shape (5,) where (48,) is needed)",
    }


def test_a_file_that_is_no_weights_gets_one_sentence_with_its_name(
    tensors: dict[str, Tensor], plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, sentence in _bad_files(tensors, plain, tmp_path).items():
        with pytest.raises(UserError) as told:
            _made(tmp_path / name)
        lead = "weights file" if sentence.startswith(" ") else "cannot read weights file"
        assert str(told.value).startswith(f"{lead} {tmp_path / name}{sentence}")
        assert "\n" not in str(told.value)
    assert "executed" not in capsys.readouterr().out


def test_an_encoder_says_the_same_of_a_web_page_as_a_backbone(tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_bytes(b"<!doctype html><html></html>")
    told = []
    for make in (backbone, encoder):
        with pytest.raises(UserError) as error:
            make(FakeContext(backbone=f"timm:{NAME}[weights={tmp_path / 'page.pth'}]"), (3, 32, 32))
        told.append(str(error.value))
    assert told[0] == told[1] and "it is a web page" in told[0]


def test_another_digest_is_refused(plain: Path) -> None:
    digest = hashlib.sha256(plain.read_bytes()).hexdigest()
    assert _made(plain, f"{SAID},sha256={digest.upper()}").features == 48
    wrong = "00ff" if not digest.startswith("00ff") else "ff00"
    for refused in (
        lambda: _made(plain, f"{SAID},sha256={wrong}"),
        lambda: declared_weights(f"timm:{NAME}[weights={plain},sha256={wrong}]"),
    ):
        with pytest.raises(
            UserError, match=f"weights file .*plain.pth: digest {digest[:16]} where {wrong} is expected"
        ):
            refused()


# --- the protocol -------------------------------------------------------------------------------------------


def _protocol(network: str) -> Protocol:
    return Protocol(label="blobs", scenario_name="blobs", scenario=Blobs(backbone=network))


def test_only_weights_enter_a_protocol_and_other_weights_are_another_protocol(
    plain: Path, tmp_path: Path
) -> None:
    assert "weights" not in _protocol("mlp").content
    assert "weights" not in _protocol(f"timm:{NAME}[img_size=32]").content
    file = tmp_path / "w.pth"
    file.write_bytes(plain.read_bytes())
    text = f"timm:{NAME}[weights={file}]"
    first = _protocol(text)
    assert first.content["weights"] == {
        "sha256": hashlib.sha256(plain.read_bytes()).hexdigest(),
        "pretrained_on": "",
        "overlap": "unknown",
    }
    assert _protocol(text).hash == first.hash
    file.write_bytes(b"other" + plain.read_bytes())
    assert _protocol(text).hash != first.hash
    with pytest.raises(UserError, match=r"cannot read weights file .*gone\.pth: No such file"):
        _ = _protocol(f"timm:{NAME}[weights={tmp_path / 'gone.pth'}]").hash


def test_declared_overlap_makes_a_division_of_its_own(plain: Path) -> None:
    said = {
        overlap: _protocol(f"timm:{NAME}[weights={plain},pretrained_on=ImageNet-1k,overlap={overlap}]")
        for overlap in ("none", "full")
    }
    assert said["none"].hash != said["full"].hash
    digest = hashlib.sha256(plain.read_bytes()).hexdigest()[:12]
    expected = f" Division: weights `{digest}` pretrained on ImageNet-1k, overlap with novel classes: full."
    assert division(BoardProtocol.of(said["full"])) == expected
    assert division(BoardProtocol.of(_protocol("mlp"))) == ""
    network = _made(plain, f"{SAID},pretrained_on=ImageNet-1k,overlap=full")
    assert network.features == 48


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("weights={},overlap=some", "should be one of unknown, none, partial, full, got 'some'"),
        ("overlap=full", "says overlap and names no weights that it could speak of"),
        ("pretrained_on=ImageNet", "says pretrained_on and names no weights that it could speak of"),
    ],
)
def test_a_declaration_that_means_nothing_is_refused(more: str, sentence: str, plain: Path) -> None:
    with pytest.raises(UserError) as told:
        declared_weights(f"timm:{NAME}[{more.format(plain)}]")
    assert sentence in str(told.value)


def test_a_relative_file_counts_from_the_folder_of_the_data(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWB_DATA", str(plain.parent))
    assert (
        declared_weights(f"timm:{NAME}[weights=plain.pth]")["sha256"]
        == hashlib.sha256(plain.read_bytes()).hexdigest()
    )
    assert _made(Path("plain.pth")).features == 48


# --- timm's own weights -------------------------------------------------------------------------------------

HUB = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"


@torch.no_grad()
def test_timms_own_weights_are_taken_from_the_cache(
    tensors: dict[str, Tensor], plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / f"models--{HUB.replace('/', '--')}"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    file = folder / "snapshots" / "abc" / "model.safetensors"
    save_file(tensors, file)
    network = backbone(FakeContext(backbone=f"timm:{NAME}[pretrained=true,{SAID}]"), (3, 32, 32)).eval()
    assert torch.equal(network(IMAGES), _made(plain)(IMAGES))
    assert (
        declared_weights(f"timm:{NAME}[pretrained=true]")["sha256"]
        == hashlib.sha256(file.read_bytes()).hexdigest()
    )


def test_without_a_network_it_is_said_what_to_do(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    what = rf"download model\.safetensors from huggingface\.co/{HUB}, and say weights=FILE instead of pretrained=true"
    with pytest.raises(
        UserError, match=rf"cannot fetch timm's weights of {NAME} \(\w+\): where there is a network, {what}"
    ):
        declared_weights(f"timm:{NAME}[pretrained=true]")
    with pytest.raises(
        UserError,
        match=rf"weights of {NAME} are not in the cache of huggingface_hub; download model\.safetensors from",
    ):
        backbone(FakeContext(backbone=f"timm:{NAME}[pretrained=true]"), (3, 224, 224))
    with pytest.raises(UserError, match=r"told both weights=.* and pretrained=true; say one of them"):
        backbone(FakeContext(backbone=f"timm:{NAME}[pretrained=true,weights={plain}]"), (3, 224, 224))
    for name in ("resnet10t_nothing", "vit_giant_patch14_224"):
        with pytest.raises(
            UserError, match=f"timm has no weights of its own for {name}, so pretrained=true means nothing"
        ):
            declared_weights(f"timm:{name}[pretrained=true]")
    with pytest.raises(UserError, match="timm has no weights of its own for mlp"):
        declared_weights("mlp[pretrained=true]")
