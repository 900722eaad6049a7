"""Views: how an item is shown changed, as whole batches on the device, by a text that the protocol names.

Letters and digits change their meaning when flipped, so nothing here but `crop` flips unless told to.
"""

from strategies.toolkit.views.affine import Affine
from strategies.toolkit.views.base import View
from strategies.toolkit.views.blur import Blur
from strategies.toolkit.views.colour_jitter import ColourJitter
from strategies.toolkit.views.crop import Crop
from strategies.toolkit.views.equalise import Equalise
from strategies.toolkit.views.grey import Grey
from strategies.toolkit.views.noise import Noise, Same
from strategies.toolkit.views.padded_crop import PaddedCrop
from strategies.toolkit.views.resized_crop import ResizedCrop
from strategies.toolkit.views.selected import VIEWS, Chain, Either, generator_of, showing, view_of
from strategies.toolkit.views.solarise import Solarise
from strategies.toolkit.views.token_dropout import TokenDropout

__all__ = [
    "VIEWS", "Affine", "Blur", "Chain", "ColourJitter", "Crop", "Either", "Equalise", "Grey", "Noise", "PaddedCrop", "ResizedCrop", "Same",
    "Solarise", "TokenDropout", "View", "generator_of", "showing", "view_of",
]  # fmt: skip
