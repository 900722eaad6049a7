"""A detector of anomalies on the patches of a frozen encoder: every patch of an image gets a score, and the
scores are its map.

Tokens are standardised by what the FIRST stage's normal images show: statistics of categories that come later
would be a leak. Encoder and standard are the same for all detectors, and what becomes of a map (size, blur,
image score) is the protocol's.

A stage whose tokens would take more than 4 GiB keeps them standardised, in half precision and in a file
(`token_memory`).

Legend: N images, G groups, P patches in row order, D channels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.contracts import Inputs, Prediction, Query, Stage, Strategy, param
from strategies.anomaly import token_memory
from strategies.anomaly.encoders.by_name import Encoder, encoder
from strategies.anomaly.shortened import shortened

_CHUNK = 64
_LARGEST = 6e4  # the largest half-precision number is 65504


class Standard:
    """Mean and scale per group and channel, (G, 1, D); both empty until `fit`."""

    def __init__(self) -> None:
        self.mean = torch.zeros(0)
        self.scale = torch.zeros(0)

    @property
    def is_fitted(self) -> bool:
        """Whether there is something to standardise by."""
        return self.mean.numel() > 0

    def fit(self, tokens: Tensor) -> None:
        """Take mean and standard deviation over images and patches of tokens (N, G, P, D); a channel that is
        constant keeps its scale.
        """
        count = tokens.shape[0] * tokens.shape[2]
        mean = tokens.sum(dim=(0, 2), keepdim=True, dtype=torch.float64) / count
        squares = torch.zeros_like(mean)
        for start in range(0, len(tokens), _CHUNK):  # in parts, for float64 doubles their size
            squares += (tokens[start : start + _CHUNK].double() - mean).square().sum(dim=(0, 2), keepdim=True)
        deviation = (squares / count).sqrt()
        self.mean = mean[0].float()
        self.scale = torch.where(deviation > 1e-6, deviation, 1.0)[0].float()

    def settle(self, rough: Standard, mean: Tensor, deviation: Tensor) -> None:
        """Become the standard of tokens of which mean and deviation (G, 1, D), float64, are known after the
        rough standard.
        """
        self.mean = (rough.mean.double() + rough.scale.double() * mean).float()
        self.scale = torch.where(rough.scale * deviation > 1e-6, rough.scale * deviation, 1.0).float()

    def __call__(self, tokens: Tensor) -> Tensor:
        """Return tokens (N, G, P, D) standardised."""
        return (tokens - self.mean) / self.scale

    def state_dict(self) -> dict[str, Tensor]:
        """Return mean and scale."""
        return {"mean": self.mean, "scale": self.scale}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take mean and scale."""
        self.mean, self.scale = state["mean"], state["scale"]


class PatchDetector(Strategy):
    """Base: implement `fit` and `maps_of`, and `scores_of` where image scores are not the protocol's reading
    of the maps.

    What a subclass remembers is set on `self` and kept between stages as any strategy's; an own `setup` calls
    this one first.
    """

    standardise: bool = param(
        True,
        "scale every channel by the mean and deviation of the first stage's normal images",
        ablate=[False],
    )

    def setup(self) -> None:
        """Draw the seed of an encoder with random weights; the encoder itself is built when the first images
        show their shape.
        """
        self.encoder: Encoder | None = None
        self.encoder_seed = int(
            self.context.stream("init").integers(2**63)
        )  # once per cell: streams differ from stage to stage
        self.standard = Standard()

    @abstractmethod
    def fit(self, tokens: Tensor, categories: Tensor, stage: Stage) -> None:
        """Learn the stage's normal images.

        Args:
            tokens: float32 (N, G, P, D), standardised; float16 and mapped where they are many, to be read by
                `pieces` and its like.
            categories: int64 (N,), numbered in order of arrival.
            stage: where they come from.
        """

    @abstractmethod
    def maps_of(self, tokens: Tensor) -> Tensor:
        """Return scores (N, P) of standardised tokens (N, G, P, D), larger is stranger; of each image by
        itself.
        """

    def scores_of(self, tokens: Tensor, maps: Tensor) -> Tensor | None:
        """Return image scores (N,), or None to leave them to the protocol; tokens and maps as in `maps_of`."""
        return None

    def learn(self, stage: Stage) -> None:
        """Encode the stage once and fit it."""
        encoder, size = self.encoder_for(stage.inputs), len(stage.inputs)
        height, width = encoder.grid
        if token_memory.fits(shape := (size, encoder.groups, height * width, encoder.channels)):
            tokens = encoder.encode(stage.inputs)
            if self.standardise:
                if not self.standard.is_fitted:
                    self.standard.fit(tokens)
                tokens = self.standard(tokens)
        else:
            tokens = self._mapped(stage.inputs, shape)
        self.fit(tokens, torch.tensor(stage.labels, device=self.context.device), stage)

    def _mapped(self, inputs: Inputs, shape: tuple[int, ...]) -> Tensor:
        """Return the tokens of many images, standardised, in half precision and in a file.

        Where the standard is still to be found, they are first written in units of that of the first images,
        so that half precision holds what differs between them, and moments are summed on the way.
        """
        finding = self.standardise and not self.standard.is_fitted
        standard = Standard() if finding else self.standard
        moments = torch.zeros(2, shape[1], 1, shape[3], dtype=torch.float64, device=self.context.device)

        def encoded() -> Iterator[Tensor]:
            for part in self._encoded(inputs):
                if finding and not standard.is_fitted:
                    standard.fit(part)
                tokens = standard(part) if self.standardise else part
                if finding:
                    moments.add_(
                        torch.stack(
                            [
                                each.sum(dim=(0, 2))[:, None]
                                for each in (tokens.double(), tokens.double().square())
                            ]
                        )
                    )
                yield tokens

        tokens = token_memory.filled(encoded(), shape, self.context)
        if finding:
            mean, square = moments / (shape[0] * shape[2])
            deviation = (square - mean.square()).clamp_min(0).sqrt()
            self.standard.settle(standard, mean, deviation)
            for rows, part in token_memory.pieces(tokens, self.context):
                tokens[rows] = self.standard(part * standard.scale + standard.mean).clamp(-_LARGEST, _LARGEST)
        return tokens

    def _encoded(self, inputs: Inputs) -> Iterator[Tensor]:
        """Yield the tokens (n, G, P, D) of images as the encoder gives them, some images at a time."""
        for start in range(0, len(inputs), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(inputs)))
            yield self.encoder_for(inputs).encode(np.asarray(inputs[rows]))

    def tokens_of(self, inputs: Inputs) -> Tensor:
        """Return tokens (N, G, P, D) of images, standardised as those of the first stage."""
        tokens = self.encoder_for(inputs).encode(inputs)
        return self.standard(tokens) if self.standardise else tokens

    @torch.no_grad()
    def predict(self, query: Query) -> Prediction:
        """Answer a map on the encoder's grid for every image, float32 of 11 bits, and image scores where
        `scores_of` gives some.
        """
        height, width = self.encoder_for(query.inputs).grid
        maps, scores = [], []
        for tokens in self.chunks_of(query):
            part = self.maps_of(tokens)
            score = self.scores_of(tokens, part)
            maps.append(shortened(part).reshape(-1, height, width))
            scores += [] if score is None else [score.cpu().numpy()]
        return Prediction(
            anomaly_maps=np.concatenate(maps), anomaly_scores=np.concatenate(scores) if scores else None
        )

    def chunks_of(self, query: Query) -> Iterator[Tensor]:
        """Yield the standardised tokens (n, G, P, D) of the query, some images at a time."""
        for tokens in self._encoded(query.inputs):
            yield self.standard(tokens) if self.standardise else tokens

    def encoder_for(self, inputs: Inputs) -> Encoder:
        """Return the protocol's encoder, built for the shape of `inputs` at the first call."""
        if self.encoder is None:
            self.encoder = encoder(self.context, tuple(inputs.shape[1:]), seed=self.encoder_seed)
        return self.encoder

    def state(self) -> dict[str, Any]:
        """Return everything but the encoder, which is rebuilt."""
        built, self.encoder = self.encoder, None
        try:
            return super().state()
        finally:
            self.encoder = built


def joined(tokens: Tensor) -> Tensor:
    """Return the groups of tokens (N, G, P, D) side by side, (N, P, G * D): what a detector compares that
    knows no groups.
    """
    return tokens.transpose(1, 2).flatten(2)
