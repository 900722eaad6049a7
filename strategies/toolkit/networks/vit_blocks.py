"""A vision transformer in two pieces: all blocks but the last, which a method may freeze, and the last,
computed for one token only.

Where only the class token is used, the last block needs the other tokens for keys and values alone: its
query, output projection and MLP run on one token instead of all, with the same result.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention


class Trunk(nn.Module):
    """Everything before the last block: images (N, C, H, W) to tokens (N, T, D). `prepare` brings images to
    what the model takes.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.prepare: nn.Module = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens after the last block but one."""
        tokens: Tensor = self.model.forward_features(self.prepare(images))
        return tokens


class LastBlock(nn.Module):
    """The last block for the class token, then the final norm: tokens (N, T, D) to features (N, D).

    The norm does not train: Happy's code trains parameters with "block" in their name, which leaves the final
    norm as it was.
    """

    def __init__(self, block: Any, norm: nn.Module) -> None:
        super().__init__()
        self.block, self.norm = block, norm.requires_grad_(False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the class token's features."""
        block = self.block
        one = tokens[:, :1] + block.drop_path1(block.ls1(self._attended(block.norm1(tokens))))
        one = one + block.drop_path2(block.ls2(block.mlp(block.norm2(one))))
        features: Tensor = self.norm(one)[:, 0]
        return features

    def _attended(self, tokens: Tensor) -> Tensor:
        """Return the attention's output for the class token, (N, 1, D)."""
        attention = self.block.attn
        items, count, _ = tokens.shape
        heads, size = attention.num_heads, attention.head_dim
        weight, bias = attention.qkv.weight, attention.qkv.bias
        inner = heads * size
        query = linear(tokens[:, :1], weight[:inner], None if bias is None else bias[:inner])
        both = linear(tokens, weight[inner:], None if bias is None else bias[inner:])
        query = attention.q_norm(query.reshape(items, 1, heads, size).transpose(1, 2))
        keys, values = both.reshape(items, count, 2, heads, size).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, attention.k_norm(keys), values, scale=attention.scale)
        output: Tensor = attention.proj(attention.norm(mixed.transpose(1, 2).reshape(items, 1, inner)))
        return output


def taken_apart(model: Any) -> list[nn.Module]:
    """Return trunk and last block of a timm vision transformer that answers by its class token; nothing for
    any other model.

    The model itself becomes the trunk and loses its last block and norm.
    """
    from timm.models.vision_transformer import Block, VisionTransformer

    if (
        not isinstance(model, VisionTransformer)
        or model.global_pool != "token"
        or not isinstance(model.fc_norm, nn.Identity)
    ):
        return []
    last = model.blocks[-1]
    attention: Any = last.attn
    if (
        type(last) is not Block
        or getattr(attention, "gate", None) is not None
        or attention.attn_drop.p
        or attention.proj_drop.p
    ):
        return []
    norm, model.norm, model.blocks = model.norm, nn.Identity(), model.blocks[:-1]
    return [Trunk(model), LastBlock(last, norm)]
