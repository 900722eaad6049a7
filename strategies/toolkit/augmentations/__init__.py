"""Augmentations: random changes of whole batches, on the device, by a text that the protocol names.

Letters and digits change their meaning when flipped, so nothing here but `crop` flips unless told to.
"""

from strategies.toolkit.augmentations.affine import Affine
from strategies.toolkit.augmentations.base import Augmentation
from strategies.toolkit.augmentations.blur import Blur
from strategies.toolkit.augmentations.by_name import Chain, Either, augmentation_of, augmenting, generator_of
from strategies.toolkit.augmentations.colour_jitter import ColourJitter
from strategies.toolkit.augmentations.crop import Crop
from strategies.toolkit.augmentations.equalise import Equalise
from strategies.toolkit.augmentations.grey import Grey
from strategies.toolkit.augmentations.noise import Noise, Same
from strategies.toolkit.augmentations.padded_crop import PaddedCrop
from strategies.toolkit.augmentations.resized_crop import ResizedCrop
from strategies.toolkit.augmentations.solarise import Solarise
from strategies.toolkit.augmentations.token_dropout import TokenDropout

__all__ = [
    "Affine",
    "Augmentation",
    "Blur",
    "Chain",
    "ColourJitter",
    "Crop",
    "Either",
    "Equalise",
    "Grey",
    "Noise",
    "PaddedCrop",
    "ResizedCrop",
    "Same",
    "Solarise",
    "TokenDropout",
    "augmentation_of",
    "augmenting",
    "generator_of",
]
