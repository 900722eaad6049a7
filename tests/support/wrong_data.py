"""A data set by path that is right, and one change after another that makes it wrong, each with the words in
which it is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from harness.contracts import Card, Data, Dataset, param


def right() -> Data:
    """Return 120 images of 8 x 8 in six classes of twenty, one after another."""
    images = np.random.default_rng(0).random((120, 1, 8, 8)).astype(np.float32)
    return Data(inputs=images, labels=np.repeat(np.arange(6), 20), class_names=tuple("abcdef"))


class Loader:
    """Images that are fetched by row; `broken` of them, if any, holds what is no number."""

    def __init__(self, images: Any, broken: int = -1) -> None:
        self.images, self.shape, self.broken, self.fetched = (
            images,
            images.shape,
            broken,
            np.zeros(0, dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Any) -> Any:
        self.fetched = np.asarray(rows)
        images = self.images[rows]
        images[self.fetched == self.broken] = np.nan
        return images


def _with(row: int, value: float) -> Callable[[Data], dict[str, Any]]:
    def change(data: Data) -> dict[str, Any]:
        images = np.array(data.inputs)
        images[row, 0, 3, 4] = value
        return {"inputs": images}

    return change


def _labels(row: int, value: int) -> Callable[[Data], dict[str, Any]]:
    return lambda data: {"labels": np.where(np.arange(120) == row, value, data.labels)}


def _single(data: Data) -> dict[str, Any]:
    return {"inputs": np.array(data.inputs)[19:], "labels": data.labels[19:]}


CHANGES: dict[str, tuple[Callable[[Data], dict[str, Any]], tuple[str, ...]]] = {
    "minus-one": (_labels(7, -1), ("label -1 in row 7", "0 to 5 for 6 class_names", "1 of 120")),
    "beyond": (_labels(9, 6), ("label 6 in row 9", "0 to 5")),
    "from-one": (lambda data: {"labels": data.labels + 1}, ("label 6 in row 100", "take 1 from each")),
    "text": (
        lambda data: {"labels": np.array([*"abcdef"])[data.labels]},
        ("integers", "'a' in row 0", "place in class_names"),
    ),
    "floats": (
        lambda data: {"labels": data.labels.astype(float)},
        ("float64", "0.0 in row 0", "astype(np.int64)"),
    ),
    "halves": (
        lambda data: {"labels": data.labels + 0.5 * (np.arange(120) == 8)},
        ("float64", "0.5 in row 8", "class_names"),
    ),
    "truths": (lambda data: {"labels": data.labels > 2}, ("bool", "False in row 0", "astype(np.int64)")),
    "objects": (lambda data: {"labels": data.labels.astype(object)}, ("object", "row 0")),
    "list": (lambda data: {"labels": data.labels.tolist()}, ("integer array", "list", "np.array(labels)")),
    "columns": (
        lambda data: {"labels": np.eye(6, dtype=int)[data.labels]},
        ("shape (120, 6)", "argmax(axis=1)"),
    ),
    "shorter": (lambda data: {"labels": data.labels[:-3]}, ("120 items have 117 labels", "row 117")),
    "longer": (lambda data: {"labels": np.append(data.labels, 1)}, ("120 items have 121 labels", "row 120")),
    "twice": (lambda data: {"class_names": tuple("abcdea")}, ("classes 0 and 5", "'a'")),
    "numbers": (lambda data: {"class_names": (*"abcd", 4, "f")}, ("class 4 is called 4", "text")),
    "nameless": (lambda data: {"class_names": (*"abcde", " ")}, ("class 5 is called ' '",)),
    "one-text": (lambda data: {"class_names": "abcdef"}, ("tuple of text",)),
    "gap": (
        lambda data: {"labels": np.where(data.labels == 3, 4, data.labels)},
        ("class 3 ('d') has no item", "1 of 6", "0 to 4"),
    ),
    "many-names": (
        lambda data: {"class_names": tuple(f"n{i}" for i in range(66))},
        ("class 6 ('n6') has no item", "60 of 66"),
    ),
    "nothing": (lambda data: {"inputs": np.array(data.inputs)[:0], "labels": data.labels[:0]}, ("no items",)),
    "no-number": (_with(33, np.nan), ("finite", "nan in row 33")),
    "infinite": (_with(119, -np.inf), ("finite", "-inf in row 119")),
    "bytes-as-floats": (
        lambda data: {"inputs": np.round(np.array(data.inputs) * 255)},
        ("[0, 1]", "[0, 255]", "divide them by 255"),
    ),
    "standardised": (
        lambda data: {"inputs": np.array(data.inputs) * 4 - 2},
        ("[0, 1]", "in row 0", "scale them"),
    ),
    "doubles": (
        lambda data: {"inputs": np.array(data.inputs, dtype=np.float64)},
        ("float64", "float32 in [0, 1]", "astype(np.float32)"),
    ),
    "integers": (
        lambda data: {"inputs": np.array(data.inputs).astype(np.int32)},
        ("int32", "uint8", "astype(np.uint8)"),
    ),
    "of-objects": (lambda data: {"inputs": np.array(data.inputs).astype(object)}, ("object", "uint8")),
    "channels-last": (
        lambda data: {"inputs": np.zeros((120, 8, 8, 3), dtype=np.uint8)},
        ("channels last", "transpose(0, 3, 1, 2)"),
    ),
    "no-channels": (
        lambda data: {"inputs": np.zeros((120, 8, 8), dtype=np.uint8)},
        ("(120, 8, 8)", "inputs[:, None]"),
    ),
    "scalars": (lambda data: {"inputs": np.zeros(120, dtype=np.float32)}, ("shape (120,)", "(N, values)")),
    "lists": (lambda data: {"inputs": np.array(data.inputs).tolist()}, ("array, or a loader", "list")),
    "loader": (lambda data: {"inputs": Loader(data.inputs, broken=119)}, ("finite", "nan in row 119")),
    "groups": (lambda data: {"groups": np.arange(119)}, ("groups should be int64 (120,)", "int64 (119,)")),
    "test": (
        lambda data: {"published_test": np.arange(120) % 2},
        ("published_test should be bool (120,)", "int64 (120,)"),
    ),
    "held": (
        lambda data: {"published_validation": np.zeros(3, dtype=bool)},
        ("published_validation should be bool (120,)", "bool (3,)"),
    ),
}
"""How data become wrong; the words."""

OTHERS: dict[str, Callable[[Data], dict[str, Any]]] = {
    "": lambda _: {},
    "single": _single,
    "two": lambda data: {"inputs": np.array(data.inputs)[18:], "labels": data.labels[18:]},
    "one-group": lambda _: {"groups": np.zeros(120, dtype=np.int64)},
}
"""Data that keep the contract."""


class Mine(Dataset):
    """Right, or wrong in the way that `how` says."""

    card: ClassVar[Card] = Card(
        title="t",
        items=120,
        classes=6,
        shape=(1, 8, 8),
        licence="l",
        source="s",
        package="p",
        digest="0" * 64,
    )
    how: str = param("", "what is changed")

    def load(self) -> Data:
        """Return the data with the change."""
        if self.how == "raises":
            raise KeyError("no such column")
        if self.how == "pair":
            return right().inputs, right().labels  # type: ignore[return-value]
        change = CHANGES[self.how][0] if self.how in CHANGES else OTHERS[self.how]
        return replace(right(), **change(right()))


class Cardless(Dataset):
    """Says nothing of itself."""

    def load(self) -> Data:
        """Return the data."""
        return right()


class Stranger:
    """Derived from nothing."""
