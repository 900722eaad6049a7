"""The protocol's backbone by its name, with weights from a stream: which networks there are, and what makes
them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from harness.contracts import Context
from harness.errors import Unsuitable, UserError, unknown
from harness.syntax import Selection, single
from harness.syntax import chosen as selected
from harness.weights import located
from strategies.toolkit.networks.compiling import compiled
from strategies.toolkit.networks.lookups import Quadratic, Relu
from strategies.toolkit.networks.pieces import blocks_trained
from strategies.toolkit.networks.recipes import (
    dino,
    dinov2,
    preact_resnet18_cifar,
    resnet18_cifar,
    resnet34_cifar,
)
from strategies.toolkit.networks.small import CNN, MLP, Adapter, Linear
from strategies.toolkit.networks.state_dicts import look_at
from strategies.toolkit.networks.timm_models import timm_network
from strategies.toolkit.networks.vgg import VGG19

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "linear": Linear,
    "mlp": MLP,
    "cnn": CNN,
    "adapter": Adapter,
    "quadratic": Quadratic,
    "relu": Relu,
    "dino": dino,
    "dinov2": dinov2,
    "resnet18-cifar": resnet18_cifar,
    "resnet34-cifar": resnet34_cifar,
    "preact-resnet18-cifar": preact_resnet18_cifar,
    "vgg19": VGG19,
}

DECLARED = ("pretrained_on", "overlap")
"""What a selection says of weights for the protocol alone (`harness.weights`)."""

_FILES = {"dino": "dino_vitbase16_pretrain.pth", "dinov2": "dinov2_vitb14_reg4_pretrain.pth"}


def chosen(text: str) -> Callable[[tuple[int, ...]], nn.Module]:
    """Return what makes the backbone that `text` selects from an item's shape.

    Raises:
        UserError: no backbone of that name, a parameter it does not have, or weights that it needs and that
        are not named or none.
    """
    selection = undeclared(text)
    kind, _, name = selection.name.partition(":")
    blocks_trained(selection.params.get("trainable", "all"))
    if kind == "timm" and name:
        import timm

        if not timm.is_model(name):
            raise unknown(
                "timm model", name, timm.list_models(), "python -c 'import timm; print(timm.list_models())'"
            )
        glance(selection)
        return partial(timm_network, name=name, **selection.with_texts(["weights"]).params)
    make = selected(
        "backbone", selection.as_said, {**BACKBONES, "timm:NAME": timm_network}, given=("item_shape",)
    )
    if selection.name in _FILES and not selection.text("weights"):
        file = _FILES[selection.name]
        raise UserError(
            f"backbone {selection.name} needs its weights: {selection.name}[weights=FILE], such as {file} "
            "of its authors"
        )
    glance(selection)
    return make


def glance(selection: Selection) -> None:
    """Raise `UserError` where the weights file that a selection names is no weights at first sight."""
    if weights := selection.text("weights"):
        look_at(located(weights))


def undeclared(text: str) -> Selection:
    """Return a selection without what it says for the protocol alone."""
    said = single(text)
    return replace(
        said, params={option: value for option, value in said.params.items() if option not in DECLARED}
    )


def backbone(context: Context, item_shape: tuple[int, ...], init: str = "init") -> nn.Module:
    """Return the protocol's backbone for items of `item_shape`, with `features` outputs, initialised from the
    stream `init`.

    Its calls are compiled where the run asks for it; `parts()` are then not, and are for the caller to
    compile.

    Raises:
        Unsuitable: the protocol has a frozen encoder where a network to train is needed.
    """
    from strategies.toolkit.encoders.by_name import ENCODERS

    if single(context.backbone).name in ENCODERS:
        raise Unsuitable(f"trains a network, and the protocol has a frozen encoder: {context.backbone}")
    make = chosen(context.backbone)
    with drawn_from(context, init):
        return compiled(make(item_shape).to(context.device), context)


class drawn_from:  # noqa: N801  (reads as a statement at its use)
    """Context manager: torch's global generator follows the stream `name` inside and is put back afterwards."""

    def __init__(self, context: Context, name: str) -> None:
        self.seed = int(context.stream(name).integers(2**63))

    def __enter__(self) -> None:
        self.before = torch.get_rng_state()
        torch.manual_seed(self.seed)

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self.before)
