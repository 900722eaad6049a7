"""OOD scores: how far an item is from the known classes, by the logits or the features of a learner. Larger is
more out of distribution.

Each score is named by `ood_score=`, with parameters in brackets; `SCORES` lists them. Names hide choices that
differ between libraries (OpenOOD, pytorch-ood): k, normalisation and root of `knn`, covariance and ridge of
`mahalanobis`. Here they are parameters.

A learner fits its score when a stage ends, on the labelled items it holds then, as its network sees them. Of
a class it holds nothing of
any more the last fit stays: features of earlier stages as the network saw them THEN, which goes stale as the
network changes. What is shared by all classes is fitted to the items held (or, `covariance=first`, to those
of the first stage).

Legend: N items, C classes, d features. All is computed in float64 on the CPU, so that an answer does not
depend on its neighbours.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import AfterValidator
from torch import Tensor, nn
from torch.nn.functional import normalize

from harness.contracts import FloatArray, param
from harness.errors import Diverged, UserError, unknown
from harness.parameters import validated
from harness.syntax import single
from strategies.ood_scores.formulas import (
    energy,
    kth_nearest,
    mahalanobis,
    max_logit,
    max_softmax,
    origin_of,
    whitening,
)
from strategies.ood_scores.proximal import envelope, trained

NONE = "none"


class Seen(NamedTuple):
    """What a network makes of items: features (N, d), logits (N, C)."""

    features: Tensor
    logits: Tensor


class Detector(ABC):
    """A score. Parameters are class attributes made by `param`, as a strategy's; `fitted` is what it keeps
    between stages.
    """

    needs_fit: ClassVar[bool] = True

    def __init__(self, **values: Any) -> None:
        """Check `values` against the declared parameters; raise `UserError` as strategies do."""
        for name, value in validated(type(self), values).items():
            setattr(self, name, value)
        self.fitted: dict[str, Tensor] = {}

    @property
    def is_ready(self) -> bool:
        """Whether it can score: a score of features cannot before the first stage has ended."""
        return bool(self.fitted) or not self.needs_fit

    def fit(self, seen: Seen, labels: Tensor, head: nn.Linear | None = None) -> None:
        """Take in labelled items of known classes.

        Args:
            seen: of N items.
            labels: int (N,); classes that have an item here are fitted anew, others stay.
            head: what makes logits of features, where that is a linear layer.

        Raises:
            Diverged: a feature or logit that is not finite.
        """
        if not all(values.isfinite().all() for values in seen):
            raise Diverged("the features that the OOD score is computed from are not finite")
        if self.needs_fit:
            features, logits = (values.detach().cpu().double() for values in seen)
            self._fit(features, logits, labels.cpu(), head)

    def score(self, seen: Seen) -> FloatArray:
        """Return the OOD score of every item, float32 (N,)."""
        features, logits = (values.detach().cpu().double() for values in seen)
        scores: FloatArray = self._score(features, logits).numpy().astype(np.float32)
        return scores

    def state_dict(self) -> dict[str, Tensor]:
        """Return what was fitted."""
        return dict(self.fitted)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Become what `state_dict` was taken from."""
        self.fitted = dict(state)

    def _fit(self, features: Tensor, logits: Tensor, labels: Tensor, head: nn.Linear | None) -> None:  # noqa: B027  (logits need none)
        """Set `fitted`."""

    @abstractmethod
    def _score(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return (N,)."""


class MSP(Detector):
    """1 minus the largest softmax probability."""

    temperature: float = param(1.0, "T, divides the logits", gt=0)
    needs_fit: ClassVar[bool] = False

    def _score(self, features: Tensor, logits: Tensor) -> Tensor:
        return max_softmax(logits, self.temperature)


class MaxLogit(Detector):
    """Minus the largest logit."""

    needs_fit: ClassVar[bool] = False

    def _score(self, features: Tensor, logits: Tensor) -> Tensor:
        return max_logit(logits)


class Energy(Detector):
    """The free energy of the logits."""

    temperature: float = param(1.0, "T, divides the logits", gt=0)
    needs_fit: ClassVar[bool] = False

    def _score(self, features: Tensor, logits: Tensor) -> Tensor:
        return energy(logits, self.temperature)


class Mahalanobis(Detector):
    """Squared Mahalanobis distance to the nearest class mean, one covariance for all classes.

    S = sum over items of (z - mu_c)(z - mu_c)' / n, c the item's class: divisor n as in OpenOOD; pytorch-ood
    takes n - 1 and half the value. A ridge is added in proportion to the mean variance; OpenOOD has none,
    pytorch-ood adds 1e-6.
    """

    ridge: float = param(0.01, "added to the diagonal of a covariance, as a share of its mean variance", ge=0)
    covariance: Literal["every-stage", "first"] = param(
        "every-stage", "of the items held after every stage, or after the first alone"
    )

    def _fit(self, features: Tensor, logits: Tensor, labels: Tensor, head: nn.Linear | None) -> None:
        size = max(int(labels.max()) + 1, len(self.fitted.get("counts", ())))
        counts = torch.bincount(labels, minlength=size)
        means = (
            features.new_zeros(size, features.shape[1]).index_add_(0, labels, features)
            / counts.clamp_min(1)[:, None]
        )
        centred = features - means[labels]
        covariance = centred.T @ centred / len(features)
        if self.fitted:
            old = len(self.fitted["counts"])
            gone = counts[:old] == 0
            means[:old][gone], counts[:old][gone] = self.fitted["means"][gone], self.fitted["counts"][gone]
            covariance = self.fitted["covariance"] if self.covariance == "first" else covariance
        self.fitted = {"means": means, "counts": counts, "covariance": covariance}

    def _score(self, features: Tensor, logits: Tensor) -> Tensor:
        means = self.fitted["means"][self.fitted["counts"] > 0]
        return mahalanobis(features, means, whitening(self.fitted["covariance"], self.ridge))


class RelativeMahalanobis(Mahalanobis):
    """Mahalanobis distance to the nearest class less that to one Gaussian for all (Ren et al. 2021, "A simple
    fix", eq. 2 and 3).

    The one Gaussian has the mean of all items and their covariance, S plus the covariance of the class means
    weighted by their counts (the law of total variance): exactly that of all items where all are held, and
    defined where they are not. Divisor n, as in OpenOOD; pytorch-ood forgets to divide.
    """

    def _score(self, features: Tensor, logits: Tensor) -> Tensor:
        share = (self.fitted["counts"] / self.fitted["counts"].sum()).double()[:, None]
        mean = (share * self.fitted["means"]).sum(dim=0, keepdim=True)
        apart = self.fitted["means"] - mean
        background = self.fitted["covariance"] + (share * apart).T @ apart
        return super()._score(features, logits) - mahalanobis(
            features, mean, whitening(background, self.ridge)
        )


class NearestNeighbour(Detector):
    """Distance to the k-th neighbour in a bank of features (Sun et al. 2022, "Out-of-distribution detection
    with deep nearest neighbors").

    OpenOOD: k = 50, normalised, squared; pytorch-ood: k = 1, neither. The bank is a memory: with `bank` = 0
    it keeps every item's features.
    """

    k: int = param(1, "which neighbour; the farthest where the bank has fewer", ge=1)
    normalised: bool = param(True, "scale features to unit length; a zero vector stays zero")
    squared: bool = param(False, "square the distance, which changes no order")
    bank: int = param(
        50,
        "features kept of a class, the first ones of its items, whose order is random; 0 for all",
        ge=0,
        unit="items",
    )

    def _fit(self, features: Tensor, logits: Tensor, labels: Tensor, head: nn.Linear | None) -> None:
        self.fitted = _banked(self.fitted, features, labels, self.bank)

    def _score(self, features: Tensor, logits: Tensor) -> Tensor:
        distances = kth_nearest(self._scaled(features), self._scaled(self.fitted["bank"]), self.k)
        return distances.square() if self.squared else distances

    def _scaled(self, features: Tensor) -> Tensor:
        return normalize(features, dim=1) if self.normalised else features


class Envelope(Detector):
    """The envelope M of a learned proximal operator, sigma^2 times minus the log-density of noisy features (Fang,
    Buchanan and Sulam 2024; `proximal`).

    A density without classes, of a bank of features as `knn` keeps it. Start and noise of its training are the same
    in every cell.
    """

    sigma: float = param(
        0.3, "noise in training, where features have variance one: the bandwidth of the density", gt=0
    )
    dimensions: int = param(16, "principal directions of the features that count", ge=1)
    width: int = param(96, "units of the two hidden layers", ge=1)
    steps: int = param(4000, "gradient steps of a fit", ge=1)
    centred: bool = param(False, "take the mean of its likeliest class from every item")
    bank: int = param(
        0,
        "features kept of a class, the first ones of its items, whose order is random; 0 for all",
        ge=0,
        unit="items",
    )

    def _fit(self, features: Tensor, logits: Tensor, labels: Tensor, head: nn.Linear | None) -> None:
        found = _banked(self.fitted, features, labels, self.bank)
        bank, labels = found["bank"], found["labels"]
        counts = torch.bincount(labels)
        means = bank.new_zeros(len(counts), bank.shape[1]).index_add_(0, labels, bank) / counts[
            :, None
        ].clamp_min(1)
        points = bank - means[labels] if self.centred else bank
        draws = torch.Generator().manual_seed(0)
        made = trained(
            points,
            dimensions=self.dimensions,
            sigma=self.sigma,
            width=self.width,
            steps=self.steps,
            draws=draws,
        )
        self.fitted = {**found, "means": means, **made}

    def _score(self, features: Tensor, logits: Tensor) -> Tensor:
        if not self.centred:
            return envelope(self.fitted, features)
        means = self.fitted["means"]
        return envelope(self.fitted, features - means[logits[:, : len(means)].argmax(dim=1)])


class ViM(Detector):
    """a |z outside the principal subspace| + energy: the logit of a virtual class (Wang et al. 2022, "ViM",
    eq. 5 to 8).

    z is taken from the origin o of the head (zero where it is not linear); the subspace is spanned by the
    first eigenvectors of the mean of (z - o)(z - o)' over the items held; a makes the mean length outside
    equal to the mean largest logit. Where that mean is negative, as
    with distances for logits, its size counts: the paper has no such case.
    """

    dimensions: int = param(
        0, "of the principal subspace; 0 for half of the features (the paper: 1000 of 2048, 512 of 768)", ge=0
    )

    def _fit(self, features: Tensor, logits: Tensor, labels: Tensor, head: nn.Linear | None) -> None:
        size = features.shape[1]
        kept = self.dimensions or size // 2
        if kept >= size:
            raise UserError(f"vim[dimensions={kept}] leaves nothing outside: the network has {size} features")
        origin = features.new_zeros(size) if head is None else origin_of(head)
        from_origin = features - origin
        vectors = torch.linalg.eigh(
            from_origin.T @ from_origin / len(features)
        ).eigenvectors  # smallest eigenvalues first
        outside = vectors[:, : size - kept]
        length = (from_origin @ outside).norm(dim=1).mean()
        scale = logits.amax(dim=1).mean().abs() / length if length > 1e-12 else torch.zeros_like(length)
        self.fitted = {"origin": origin, "outside": outside, "scale": scale}

    def _score(self, features: Tensor, logits: Tensor) -> Tensor:
        outside = (features - self.fitted["origin"]) @ self.fitted["outside"]
        length: Tensor = outside.norm(dim=1)
        return self.fitted["scale"] * length + energy(logits)


def _banked(fitted: Mapping[str, Tensor], features: Tensor, labels: Tensor, size: int) -> dict[str, Tensor]:
    """Return a bank of `size` features of every class, 0 for all, with their labels; of classes without an item here
    those that were fitted before.
    """
    if fitted:
        gone = ~torch.isin(fitted["labels"], labels)
        features = torch.cat([fitted["bank"][gone], features])
        labels = torch.cat([fitted["labels"][gone], labels])
    rows = torch.cat(
        [torch.nonzero(labels == label)[: size or None, 0] for label in range(int(labels.max()) + 1)]
    )
    return {"bank": features[rows], "labels": labels[rows]}


SCORES: dict[str, type[Detector]] = {
    "msp": MSP,
    "max-logit": MaxLogit,
    "energy": Energy,
    "mahalanobis": Mahalanobis,
    "relative-mahalanobis": RelativeMahalanobis,
    "knn": NearestNeighbour,
    "vim": ViM,
    "envelope": Envelope,
}


def detector_of(text: str) -> Detector | None:
    """Return the detector that `text` selects, such as `knn[k=5]`, not fitted; None for `none`.

    Raises:
        UserError: no score of that name, no such parameter, or a value out of range.
    """
    if text == NONE:
        return None
    selection = single(text)
    if selection.name not in SCORES:
        raise unknown("OOD score", selection.name, (NONE, *SCORES), ", ".join((NONE, *SCORES)))
    return SCORES[selection.name](**selection.params)


def _readable(text: str) -> str:
    detector_of(text)
    return text


OODScore = Annotated[str, AfterValidator(_readable)]
"""The type of a strategy's parameter that names a score."""

MEANING = (
    "OOD score of an item: none, msp, max-logit, energy, mahalanobis, relative-mahalanobis, knn, "
    "vim or envelope, with parameters"
)
"""What that parameter says of itself."""
