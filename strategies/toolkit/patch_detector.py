"""A detector of anomalies on the patches of a frozen encoder: every patch of an image gets a score, and the scores are its map.

Tokens are standardised by what the FIRST stage's normal images show: statistics of categories that come later would be a leak. Encoder and
standard are the same for all detectors, and what becomes of a map (size, blur, image score) is the protocol's.

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
from strategies.toolkit.encoders import Encoder, encoder

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
        """Take mean and standard deviation over images and patches of tokens (N, G, P, D); a channel that is constant keeps its scale."""
        count = tokens.shape[0] * tokens.shape[2]
        mean = tokens.sum(dim=(0, 2), keepdim=True, dtype=torch.float64) / count
        squares = torch.zeros_like(mean)
        for start in range(0, len(tokens), _CHUNK):  # in parts, for float64 doubles their size
            squares += (tokens[start : start + _CHUNK].double() - mean).square().sum(dim=(0, 2), keepdim=True)
        deviation = (squares / count).sqrt()
        self.mean = mean[0].float()
        self.scale = torch.where(deviation > 1e-6, deviation, 1.0)[0].float()

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
    """Base: implement `fit` and `maps_of`, and `scores_of` where image scores are not the protocol's reading of the maps.

    What a subclass remembers is set on `self` and kept between stages as any strategy's; an own `setup` calls this one first.
    """

    standardise: bool = param(True, "scale every channel by the mean and deviation of the first stage's normal images", ablate=[False])

    def setup(self) -> None:
        """Draw the seed of an encoder with random weights; the encoder itself is built when the first images show their shape."""
        self.encoder: Encoder | None = None
        self.encoder_seed = int(self.context.stream("init").integers(2**63))  # once per cell: streams differ from stage to stage
        self.standard = Standard()

    @abstractmethod
    def fit(self, tokens: Tensor, categories: Tensor, stage: Stage) -> None:
        """Learn the stage's normal images.

        Args:
            tokens: float32 (N, G, P, D), standardised.
            categories: int64 (N,), numbered in order of arrival.
            stage: where they come from.
        """

    @abstractmethod
    def maps_of(self, tokens: Tensor) -> Tensor:
        """Return scores (N, P) of standardised tokens (N, G, P, D), larger is stranger; of each image by itself."""

    def scores_of(self, tokens: Tensor, maps: Tensor) -> Tensor | None:
        """Return image scores (N,), or None to leave them to the protocol; tokens and maps as in `maps_of`."""
        return None

    def learn(self, stage: Stage) -> None:
        """Encode the stage once and fit it."""
        tokens = self.encoder_for(stage.inputs).encode(stage.inputs)
        if self.standardise:
            if not self.standard.is_fitted:
                self.standard.fit(tokens)
            tokens = self.standard(tokens)
        self.fit(tokens, torch.tensor(stage.labels, device=tokens.device), stage)

    def tokens_of(self, inputs: Inputs) -> Tensor:
        """Return tokens (N, G, P, D) of images, standardised as those of the first stage."""
        tokens = self.encoder_for(inputs).encode(inputs)
        return self.standard(tokens) if self.standardise else tokens

    @torch.no_grad()
    def predict(self, query: Query) -> Prediction:
        """Answer a map on the encoder's grid for every image, and image scores where `scores_of` gives some."""
        height, width = self.encoder_for(query.inputs).grid
        maps, scores = [], []
        for tokens in self.chunks_of(query):
            part = self.maps_of(tokens)
            score = self.scores_of(tokens, part)
            maps.append(part.clamp(max=_LARGEST).reshape(-1, height, width).cpu().numpy().astype(np.float16))
            scores += [] if score is None else [score.cpu().numpy()]
        return Prediction(anomaly_maps=np.concatenate(maps), anomaly_scores=np.concatenate(scores) if scores else None)

    def chunks_of(self, query: Query) -> Iterator[Tensor]:
        """Yield the standardised tokens (n, G, P, D) of the query, some images at a time."""
        for start in range(0, len(query.ids), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(query.ids)))
            yield self.tokens_of(np.asarray(query.inputs[rows]))

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
    """Return the groups of tokens (N, G, P, D) side by side, (N, P, G * D): what a detector compares that knows no groups."""
    return tokens.transpose(1, 2).flatten(2)
