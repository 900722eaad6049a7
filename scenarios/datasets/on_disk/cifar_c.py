"""CIFAR-100-C: the test images of CIFAR-100 under 19 corruptions at five severities (Hendrycks and Dietterich
2019).

    CIFAR-100-C.tar:  CIFAR-100-C/{<corruption>.npy, labels.npy}

Every file holds the test set five times, severity 1 first: uint8 (50000, 32, 32, 3); the labels are repeated
likewise. Files are read without pickles.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from harness.contracts import AnyArray, Card, Data, param
from harness.errors import UserError
from scenarios.datasets.file_digests import digests_of
from scenarios.datasets.on_disk.contents import combined, page_problem
from scenarios.datasets.on_disk.place import OnDisk

SEVERITIES = 5
Corruption = Literal[
    "brightness",
    "contrast",
    "defocus_blur",
    "elastic_transform",
    "fog",
    "frost",
    "gaussian_blur",
    "gaussian_noise",
    "glass_blur",
    "impulse_noise",
    "jpeg_compression",
    "motion_blur",
    "pixelate",
    "saturate",
    "shot_noise",
    "snow",
    "spatter",
    "speckle_noise",
    "zoom_blur",
]


class Cifar100C(OnDisk):
    """CIFAR-100's test images under one of 19 corruptions, from the user's disk."""

    name: ClassVar[str] = "cifar100-c"
    published: ClassVar[Card] = Card(
        title="CIFAR-100-C, one corruption",
        items=50_000,
        classes=100,
        shape=(3, 32, 32),
        licence="CC BY 4.0 (Zenodo record; not verified)",
        source=(
            "D. Hendrycks and T. Dietterich 2019, Benchmarking Neural Network Robustness; "
            "zenodo.org/records/3555552"
        ),
        package="on disk",
        digest="",
        notes="All items are test items: CIFAR-100's own, corrupted. Names of classes are not in these files.",
    )
    folders: ClassVar[tuple[str, ...]] = ("CIFAR-100-C",)
    marks: ClassVar[tuple[str, ...]] = ("labels.npy",)
    archives: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"CIFAR-100-C.tar": "11f0ed0f1191edbf9fa23466ae6021d3"}
    )
    addresses: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"CIFAR-100-C.tar": "https://zenodo.org/records/3555552/files/CIFAR-100-C.tar"}
    )
    obtain: ClassVar[str] = "get CIFAR-100-C.tar from zenodo.org/records/3555552 and unpack it below OWB_DATA"

    corruption: Corruption = param("gaussian_noise", "which file")
    severity: int = param(0, "1 to 5, or 0 for all five one after another", ge=0, le=SEVERITIES)

    def expected(self) -> list[Path]:
        """Return the images of the corruption and the labels."""
        folder = self.folder()
        return [folder / f"{self.corruption}.npy", folder / "labels.npy"]

    def examine(self, path: Path) -> None:
        """Look at the shape of a file."""
        _mapped(path)

    def digest(self) -> str:
        """Return the SHA-256 over names and MD5s of both files; the severity is the parameter's to say."""
        files = self.files()
        return combined(
            f"{path.name} {md5}" for path, md5 in zip(files, digests_of(files, "md5"), strict=True)
        )

    def read(self) -> Data:
        """Return inputs uint8 (N, 3, 32, 32)."""
        images, labels = (_mapped(path) for path in self.files())
        if len(images) != len(labels) or len(labels) % SEVERITIES:
            raise UserError(
                f"{self.folder()} has {len(images)} images and {len(labels)} labels; five severities of "
                "one size were expected"
            )
        size = len(labels) // SEVERITIES
        part = slice((self.severity - 1) * size, self.severity * size) if self.severity else slice(None)
        chosen = np.asarray(labels[part]).astype(np.int64)
        if len(chosen) and not 0 <= chosen.min() <= chosen.max() < self.published.classes:
            raise UserError(
                f"{self.folder() / 'labels.npy'} has labels from {chosen.min()} to {chosen.max()}, 0 to 99 "
                "were expected"
            )
        inputs = np.ascontiguousarray(np.asarray(images[part]).transpose(0, 3, 1, 2))
        names = tuple(f"class {number}" for number in range(self.published.classes))
        return Data(
            inputs=inputs, labels=chosen, class_names=names, published_test=np.ones(len(chosen), dtype=bool)
        )

    def stated(self) -> tuple[int, int] | None:
        """Return the published size of one severity or of all."""
        return self.published.items // (SEVERITIES if self.severity else 1), self.published.classes


def _mapped(path: Path) -> AnyArray:
    shape, expected = (
        ((), "labels of one number an image")
        if path.name == "labels.npy"
        else ((32, 32, 3), "bytes of (N, 32, 32, 3)")
    )
    if problem := page_problem(path, "a .npy file"):
        raise UserError(problem)
    try:
        content: AnyArray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise UserError(
            f"cannot read {path}: truncated or damaged, a .npy file with {expected} was expected ({error})"
        ) from None
    if (
        content.ndim == 0
        or content.shape[1:] != shape
        or content.dtype.kind not in ("iu" if not shape else "u")
    ):
        raise UserError(f"{path} holds {content.dtype} {content.shape}, {expected} were expected")
    return content
