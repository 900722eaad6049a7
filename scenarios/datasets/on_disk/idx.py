"""MNIST and the sets in its format, idx: four bytes of magic, one big-endian size per dimension, then bytes;
plain or as .gz.

    MNIST, Fashion-MNIST:  {train, t10k}-{images-idx3, labels-idx1}-ubyte[.gz]
    EMNIST:                emnist-<split>-{train, test}-{images-idx3, labels-idx1}-ubyte[.gz],
    emnist-<split>-mapping.txt

Images of EMNIST are stored by column and are turned upright here; its letters are numbered from 1 in the
files, from 0 here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from harness.contracts import AnyArray, Card, Data, param
from harness.errors import UserError
from scenarios.datasets.file_digests import digests_of
from scenarios.datasets.on_disk.contents import combined, content_of, lines_of
from scenarios.datasets.on_disk.place import OnDisk, published_digest

_KINDS = ("images-idx3", "labels-idx1")
_NAMES = tuple(f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in _KINDS)
_MD5 = dict(
    zip(
        _NAMES,
        (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        strict=True,
    )
)
_MD5_FASHION = dict(
    zip(
        _NAMES,
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        strict=True,
    )
)
_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist"  # the first that torchvision asks
_FASHION_SITE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
_PUBLISHED_SIZES = {
    "byclass": (814_255, 62),
    "bymerge": (814_255, 47),
    "balanced": (131_600, 47),
    "letters": (145_600, 26),
    "digits": (280_000, 10),
    "mnist": (70_000, 10),
}


class Mnist(OnDisk):
    """70,000 handwritten digits of 28 x 28 pixels, from the user's disk."""

    name: ClassVar[str] = "mnist"
    published: ClassVar[Card] = Card(
        title="MNIST",
        items=70_000,
        classes=10,
        shape=(1, 28, 28),
        licence="CC BY-SA 3.0 (not verified)",
        source="Y. LeCun, C. Cortes, C. Burges, The MNIST Database of Handwritten Digits",
        package="on disk",
        digest=published_digest(_MD5),
        notes=(
            "60,000 to train, 10,000 to test. The digest on this card is that of the .gz files; unpacked "
            "ones have another."
        ),
    )
    folders: ClassVar[tuple[str, ...]] = ("mnist", "MNIST/raw", "MNIST")
    marks: ClassVar[tuple[str, ...]] = tuple(name.removesuffix(end) for name in _NAMES for end in ("", ".gz"))
    md5s: ClassVar[Mapping[str, str]] = MappingProxyType(_MD5)
    addresses: ClassVar[Mapping[str, str]] = MappingProxyType({name: f"{_MIRROR}/{name}" for name in _NAMES})
    obtain: ClassVar[str] = (
        "get the four files train- and t10k-...-ubyte.gz (storage.googleapis.com/cvdf-datasets/mnist) into "
        "OWB_DATA/mnist"
    )
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")

    def expected(self) -> list[Path]:
        """Return images and labels, training first, plain or packed as they are there."""
        return _plain_or_packed(self.folder(), _NAMES)

    def examine(self, path: Path) -> None:
        """Read a file."""
        _idx(path)

    def digest(self) -> str:
        """Return the SHA-256 over names and MD5s of the files."""
        files = self.files()
        return combined(
            f"{path.name} {md5}" for path, md5 in zip(files, digests_of(files, "md5"), strict=True)
        )

    def read(self) -> Data:
        """Return inputs uint8 (N, 1, 28, 28)."""
        return _joined(self.files(), self.class_names)


class FashionMnist(Mnist):
    """70,000 pictures of clothes of 28 x 28 pixels in 10 classes, from the user's disk."""

    name: ClassVar[str] = "fashion-mnist"
    published: ClassVar[Card] = Card(
        title="Fashion-MNIST",
        items=70_000,
        classes=10,
        shape=(1, 28, 28),
        licence="MIT",
        source="H. Xiao, K. Rasul, R. Vollgraf 2017, Fashion-MNIST; github.com/zalandoresearch/fashion-mnist",
        package="on disk",
        digest=published_digest(_MD5_FASHION),
        notes=Mnist.published.notes,
    )
    folders: ClassVar[tuple[str, ...]] = ("fashion-mnist", "FashionMNIST/raw", "FashionMNIST")
    md5s: ClassVar[Mapping[str, str]] = MappingProxyType(_MD5_FASHION)
    addresses: ClassVar[Mapping[str, str]] = MappingProxyType(
        {name: f"{_FASHION_SITE}/{name}" for name in _NAMES}
    )
    obtain: ClassVar[str] = (
        "get the four files train- and t10k-...-ubyte.gz from github.com/zalandoresearch/fashion-mnist "
        "into OWB_DATA/fashion-mnist"
    )
    class_names: ClassVar[tuple[str, ...]] = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )


class Emnist(OnDisk):
    """Handwritten digits and letters of 28 x 28 pixels in one of six splits, from the user's disk."""

    name: ClassVar[str] = "emnist"
    published: ClassVar[Card] = Card(
        title="EMNIST, by default its balanced split",
        items=131_600,
        classes=47,
        shape=(1, 28, 28),
        licence="none stated by its publisher; scans of NIST Special Database 19",
        source=(
            "G. Cohen, S. Afshar, J. Tapson, A. van Schaik 2017, EMNIST; "
            "nist.gov/itl/products-and-services/emnist-dataset"
        ),
        package="on disk",
        digest="",
        notes="byclass has 814,255 items of 62 classes, bymerge the same of 47, letters 145,600 of 26, "
        "digits 280,000 and "
        "mnist 70,000 of 10.",
    )
    folders: ClassVar[tuple[str, ...]] = ("emnist", "EMNIST/raw", "EMNIST", "gzip", "emnist/gzip")
    marks: ClassVar[tuple[str, ...]] = tuple(f"emnist-{split}-mapping.txt" for split in _PUBLISHED_SIZES)
    archives: ClassVar[Mapping[str, str]] = MappingProxyType({"gzip.zip": "58c8d27c78d21e728a6bc7b3cc06412e"})
    addresses: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"gzip.zip": "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip"}
    )
    obtain: ClassVar[str] = (
        "get gzip.zip from nist.gov/itl/products-and-services/emnist-dataset and unpack it as OWB_DATA/emnist"
    )

    split: Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"] = param(
        "balanced", "which of the six"
    )

    def expected(self) -> list[Path]:
        """Return images and labels, training first, and the mapping where there is one to read."""
        names = [
            f"emnist-{self.split}-{part}-{kind}-ubyte.gz" for part in ("train", "test") for kind in _KINDS
        ]
        folder = self.folder()
        return [*_plain_or_packed(folder, names), folder / f"emnist-{self.split}-mapping.txt"]

    def examine(self, path: Path) -> None:
        """Read a file."""
        if path.suffix == ".txt":
            _characters(path)
        else:
            _idx(path)

    def digest(self) -> str:
        """Return the SHA-256 over names and MD5s of the files."""
        files = self.files()
        return combined(
            f"{path.name} {md5}" for path, md5 in zip(files, digests_of(files, "md5"), strict=True)
        )

    def read(self) -> Data:
        """Return inputs uint8 (N, 1, 28, 28)."""
        *files, mapping = self.files()
        numbers, characters = _characters(mapping)
        return _joined(files, characters, first=numbers[0], by_column=True)

    def stated(self) -> tuple[int, int] | None:
        """Return the published size of the split."""
        return _PUBLISHED_SIZES[self.split]


def _plain_or_packed(folder: Path, names: list[str] | tuple[str, ...]) -> list[Path]:
    """Return the files under these names, which end in .gz, or as they are called when unpacked."""
    found: list[Path | None] = []
    for name in names:
        plain = name.removesuffix(".gz")
        called = (folder / each for each in (name, plain, plain.replace("-idx", ".idx")))
        found.append(next((path for path in called if path.is_file()), None))
    end = ".gz" if not any(found) or any(path is not None and path.suffix == ".gz" for path in found) else ""
    return [
        path or folder / (name.removesuffix(".gz") + end) for path, name in zip(found, names, strict=True)
    ]


def _idx(path: Path) -> AnyArray:
    """Return the array in an idx file of bytes: uint8 (N, H, W) or (N,)."""
    expected = "an idx file of bytes"
    content = content_of(path, expected)
    dimensions = 3 if "idx3" in path.name else 1
    start = 4 * (1 + dimensions)
    if content[:4] != bytes((0, 0, 8, dimensions)) or len(content) < start:
        raise UserError(
            f"{path} begins with {content[:4].hex()}: {expected} in {dimensions} dimensions was expected"
        )
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], dtype=">u4"))
    if len(content) != start + math.prod(shape):
        raise UserError(
            f"{path} is truncated or damaged: it says {' x '.join(map(str, shape))} and holds "
            f"{len(content) - start} bytes"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _joined(
    files: list[Path], class_names: tuple[str, ...], *, first: int = 0, by_column: bool = False
) -> Data:
    """Return training and test items; files: images and labels of the one, then of the other. first: the
    label of class 0.
    """
    arrays = [_idx(path) for path in files]
    for images, labels, path in ((arrays[0], arrays[1], files[1]), (arrays[2], arrays[3], files[3])):
        if len(images) != len(labels):
            raise UserError(f"{path} has {len(labels)} labels for {len(images)} images")
        if len(labels) and not first <= labels.min() <= labels.max() < first + len(class_names):
            raise UserError(
                f"{path} has labels from {labels.min()} to {labels.max()}, {first} to "
                f"{first + len(class_names) - 1} were expected"
            )
    inputs = np.concatenate([arrays[0], arrays[2]])[:, None]
    labels = np.concatenate([arrays[1], arrays[3]]).astype(np.int64) - first
    is_test = np.arange(len(labels)) >= len(arrays[1])
    inputs = np.ascontiguousarray(inputs.swapaxes(2, 3)) if by_column else inputs
    return Data(inputs=inputs, labels=labels, class_names=class_names, published_test=is_test)


def _characters(path: Path) -> tuple[list[int], tuple[str, ...]]:
    """Return the labels of the classes, and the first character of each."""
    try:
        rows = [
            [int(part) for part in line.split()]
            for line in lines_of(path, "a mapping of labels to characters")
        ]
        numbers, characters = [row[0] for row in rows], tuple(chr(row[1]) for row in rows)
    except (ValueError, IndexError, OverflowError) as error:
        raise UserError(
            f"{path} is no mapping of labels to characters: label and code were expected in every line ({error})"
        ) from None
    if not numbers or numbers != [*range(numbers[0], numbers[0] + len(numbers))]:
        raise UserError(f"{path} does not number its classes one after another")
    return numbers, characters
