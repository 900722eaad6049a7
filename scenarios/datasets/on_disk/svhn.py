"""SVHN, cropped digits: MATLAB files with X (32, 32, 3, N) and y (N, 1), where 10 stands for the digit 0
(Netzer et al. 2011).

    train_32x32.mat, test_32x32.mat, extra_32x32.mat  in one folder

The digit 0 is class 0 here, as in torchvision and in the released code of AutoNovel.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from harness.contracts import AnyArray, Card, Data, param
from harness.errors import UserError
from scenarios.datasets.file_digests import digests_of
from scenarios.datasets.on_disk.contents import combined, mat_of
from scenarios.datasets.on_disk.place import OnDisk, published_digest

_MD5 = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
_EXTRA = {"extra_32x32.mat": "a93ce644f1a588dc4d68dda5feec44a7"}
_EXPECTED = "a MATLAB file with the digits of SVHN"


class SVHN(OnDisk):
    """99,289 house-number digits of 32 x 32 pixels, from the user's disk."""

    name: ClassVar[str] = "svhn"
    published: ClassVar[Card] = Card(
        title="Street View House Numbers, cropped digits",
        items=99_289,
        classes=10,
        shape=(3, 32, 32),
        licence="for non-commercial use only, as its page says (not verified)",
        source="Y. Netzer et al. 2011, Reading Digits in Natural Images; ufldl.stanford.edu/housenumbers",
        package="on disk",
        digest=published_digest(_MD5),
        notes="73,257 to train, 26,032 to test; extra=true adds 531,131 easier ones to the training items.",
    )
    folders: ClassVar[tuple[str, ...]] = ("svhn", "SVHN")
    marks: ClassVar[tuple[str, ...]] = (*_MD5, *_EXTRA)
    md5s: ClassVar[Mapping[str, str]] = MappingProxyType({**_MD5, **_EXTRA})
    addresses: ClassVar[Mapping[str, str]] = MappingProxyType(
        {name: f"http://ufldl.stanford.edu/housenumbers/{name}" for name in (*_MD5, *_EXTRA)}
    )
    obtain: ClassVar[str] = (
        "get train_32x32.mat and test_32x32.mat from ufldl.stanford.edu/housenumbers into OWB_DATA/svhn"
    )

    extra: bool = param(False, "also train on the extra digits")

    def wanted(self) -> tuple[str, ...]:
        """Return the files, the extra digits where they are asked for."""
        return (*_MD5, *(_EXTRA if self.extra else ()))

    def expected(self) -> list[Path]:
        """Return the files, the test last."""
        folder = self.folder()
        return [
            folder / name for name in ("train_32x32.mat", *(_EXTRA if self.extra else ()), "test_32x32.mat")
        ]

    def examine(self, path: Path) -> None:
        """Read a file."""
        _digits(path)

    def digest(self) -> str:
        """Return the SHA-256 over names and MD5s of the files."""
        files = self.files()
        return combined(
            f"{path.name} {md5}" for path, md5 in zip(files, digests_of(files, "md5"), strict=True)
        )

    def read(self) -> Data:
        """Return inputs uint8 (N, 3, 32, 32)."""
        files = self.files()
        parts = [_digits(path) for path in files]
        is_test = np.concatenate(
            [
                np.full(len(labels), path.name.startswith("test"))
                for path, (_, labels) in zip(files, parts, strict=True)
            ]
        )
        return Data(
            inputs=np.concatenate([inputs for inputs, _ in parts]),
            labels=np.concatenate([labels for _, labels in parts]),
            class_names=tuple("0123456789"),
            published_test=is_test,
        )

    def stated(self) -> tuple[int, int] | None:
        """Return the published size, with the extra digits where they are asked for."""
        return self.published.items + (531_131 if self.extra else 0), self.published.classes


def _digits(path: Path) -> tuple[AnyArray, AnyArray]:
    content = mat_of(path, ("X", "y"), _EXPECTED)
    labels = np.atleast_1d(content["y"])
    images = np.asarray(content["X"])
    images = images[..., None] if images.ndim == 3 else images  # a single digit
    if (
        images.dtype != np.uint8
        or images.shape != (32, 32, 3, len(labels))
        or not 0 <= labels.min() <= labels.max() <= 10
    ):
        raise UserError(
            f"{path} holds X {images.dtype} {images.shape} and {len(labels)} labels: {_EXPECTED} was expected"
        )
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), labels.astype(np.int64) % 10
