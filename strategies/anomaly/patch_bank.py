"""Memory banks of normal patches: the anomaly score of a patch is its distance to the nearest ones kept
(PatchCore, Roth et al. 2022; kNN; all patches).

    score = mean over the k nearest of |x - m|,  m in the bank

Neighbours are found by faiss's flat L2 search, their distances computed again from the vectors themselves.
The released code of PatchCore (patchcore-inspection at fcaa92f) answers squared distances and the largest of
an image; the paper weights it by the neighbours of its neighbour, which anomalib does too. The root is the
default here, all of these are switches.

What is kept when stages follow each other: only the last one's vectors (replace), those of all (append, which
grows), or so many in all (budget), in equal shares per category or as one choice over what was kept and what
is new (CADIC's idea).

Legend: N images, P patches, D channels, M vectors in the bank.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import faiss
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from harness.contracts import Stage, param
from harness.errors import UserError
from strategies.anomaly.base import PatchDetector, joined
from strategies.anomaly.coreset import k_centres
from strategies.anomaly.token_memory import changed, selected, stacked

Memory = Literal["append", "replace", "budget"]
Share = Literal["category", "union"]
ImageScore = Literal["protocol", "max", "reweighted"]
Selection = Literal["coreset", "random"]

_NEIGHBOURS = 9
"""Over so many neighbours of the nearest vector, itself among them, the paper weights an image's score
(section 3.3).
"""


class PatchBank(PatchDetector):
    """Base of the banks: how patches are scored against vectors that are kept in `parts`."""

    k: int = param(1, "nearest vectors whose mean distance is the score", ge=1, ablate=[3, 9])
    squared: bool = param(False, "squared distances, as the released code answers", ablate=[True])
    image_score: ImageScore = param(
        "protocol",
        "left to the protocol, the largest patch, or that weighted as in the paper",
        ablate=["max", "reweighted"],
    )

    def setup(self) -> None:
        """Start with an empty bank."""
        super().setup()
        self.parts: dict[int, Tensor] = {}

    def maps_of(self, tokens: Tensor) -> Tensor:
        """Return the distance of every patch, float32 (N, P)."""
        points = self.described(tokens)
        distances, _ = nearest(points.flatten(0, 1), self.bank(), self.k)
        scores = (distances.square() if self.squared else distances).mean(dim=1)
        return scores.reshape(points.shape[:2])

    def scores_of(self, tokens: Tensor, maps: Tensor) -> Tensor | None:
        """Return the largest score of an image or the weighted one, float32 (N,), unless that is the
        protocol's to read.
        """
        if self.image_score == "protocol":
            return None
        largest, place = maps.max(dim=1)
        if self.image_score == "max":
            return largest
        points = self.described(tokens)[torch.arange(len(tokens), device=tokens.device), place]
        return largest * rarity(points, self.bank())

    def described(self, tokens: Tensor) -> Tensor:
        """Return what is compared of tokens (N, G, P, D), float32 (N, P, D'): all groups side by side."""
        return joined(tokens)

    def bank(self) -> Tensor:
        """Return all vectors that are kept, float32 (M, D')."""
        parts = list(self.parts.values())
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class JointBank(PatchBank):
    """The upper bound: every patch of every stage is kept and all are standardised by their joint statistics;
    as float32, however many.
    """

    def learn(self, stage: Stage) -> None:
        """Keep the stage's tokens as they are and standardise those of all stages anew."""
        self.parts[stage.index] = self.encoder_for(stage.inputs).encode(stage.inputs)
        if self.standardise:
            self.standard.fit(torch.cat(list(self.parts.values())))

    def fit(self, tokens: Tensor, categories: Tensor, stage: Stage) -> None:
        """Nothing is left to do after `learn`."""

    def bank(self) -> Tensor:
        """Return all patches of all stages, standardised, float32 (M, D')."""
        tokens = torch.cat(list(self.parts.values()))
        return self.described(self.standard(tokens) if self.standardise else tokens).flatten(0, 1)


class StagedBank(PatchBank):
    """A bank with a rule for what is kept over several stages."""

    memory: Memory = param(
        "append",
        "what is kept: every stage's vectors, the last stage's, or so many in all",
        ablate=["replace", "budget"],
    )
    budget: int = param(1500, "vectors in all, where memory is budget", ge=1, unit="vectors")
    share: Share = param(
        "category",
        "how a budget is shared: equally per category, or by one choice over all",
        ablate=["union"],
    )

    def fit(self, tokens: Tensor, categories: Tensor, stage: Stage) -> None:
        """Choose among the stage's patches and, under a budget, make room for them."""
        points, rng = changed(tokens, self.described, self.context), self.context.stream("bank")
        if self.memory == "budget" and self.share == "category":
            own = {
                one: selected(points, categories == one, self.context)
                for one in sorted(set(categories.tolist()))
            }
            self._shared({one: part.flatten(0, 1) for one, part in own.items()}, rng)
        elif self.memory == "budget":
            self.united(points.flatten(0, 1), stage, rng)
        else:
            if self.memory == "replace":
                self.parts.clear()
            patches = points.flatten(0, 1)
            self.parts[stage.index] = self.chosen(patches, self.wanted(len(patches)), rng)

    @abstractmethod
    def wanted(self, patches: int) -> int:
        """Return how many vectors of a stage with so many patches are kept where there is no budget."""

    @abstractmethod
    def chosen(self, patches: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        """Return at most `count` of the patches (M, D') as float32, the most useful first; a prefix is what a
        smaller count would give.
        """

    @abstractmethod
    def united(self, patches: Tensor, stage: Stage, rng: np.random.Generator) -> None:
        """Bring the patches (M, D') of a stage and what was kept together within the budget."""

    def _shared(self, new: dict[int, Tensor], rng: np.random.Generator) -> None:
        """Give each category the same share; what one cannot fill goes to the others. A category that comes
        again joins what is kept.
        """
        pools = {
            one: stacked([self.parts[one], points], self.context) if one in self.parts else points
            for one, points in new.items()
        }
        kept = {one: part for one, part in self.parts.items() if one not in pools}
        every = sorted({**kept, **pools})
        sizes = equal_shares([len(pools[one] if one in pools else kept[one]) for one in every], self.budget)
        self.parts = {
            one: self.chosen(pools[one], size, rng) if one in pools else kept[one][:size].clone()
            for one, size in zip(every, sizes, strict=True)
        }


class PatchKNN(StagedBank):
    """Keep patches at random and answer the distance to the nearest."""

    vectors: int = param(1500, "vectors kept of a stage, where memory is not budget", ge=1, unit="vectors")

    def setup(self) -> None:
        """Start with an empty bank that has seen nothing."""
        super().setup()
        self.seen: dict[int, int] = {}

    def wanted(self, patches: int) -> int:
        """Return `vectors`."""
        return self.vectors

    def chosen(self, patches: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        """Return patches at random, in random order."""
        return _at_random(patches, count, rng)

    def united(self, patches: Tensor, stage: Stage, rng: np.random.Generator) -> None:
        """Keep of every stage in proportion to the patches it had, so that each patch seen so far was as
        likely to be kept.
        """
        self.parts[stage.index] = self.chosen(patches, self.budget, rng)
        self.seen[stage.index] = len(patches)
        sizes = proportional_shares(
            [self.seen[one] for one in self.parts], [len(part) for part in self.parts.values()], self.budget
        )
        self.parts = {
            one: part[:size].clone() for (one, part), size in zip(self.parts.items(), sizes, strict=True)
        }


class PatchCore(StagedBank):
    """Describe a patch with its neighbours, keep a coreset, answer the distance to the nearest (Roth et al.
    2022).
    """

    ratio: float = param(
        0.1,
        "share of a stage's patches that is kept, where memory is not budget (published: 0.01 to 0.25)",
        gt=0,
        le=1,
        ablate=[0.01],
    )
    selection: Selection = param("coreset", "greedy k centres, or patches at random", ablate=["random"])
    neighbourhood: int = param(
        3, "side of the square of patches that is averaged around each, odd", ge=1, unit="patches", ablate=[1]
    )
    projection: int = param(128, "dimensions in which the coreset is chosen, 0 for all", ge=0, ablate=[0])

    def setup(self) -> None:
        """Start with an empty bank.

        Raises:
            UserError: a neighbourhood without a middle.
        """
        if self.neighbourhood % 2 == 0:
            raise UserError(f"neighbourhood should be odd, got {self.neighbourhood} (PatchCore)")
        super().setup()

    def described(self, tokens: Tensor) -> Tensor:
        """Return the mean over every patch's neighbourhood, (N, P, D'); outside the image there is nothing to
        average.
        """
        assert self.encoder is not None
        grid = joined(tokens).transpose(1, 2).reshape(len(tokens), -1, *self.encoder.grid)
        reach = self.neighbourhood // 2
        return (
            avg_pool2d(grid, self.neighbourhood, stride=1, padding=reach, count_include_pad=False)
            .flatten(2)
            .transpose(1, 2)
        )

    def wanted(self, patches: int) -> int:
        """Return the share of the patches."""
        return max(1, round(self.ratio * patches))

    def chosen(self, patches: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        """Return the coreset in the order of its choice, or patches at random."""
        if self.selection == "random":
            return _at_random(patches, count, rng)
        return patches[k_centres(patches, count, rng, dimensions=self.projection)].float()

    def united(self, patches: Tensor, stage: Stage, rng: np.random.Generator) -> None:
        """Choose anew among what was kept and the stage's patches."""
        self.parts = {
            0: self.chosen(stacked([*self.parts.values(), patches], self.context), self.budget, rng)
        }


def nearest(points: Tensor, bank: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return distances, ascending, to the k nearest vectors of the bank and their rows, float32 and int64 (N,
    k); fewer where M is less.

    Args:
        points: (N, D).
        bank: (M, D).
        k: how many.
    """
    found, vectors = points.contiguous().cpu().numpy(), bank.contiguous().cpu().numpy()
    rows = torch.from_numpy(faiss.knn(found, vectors, min(k, len(vectors)))[1]).to(points.device)
    distances = torch.stack([(points - bank[column]).square().sum(dim=1) for column in rows.T], dim=1).sqrt()
    distances, order = distances.sort(
        dim=1, stable=True
    )  # faiss expands the square of far vectors and loses digits that decide on near ones
    return distances, rows.gather(1, order)


def rarity(points: Tensor, bank: Tensor) -> Tensor:
    """Return the weight of an image's strangest patch, (N,): 1 - exp(d*) / sum over the neighbours of its
    nearest vector (eq. 7).

    It grows where the nearest vector is itself far from its neighbours. With one vector in the bank it is 1.

    Args:
        points: (N, D) the strangest patch of every image.
        bank: (M, D).
    """
    if len(bank) == 1:
        return points.new_ones(len(points))
    first = nearest(points, bank, 1)[1][:, 0]
    around = nearest(bank[first], bank, _NEIGHBOURS)[1]
    distances = (points[:, None] - bank[around]).square().sum(dim=2).sqrt()
    own = (points - bank[first]).square().sum(dim=1).sqrt()
    return 1 - torch.exp(own - torch.logsumexp(distances, dim=1))


def equal_shares(available: Sequence[int], budget: int) -> list[int]:
    """Return how many each of several parts may keep: the same for all, what one lacks shared by the others,
    a rest to the first ones.

    >>> equal_shares([100, 2, 100], 21)
    [10, 2, 9]
    """
    sizes = [0] * len(available)
    left = min(budget, sum(available))
    while left:
        open_parts = [place for place, size in enumerate(sizes) if size < available[place]]
        each = max(1, left // len(open_parts))
        for place in open_parts:
            more = min(each, available[place] - sizes[place], left)
            sizes[place] += more
            left -= more
    return sizes


def proportional_shares(seen: Sequence[int], available: Sequence[int], budget: int) -> list[int]:
    """Return how many each part keeps, in proportion to what it has seen and at most what is available; a
    rest to the largest fractions.

    >>> proportional_shares([30, 10, 20], [30, 10, 20], 7)
    [4, 1, 2]
    """
    exact = [min(budget / sum(seen), 1) * size for size in seen]
    sizes = [min(int(share), most) for share, most in zip(exact, available, strict=True)]
    for _ in range(min(budget, sum(available)) - sum(sizes)):
        open_parts = [place for place, size in enumerate(sizes) if size < available[place]]
        sizes[max(open_parts, key=lambda place: exact[place] - sizes[place])] += 1
    return sizes


def _at_random(patches: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    return patches[torch.from_numpy(rng.permutation(len(patches))[:count]).to(patches.device)].float()
