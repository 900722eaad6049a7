"""INP-Former: normal prototypes from within the image that is judged (Luo et al., CVPR 2025, arXiv
2503.02424).

Whatever is frequent in an image is taken for normal there: a few queries gather its prototypes, a decoder
rebuilds its tokens from these alone, and what cannot be rebuilt is anomalous. Followed is the released code
(17d2653); where the paper differs, the switch or the function says so.

Differences from both: the encoder is frozen and images are not augmented, so tokens are computed once per
stage and an epoch costs the trained part alone; the last, smaller batch of an epoch is used (the code drops
it, and has no step at all with fewer images than a batch); a warm-up of more than half of the run is cut to
half; tokens are standardised unless `standardise` is off. In a later stage training goes on from the weights
of the one before, with an optimiser of its own, on the new images and on the tokens of a few stored ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from harness.contracts import AnyArray, Inputs, IntArray, Preset, Stage, param
from harness.errors import UserError
from strategies.anomaly.base import PatchDetector
from strategies.anomaly.inp_losses import (
    Normaliser,
    coherence_loss,
    cosine_map,
    nearest,
    prototype_distances,
    soft_mining_loss,
)
from strategies.anomaly.inp_modules import Attention, Design, Fusion, InpNetwork, Source
from strategies.anomaly.stable_adamw import StableAdamW, steps_of, warmed_cosine
from strategies.anomaly.token_memory import changed, stacked, to_train_on
from strategies.toolkit.augmentations import generator_of
from strategies.toolkit.training.eval_mode import eval_mode
from strategies.toolkit.training.loop import Batch, train
from strategies.toolkit.training.tensors import Items

FEW = 8
"""Images per category up to which `expand=auto` takes a stage for few-shot."""

ROWS = 1 << 14  # tokens that are turned into double precision at once


class InpFormer(PatchDetector):
    """Prototypes of the image itself, a decoder guided by them, and the cosine between an encoder's tokens
    and the decoder's.
    """

    width: int = param(
        64,
        "channels: fewer of the encoder's are lifted, more projected on the first stage's principal components; 0 for "
        "the encoder's own",
        ge=0,
        unit="channels",
    )
    heads: int = param(4, "attention heads; must divide the width", ge=1, unit="heads")
    prototypes: int = param(6, "M, prototypes per image", ge=1, ablate=[1, 2, 4, 8, 16])
    extractor_blocks: int = param(1, "blocks that gather prototypes", ge=1, ablate=[2], unit="blocks")
    decoder_blocks: int = param(
        4, "blocks that rebuild; a multiple of the target maps", ge=1, ablate=[2, 8], unit="blocks"
    )
    groups: int = param(
        0, "target maps, into which the encoder's groups are merged; 0 for all of these", ge=0, ablate=[1]
    )
    fusion: Fusion = param(
        "mean", "of groups into the input: their mean (code) or sum (paper)", ablate=["sum"]
    )
    source: Source = param(
        "image", "prototypes: of the image, the queries themselves, or both", ablate=["learned", "both"]
    )
    attention: Attention = param(
        "relu",
        "the decoder's attention: relu, softmax, or relu with rows of sum one",
        ablate=["softmax", "relu-rows"],
    )
    unit: bool = param(
        True,
        "the decoder's queries and keys have unit length (code; the paper writes no norm)",
        ablate=[False],
    )
    residual: bool = param(False, "a path around the decoder's attention", ablate=[True])
    dropout: float = param(0.0, "in the bottleneck; Dinomaly has 0.2", ge=0, lt=1, ablate=[0.2])
    deviation: float = param(
        0.05, "standard deviation of fresh weights; 0.01 in the code, too little at small width", gt=0
    )

    coherence: float = param(0.2, "lambda, weight of the coherence loss", ge=0, ablate=[0.0, 1.0])
    softness: float = param(
        0.0, "temperature of a soft minimum over prototypes; 0 for the minimum", ge=0, ablate=[0.1]
    )
    gamma: float = param(3.0, "power of soft mining; 0 for none", ge=0, ablate=[0.0, 1.0, 2.0])
    mining: Normaliser = param(
        "batch", "errors are compared with their mean over the batch or over the image", ablate=["image"]
    )

    lr: float = param(1e-3, "learning rate after the warm-up", gt=0, ablate=[3e-4, 3e-3])
    final_lr: float = param(1e-4, "learning rate that the cosine ends at", ge=0)
    warmup: int = param(100, "steps of rising rate, at most half of a stage", ge=0, ablate=[0], unit="steps")
    decay: float = param(1e-4, "weight decay, of all weights", ge=0)
    clip_updates: bool = param(
        True, "steps of a tensor are made smaller where its second moment lags (StableAdamW)", ablate=[False]
    )
    clip_norm: float = param(0.1, "largest norm of the whole gradient; 0 for any", ge=0, ablate=[0.0])

    map: Literal["reconstruction", "prototypes"] = param(
        "reconstruction",
        "anomaly map: error of the decoder, or distance from the nearest prototype (zero-shot in the code)",
        ablate=["prototypes"],
    )
    expand: Literal["auto", "always", "never"] = param(
        "auto",
        f"22 fixed views of every training image; auto where no category has more than {FEW}",
        ablate=["never"],
    )
    stored: int = param(
        0, "images of every category whose tokens are kept and replayed", ge=0, ablate=[8], unit="images"
    )

    presets: ClassVar = MappingProxyType(
        {
            "paper": Preset(
                values={
                    "width": 768,
                    "heads": 12,
                    "decoder_blocks": 8,
                    "deviation": 0.01,
                    "standardise": False,
                },
                source="released code with DINOv2-R ViT-B/14; 200 epochs of 16 images of 392 pixels are the protocol's",
            ),
            "small": Preset(
                values={"width": 64, "heads": 4, "decoder_blocks": 4, "deviation": 0.05},
                source="the defaults: a reduction to what one thread trains in minutes; 600 steps of 16 images",
            ),
        }
    )

    def setup(self) -> None:
        """Make an empty network and an empty store."""
        super().setup()
        self.network = InpNetwork(
            self.context,
            Design(
                heads=self.heads,
                prototypes=self.prototypes,
                extractor_blocks=self.extractor_blocks,
                decoder_blocks=self.decoder_blocks,
                source=self.source,
                attention=self.attention,
                unit=self.unit,
                residual=self.residual,
                dropout=self.dropout,
                fusion=self.fusion,
                deviation=self.deviation,
            ),
        )
        self.projection: Tensor | None = None
        self.kept = torch.zeros(0)
        self.kept_categories = torch.zeros(0, dtype=torch.long)

    def learn(self, stage: Stage) -> None:
        """Encode the stage, expanded where it has few images, and fit it.

        Raises:
            UserError: images to expand that are not square, heads that do not divide the width, groups or
                blocks that do not go into each other.
        """
        per_category = np.unique(stage.labels, return_counts=True)[1]
        if self.expand == "always" or (self.expand == "auto" and per_category.max() <= FEW):
            ids, labels = (np.repeat(each, VIEWS) for each in (stage.ids, stage.labels))
            stage = replace(stage, inputs=Expanded(stage.inputs), ids=ids, labels=labels)
        super().learn(stage)

    def fit(self, tokens: Tensor, categories: Tensor, stage: Stage) -> None:
        """Train on the stage's tokens and the stored ones, then store some of the stage's."""
        if self.groups not in (0, tokens.shape[1]):
            tokens = changed(tokens, lambda part: merged(part, self.groups), self.context)
        if not self.network.width:
            self.build(tokens)
        kept, kept_categories = self.kept.to(tokens), self.kept_categories.to(categories)
        self._remember(tokens, categories)
        if len(kept):
            tokens, categories = (
                stacked([tokens, kept], self.context),
                torch.cat([categories, kept_categories]),
            )
        if self.projection is not None:
            tokens = changed(tokens, self.projected, self.context)
        self._train(Items(to_train_on(tokens, self.context), categories))

    def maps_of(self, tokens: Tensor) -> Tensor:
        """Return the map (N, P) that `map` names."""
        tokens, network = self.projected(merged(tokens, self.groups)), self.network
        with eval_mode(network):
            if self.map == "prototypes":
                fused = network.fused(tokens)
                return nearest(prototype_distances(fused, network.extracted(fused)))
            return cosine_map(tokens.unbind(dim=1), network(tokens).groups)

    def projected(self, tokens: Tensor) -> Tensor:
        """Return tokens (N, G, P, D) in the network's width, (N, G, P, C)."""
        return tokens if self.projection is None else tokens @ self.projection

    def build(self, tokens: Tensor) -> None:
        """Make the network for tokens of this shape, with new weights."""
        channels, groups = tokens.shape[3], tokens.shape[1]
        width = self.width or channels
        if width > channels:
            self.projection = lifting(channels, width, generator_of(self.context, "lift")).to(
                self.context.device
            )
        elif width < channels:
            self.projection = principal_components(tokens, width).to(self.context.device)
        self.network.build(width, groups)

    def _remember(self, tokens: Tensor, categories: Tensor) -> None:
        """Keep `stored` images of every new category, drawn from the stream `method`, in half precision and
        the encoder's channels.
        """
        if not self.stored:
            return
        rng, known = self.context.stream("method"), categories.cpu().numpy()
        new = np.setdiff1d(known, self.kept_categories.numpy())
        chosen = [rng.permutation(np.flatnonzero(known == category))[: self.stored] for category in new]
        rows = torch.from_numpy(np.concatenate([*chosen, np.zeros(0, dtype=np.int64)]))
        fresh = tokens[rows.to(tokens.device)].half().cpu()
        self.kept = torch.cat([self.kept, fresh]) if len(self.kept) else fresh
        self.kept_categories = torch.cat([self.kept_categories, categories.cpu()[rows]])

    def _train(self, items: Items) -> None:
        network, context = self.network, self.context
        optimiser = StableAdamW(
            network.parameters(), lr=self.lr, weight_decay=self.decay, clip=self.clip_updates
        )
        steps = steps_of(
            len(items),
            epochs=context.epochs,
            gradient_steps=context.gradient_steps,
            batch_size=context.batch_size,
        )
        schedule = warmed_cosine(steps=steps, warmup=self.warmup, floor=self.final_lr / self.lr)

        def loss(batch: Batch) -> Tensor:
            rebuilt = network(batch.inputs)
            total = soft_mining_loss(
                batch.inputs.unbind(dim=1), rebuilt.groups, gamma=self.gamma, normaliser=self.mining
            )
            if self.coherence:
                total = total + self.coherence * coherence_loss(
                    rebuilt.fused, rebuilt.prototypes, softness=self.softness
                )
            return total

        train(network, items, loss, optimiser, context, schedule=schedule, clip_norm=self.clip_norm or None)


def merged(tokens: Tensor, groups: int) -> Tensor:
    """Return tokens (N, G, P, D) with neighbouring groups averaged, (N, groups, P, D); 0 leaves them as they
    are.

    Raises:
        UserError: `groups` does not divide G.
    """
    given = tokens.shape[1]
    if not groups or groups == given:
        return tokens
    if given % groups:
        raise UserError(f"groups must divide the encoder's {given}, got groups={groups}")
    return tokens.view(len(tokens), groups, given // groups, *tokens.shape[2:]).mean(dim=2)


def lifting(channels: int, width: int, generator: torch.Generator) -> Tensor:
    """Return a matrix (channels, width) with orthonormal rows, channels < width: lengths and angles stay as
    they are.
    """
    drawn = torch.randn(width, channels, generator=generator, device=generator.device, dtype=torch.float64)
    basis: Tensor = torch.linalg.qr(drawn).Q
    return basis.T.float().contiguous()


def principal_components(tokens: Tensor, width: int) -> Tensor:
    """Return (D, width): the directions in which tokens (N, G, P, D) are longest on average, of unit length,
    the longest first.

    Tokens are not centred, so that angles from the origin are what is kept; each direction's largest entry is
    positive.
    """
    flat = tokens.flatten(0, 2)
    moments = flat.new_zeros(flat.shape[1], flat.shape[1], dtype=torch.float64)
    for part in torch.split(flat, ROWS):
        moments += part.double().T @ part.double()
    directions: Tensor = torch.linalg.eigh(moments).eigenvectors.flip(1)[:, :width]
    signs = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True)).sign()
    return (directions * signs).float().contiguous()


# --- few-shot: 22 fixed views of an image -------------------------------------------------------------------

VIEWS = 22
_ANGLES = tuple(sign * step * np.pi / 16 for sign in (-1, 1) for step in (1, 2, 3, 4))
_SHIFTS = tuple((across * size, down * size) for size in (0.2, 0.1) for across in (1, -1) for down in (1, -1))
_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class Expanded:
    """Every image of `whole` in its 22 views, one image after another; they are made when they are asked for."""

    whole: Inputs

    @property
    def shape(self) -> tuple[int, ...]:
        """(22 N, C, H, W)."""
        return (VIEWS * len(self.whole), *self.whole.shape[1:])

    def __len__(self) -> int:
        return VIEWS * len(self.whole)

    def __getitem__(self, index: IntArray) -> AnyArray:
        sources, places = np.unique(np.asarray(index) // VIEWS, return_inverse=True)
        made = np.stack([expanded(image) for image in np.asarray(self.whole[sources])])
        return made[places, np.asarray(index) % VIEWS]


def expanded(image: AnyArray) -> AnyArray:
    """Return 22 views of a square image (C, H, H), in its dtype: few-shot training in the released code, as
    in RegAD.

    The image; 8 rotations by multiples of pi / 16 up to pi / 4; 8 shifts along both axes by a tenth or a
    twentieth of the side (the code's 0.2 and 0.1 count half sides); mirrored; grey; turned by 90, 180 and 270
    degrees. What comes from outside is reflected at the border.

    Raises:
        UserError: an image that is not square.
    """
    channels, height, width = image.shape
    if height != width:
        raise UserError(
            f"images can only be expanded where they are square, these are {height} x {width}; set expand=never"
        )
    whole = torch.from_numpy(np.ascontiguousarray(image))[None].float()
    turns = [[[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]] for angle in _ANGLES]
    shifts = [[[1, 0, across], [0, 1, down]] for across, down in _SHIFTS]
    grid = affine_grid(
        torch.tensor(turns + shifts, dtype=torch.float32), [16, channels, height, width], align_corners=False
    )
    moved = grid_sample(whole.expand(16, -1, -1, -1), grid, padding_mode="reflection", align_corners=False)
    grey = (
        (whole * torch.tensor(_GREY)[:, None, None]).sum(dim=1, keepdim=True).expand_as(whole)
        if channels == 3
        else whole
    )
    views = torch.cat(
        [whole, moved, whole.flip(3), grey, *(torch.rot90(whole, quarter, (2, 3)) for quarter in (1, 2, 3))]
    )
    if image.dtype == np.uint8:
        return views.round_().clamp_(0, 255).to(torch.uint8).numpy()
    return views.numpy().astype(image.dtype)
