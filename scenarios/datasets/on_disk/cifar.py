"""CIFAR-10 and CIFAR-100 in the python version: pickled batches of rows of 3072 bytes, red first, then green
and blue.

    cifar-10-python.tar.gz:   cifar-10-batches-py/{data_batch_1 ... data_batch_5, test_batch, batches.meta}
    cifar-100-python.tar.gz:  cifar-100-python/{train, test, meta}

Items come in the order of the files, training before test, which is the order that the human labels of
CIFAR-N refer to.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from harness.contracts import AnyArray, Card, Data
from harness.errors import UserError
from scenarios.datasets.file_digests import digests_of
from scenarios.datasets.on_disk.contents import combined
from scenarios.datasets.on_disk.pickles import unpickled
from scenarios.datasets.on_disk.place import OnDisk, published_digest

_SITE = "https://www.cs.toronto.edu/~kriz"
_EXPECTED = "a pickled batch of CIFAR in the python version"
_MD5_10 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
_MD5_100 = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}


class _Cifar(OnDisk):
    """Batches with their labels under `label_key`, names of classes under `names_key` of the last file."""

    label_key: ClassVar[str]
    names_key: ClassVar[str]

    @property
    @abstractmethod
    def batches(self) -> Mapping[str, bool]:
        """File name -> whether it holds test items."""

    def expected(self) -> list[Path]:
        """Return batches and names."""
        folder = self.folder()
        return [folder / name for name in self.md5s]

    def examine(self, path: Path) -> None:
        """Read a batch or the names."""
        if path.name in self.batches:
            self._batch(path)
        else:
            self._names(path)

    def digest(self) -> str:
        """Return the SHA-256 over names and MD5s of the files."""
        files = self.files()
        return combined(
            f"{path.name} {md5}" for path, md5 in zip(files, digests_of(files, "md5"), strict=True)
        )

    def read(self) -> Data:
        """Return inputs uint8 (N, 3, 32, 32)."""
        folder = self.folder()
        parts = [self._batch(folder / name) for name in self.batches]
        labels = np.concatenate([labels for _, labels in parts])
        names = self._names(folder / next(name for name in self.md5s if name not in self.batches))
        if not 0 <= labels.min() <= labels.max() < len(names):
            raise UserError(
                f"{folder} has labels from {labels.min()} to {labels.max()}, but names for {len(names)} classes"
            )
        is_test = np.concatenate(
            [np.full(len(part), test) for (_, part), test in zip(parts, self.batches.values(), strict=True)]
        )
        inputs = np.concatenate([inputs for inputs, _ in parts])
        return Data(inputs=inputs, labels=labels, class_names=names, published_test=is_test)

    def _batch(self, path: Path) -> tuple[AnyArray, AnyArray]:
        content = unpickled(path, _EXPECTED)
        rows, labels = content.get("data"), content.get(self.label_key)
        if (
            not isinstance(rows, np.ndarray)
            or rows.dtype != np.uint8
            or rows.ndim != 2
            or rows.shape[1] != 3072
        ):
            raise UserError(f"{path} holds no uint8 array data of rows of 3072: {_EXPECTED} was expected")
        if (
            not isinstance(labels, list)
            or len(labels) != len(rows)
            or not all(type(label) is int for label in labels)
        ):
            raise UserError(
                f"{path} holds no list {self.label_key} of {len(rows)} numbers: {_EXPECTED} was expected"
            )
        return rows.reshape(-1, 3, 32, 32), np.array(labels, dtype=np.int64)

    def _names(self, path: Path) -> tuple[str, ...]:
        names: Any = unpickled(path, "the names of CIFAR's classes").get(self.names_key)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{path} holds no list {self.names_key} of the names of classes")
        return tuple(names)


class Cifar10(_Cifar):
    """60,000 photographs of 32 x 32 pixels in 10 classes, from the user's disk."""

    name: ClassVar[str] = "cifar10"
    published: ClassVar[Card] = Card(
        title="CIFAR-10",
        items=60_000,
        classes=10,
        shape=(3, 32, 32),
        licence="none stated by its publisher",
        source=(
            "A. Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images; "
            "www.cs.toronto.edu/~kriz/cifar.html"
        ),
        package="on disk",
        digest=published_digest(_MD5_10),
        notes="50,000 to train, 10,000 to test; some test images have near duplicates among the training images.",
    )
    folders: ClassVar[tuple[str, ...]] = ("cifar-10-batches-py",)
    marks: ClassVar[tuple[str, ...]] = ("data_batch_1", "test_batch", "batches.meta")
    archives: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"}
    )
    md5s: ClassVar[Mapping[str, str]] = MappingProxyType(_MD5_10)
    addresses: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"cifar-10-python.tar.gz": f"{_SITE}/cifar-10-python.tar.gz"}
    )
    obtain: ClassVar[str] = (
        "get cifar-10-python.tar.gz from www.cs.toronto.edu/~kriz/cifar.html and unpack it below OWB_DATA"
    )
    label_key: ClassVar[str] = "labels"
    names_key: ClassVar[str] = "label_names"

    @property
    def batches(self) -> Mapping[str, bool]:
        """File name -> whether it holds test items."""
        return {**{f"data_batch_{number}": False for number in range(1, 6)}, "test_batch": True}


class Cifar100(_Cifar):
    """60,000 photographs of 32 x 32 pixels in 100 classes, from the user's disk."""

    name: ClassVar[str] = "cifar100"
    published: ClassVar[Card] = Card(
        title="CIFAR-100",
        items=60_000,
        classes=100,
        shape=(3, 32, 32),
        licence="none stated by its publisher",
        source=(
            "A. Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images; "
            "www.cs.toronto.edu/~kriz/cifar.html"
        ),
        package="on disk",
        digest=published_digest(_MD5_100),
        notes="500 of every class to train, 100 to test; labels are the fine ones, in alphabetical order.",
    )
    folders: ClassVar[tuple[str, ...]] = ("cifar-100-python",)
    marks: ClassVar[tuple[str, ...]] = ("train", "test", "meta")
    archives: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85"}
    )
    md5s: ClassVar[Mapping[str, str]] = MappingProxyType(_MD5_100)
    addresses: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"cifar-100-python.tar.gz": f"{_SITE}/cifar-100-python.tar.gz"}
    )
    obtain: ClassVar[str] = (
        "get cifar-100-python.tar.gz from www.cs.toronto.edu/~kriz/cifar.html and unpack it below OWB_DATA"
    )
    label_key: ClassVar[str] = "fine_labels"
    names_key: ClassVar[str] = "fine_label_names"

    @property
    def batches(self) -> Mapping[str, bool]:
        """File name -> whether it holds test items."""
        return {"train": False, "test": True}
