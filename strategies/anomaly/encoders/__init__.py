"""Frozen encoders: texture filters, scattering, sparse codes, a small convolutional network, vision transformers."""

from strategies.anomaly.encoders.by_name import Encoder, Network, encoder
from strategies.anomaly.encoders.gabor import Gabor
from strategies.anomaly.encoders.lite0 import Lite0
from strategies.anomaly.encoders.scattering import Scattering
from strategies.anomaly.encoders.sparse_codes import SparseCodes
from strategies.anomaly.encoders.vit import ViT, timm_vit, vit_tiny

__all__ = [
    "Encoder",
    "Gabor",
    "Lite0",
    "Network",
    "Scattering",
    "SparseCodes",
    "ViT",
    "encoder",
    "timm_vit",
    "vit_tiny",
]
