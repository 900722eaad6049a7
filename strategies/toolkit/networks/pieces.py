"""A model's last blocks apart from the rest: which pieces a protocol can lend for training while the rest
stays as it is.

Blocks are those of a vision transformer or the residual ones of a ResNet, counted from the end. The final
norm of a transformer never trains here, as in Happy's code, whose trained parameters have "block" in their
name.
"""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

from harness.errors import UserError
from strategies.toolkit.networks.preact import PreActResNet
from strategies.toolkit.networks.vit_blocks import Trunk, taken_apart


class Pooled(nn.Module):
    """The last blocks of a transformer that answers by a mean of tokens, its norms and the mean: tokens (N,
    T, D) to features (N, D).
    """

    def __init__(self, blocks: list[nn.Module], model: Any) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.fc_norm = model.norm.requires_grad_(False), model.fc_norm.requires_grad_(False)
        self.pool, self.prefix, self.with_prefix = (
            model.global_pool,
            model.num_prefix_tokens,
            model.pool_include_prefix,
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return features."""
        from timm.models.vision_transformer import global_pool_nlc

        tokens = self.norm(self.blocks(tokens))
        pooled = global_pool_nlc(
            tokens, pool_type=self.pool, num_prefix_tokens=self.prefix, reduce_include_prefix=self.with_prefix
        )
        features: Tensor = self.fc_norm(pooled)
        return features


def blocks_trained(trainable: str) -> int | None:
    """Return how many of the last blocks train, None for the whole model.

    >>> [blocks_trained(text) for text in ("all", "last", "blocks-3", "head")]
    [None, 1, 3, 0]

    Raises:
        UserError: something else is said.
    """
    counted = re.fullmatch(r"blocks-([1-9]\d*)", str(trainable))
    words = {"all": None, "last": 1, "head": 0}
    if not counted and trainable not in words:
        raise UserError(
            f"trainable of a backbone should be all, last, head, or blocks-N such as blocks-2, got {trainable!r}"
        )
    return int(counted[1]) if counted else words[trainable]


def pieces_of(model: Any, trained: int, name: str) -> list[nn.Module]:
    """Return what comes before the last `trained` blocks, then these, as one or two pieces; the model loses
    its blocks.

    Without blocks to train (0) any model will do, which may stay whole.

    Raises:
        UserError: a model whose blocks are not known, or fewer blocks than are asked for.
    """
    from timm.models.resnet import ResNet
    from timm.models.vision_transformer import VisionTransformer

    if isinstance(model, ResNet | PreActResNet):
        blocks = [
            block
            for stage in ("layer1", "layer2", "layer3", "layer4")
            for block in model.get_submodule(stage).children()
        ]
        _check_count(trained, blocks, name)
        stem = [
            model.get_submodule(name) for name in ("conv1", "bn1", "act1", "maxpool") if hasattr(model, name)
        ]
        front = nn.Sequential(*stem, *blocks[: len(blocks) - trained])
        return [front, nn.Sequential(*blocks[len(blocks) - trained :], model.global_pool)]
    if isinstance(model, VisionTransformer) and model.attn_pool is None:
        blocks = list(model.blocks)
        _check_count(trained, blocks, name)
        if parts := taken_apart(model):
            model.blocks = nn.Sequential(*blocks[: len(blocks) - max(1, trained)])
            middle = blocks[len(blocks) - trained : -1] if trained > 1 else []
            return [parts[0], *([nn.Sequential(*middle)] if middle else []), parts[1]]
        last = Pooled(blocks[len(blocks) - trained :], model)
        model.blocks, model.norm, model.fc_norm = (
            nn.Sequential(*blocks[: len(blocks) - trained]),
            nn.Identity(),
            nn.Identity(),
        )
        return [Trunk(model), last]
    if trained:
        raise UserError(f"{name} cannot be taken apart by its blocks, so its trainable should be all or head")
    return [model]


def _check_count(trained: int, blocks: list[nn.Module], name: str) -> None:
    if trained > len(blocks):
        raise UserError(f"{name} has {len(blocks)} blocks, so trainable=blocks-{trained} asks for too many")
