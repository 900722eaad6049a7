"""Which categories are learned and tested when, and which images of a pool take part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness import seeds
from harness.contracts import IntArray
from harness.errors import UserError
from scenarios.anomaly.pool import Pool

Setting = Literal["single", "multi", "few-shot", "zero-shot", "continual"]


class Step(NamedTuple):
    """One stage: the places, in order of arrival, of the categories that are learned and of those that are
    tested.
    """

    learned: range
    test_categories: range


def steps_of(
    setting: Setting, categories: int, *, apart: bool, sources: int, base: int, increment: int
) -> tuple[Step, ...]:
    """Return the stages of a setting.

    Args:
        setting: of the scenario.
        categories: how many there are, in zero-shot the sources first.
        apart: whether every category has a learner of its own.
        sources: how many are learned in zero-shot.
        base, increment: categories of the first and of every later stage in continual.

    Raises:
        UserError: base and increment do not fit.
    """
    if apart:
        return tuple(Step(range(place, place + 1), range(place, place + 1)) for place in range(categories))
    if setting == "zero-shot":
        return (Step(range(sources), range(sources, categories)),)
    if setting != "continual":
        return (Step(range(categories), range(categories)),)
    if base >= categories or (categories - base) % increment:
        raise UserError(
            f"base={base} and increment={increment} do not fit {categories} categories: "
            "one stage at least must follow the first, and the last one be full"
        )
    ends = range(base, categories + 1, increment)
    return tuple(Step(range(end - increment if end > base else 0, end), range(end)) for end in ends)


def strays(contamination: float, normals: int) -> int:
    """Return how many defective images beside `normals` make up a share `contamination` of them all."""
    return round(contamination / (1 - contamination) * normals)


def few(pool: Pool, shots: int, seed: int) -> NDArray[np.bool_]:
    """Return which images remain when every category keeps `shots` of its normal training images, bool (U,).

    Drawn under the stream `shots` of the category: fewer shots are the first of more.

    Raises:
        UserError: a category has fewer.
    """
    normal = pool.train & ~pool.anomalous
    remain = ~normal
    for index, name in enumerate(pool.categories):
        rows = np.flatnonzero(normal & (pool.category == index))
        if shots > len(rows):
            raise UserError(f"shots={shots}, but {name} has {len(rows)} normal training images")
        remain[seeds.stream("shots", seed=seed, category=name).permutation(rows)[:shots]] = True
    return remain


def contaminated(pool: Pool, remain: NDArray[np.bool_], contamination: float, seed: int) -> Pool:
    """Return `pool` with defective test images moved to the training images, where they are a share
    `contamination` of a category's.

    Drawn under the stream `contamination` of the category.

    Raises:
        UserError: a category would keep no defective image to test, or there are defective training images
        already.
    """
    if (pool.train & pool.anomalous).any():
        raise UserError("defective images are listed for training already, so contamination must be 0")
    train = pool.train.copy()
    for index, name in enumerate(pool.categories):
        own = pool.category == index
        number = strays(contamination, int((own & pool.train & remain).sum()))
        rows = np.flatnonzero(own & ~pool.train & pool.anomalous)
        if number >= len(rows):
            raise UserError(
                f"contamination={contamination:g} takes {number} defective images of {name}, which has "
                f"{len(rows)} in its test"
            )
        train[seeds.stream("contamination", seed=seed, category=name).permutation(rows)[:number]] = True
    return replace(pool, train=train)


def check_test_categories(pool: Pool, test_categories: Iterable[str]) -> None:
    """Do nothing where every category of the test has normal and defective images to test, without which no
    figure says anything of it.

    Raises:
        UserError: one has not.
    """
    for name in test_categories:
        tested = pool.anomalous[~pool.train & (pool.category == pool.categories.index(name))]
        if (defective := int(tested.sum())) in (0, len(tested)):
            lacking = "normal" if defective else "defective"
            raise UserError(
                f"category {name} has {len(tested)} test images, none of them {lacking}, and needs one at "
                "least: add some, or "
                "name the other categories with categories="
            )


def rows_of(pool: Pool, places: IntArray, step: Sequence[int], *, train: bool) -> IntArray:
    """Return the images of the categories at `step`; places: int64 (U,) the place of every image's category
    in order of arrival.
    """
    return np.flatnonzero((pool.train == train) & np.isin(places, list(step)))
