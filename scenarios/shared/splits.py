"""Which items are kept for the test, and which to choose by; and that no class is left out of either side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness import seeds
from harness.contracts import Data, IntArray
from harness.errors import UserError

WITH_PUBLISHED_TEST = (
    "aircraft",
    "animal10n",
    "cars",
    "cifar10",
    "cifar100",
    "clinc150",
    "clothing1m",
    "cub",
    "emnist",
    "fashion-mnist",
    "imagenet",
    "mnist",
    "svhn",
    "tinyimagenet",
)
"""Built-in data sets whose publishers set items apart for the test."""

Mask = NDArray[np.bool_]


def tested_part(data: Data, fraction: float, seed: int, *, name: str) -> Mask:
    """Return the test items, bool (N,): drawn by `test_mask`, or where `fraction` is 0 those that the
    publisher set apart.

    Args:
        data: all items.
        fraction: share that is drawn.
        seed: of the draw; the publisher's part is the same under every seed.
        name: of the data set, for the message.

    Raises:
        UserError: the publisher's part is asked for and there is none.
    """
    if fraction:
        return test_mask(data, fraction, seed)
    if data.published_test is None:
        raise UserError(
            f"{name} has no published test split; set test_fraction above 0, or take a data set that has one: "
            f"{', '.join(WITH_PUBLISHED_TEST)}"
        )
    return data.published_test


def validation_part(data: Data, is_test: Mask) -> Mask:
    """Return the items that the publisher set apart to choose by, bool (N,), without those in the test; none
    where it has no such part.
    """
    return (
        np.zeros(len(data.labels), dtype=bool)
        if data.published_validation is None
        else data.published_validation & ~is_test
    )


def given_fact(data: Data, labels: IntArray) -> dict[str, IntArray]:
    """Return the fact `given` of a deal, int64 (U,) as its `labels`: the labels that came with the items, where
    there are such beside the true ones.
    """
    if data.given is None:
        return {}
    place = np.zeros(len(data.class_names), dtype=np.int64)
    place[data.labels] = labels
    return {"given": place[data.given]}


def check_filled(
    labels: IntArray,
    parts: Mapping[str, Mask],
    numbers: IntArray,
    dataset: str,
    *,
    fraction: float,
    names: Sequence[str] = (),
) -> None:
    """Do nothing where every class that takes part has an item in every part.

    Args:
        labels: int64 (U,) places of the classes in `numbers`; larger ones take no part.
        parts: bool (U,) the items of each part, by its name.
        numbers: int64 (C,) the data set's own numbers of the classes.
        dataset: its name, for the message.
        fraction: share that was drawn for the test; 0 for the publisher's part.
        names: of all classes of the data set, where they are at hand.

    Raises:
        UserError: a class has none in a part: which, how many items it has in all, and what it needs.
    """
    for part, inside in parts.items():
        counts = np.bincount(labels[inside], minlength=len(numbers))[: len(numbers)]
        if len(empty := np.flatnonzero(counts == 0)):
            number, items = numbers[empty[0]], int((labels == empty[0]).sum())
            split, apart, advice = (
                ("", ", of different groups where there are groups", "add items, or leave the class out")
                if fraction
                else (", as its publisher split it", "", "leave the class out, or set test_fraction above 0")
            )
            raise UserError(
                f"{dataset}: class {number} has no {part} item{split} ({len(empty)} of {len(numbers)} "
                "classes have none): "
                f"{repr(names[number]) if names else 'it'} has {items} item{'s' * (items != 1)} in all, "
                "and each class needs "
                f"one at least for each of {' and '.join(parts)}{apart}; {advice}"
            )


def test_mask(data: Data, fraction: float, seed: int) -> Mask:
    """Draw the test items, bool (N,): whole groups where the data set has groups, otherwise the same share of
    every class.

    Every class gets at least one; the stream is `split` under `seed`.
    """
    rng = seeds.stream("split", seed=seed)
    if data.groups is not None:
        groups = rng.permutation(np.unique(data.groups))
        return np.isin(data.groups, groups[: max(1, round(fraction * len(groups)))])
    mask = np.zeros(len(data.labels), dtype=bool)
    for label in range(len(data.class_names)):
        rows: IntArray = rng.permutation(np.flatnonzero(data.labels == label))
        mask[rows[: max(1, round(fraction * len(rows)))]] = True
    return mask
