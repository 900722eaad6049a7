"""Backbones: small ones, those that look residues up, any timm model as `timm:NAME`, and the recipes of papers.

A backbone maps inputs (N, ...) to features (N, D). The protocol chooses it, so that strategies are compared
on the same network; weights are drawn from the stream `init` or read from a file. `parts` are the pieces a
method may freeze, in the order of the forward pass, which is their composition.
"""

from strategies.toolkit.networks import recipes
from strategies.toolkit.networks.by_name import backbone, drawn_from
from strategies.toolkit.networks.lookups import Lookup, Quadratic, Relu, sizes_of
from strategies.toolkit.networks.small import CNN, MLP, Adapter, Linear, UnitMean
from strategies.toolkit.networks.timm_models import Prepare, Timm
from strategies.toolkit.networks.token_transformer import TokenTransformer
from strategies.toolkit.networks.vgg import VGG19

__all__ = [
    "CNN",
    "MLP",
    "VGG19",
    "Adapter",
    "Linear",
    "Lookup",
    "Prepare",
    "Quadratic",
    "Relu",
    "Timm",
    "TokenTransformer",
    "UnitMean",
    "backbone",
    "drawn_from",
    "recipes",
    "sizes_of",
]
