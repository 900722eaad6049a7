"""A data set on the user's disk as a pool: its files found, hashed, checked and packed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from harness.errors import UserError
from scenarios.anomaly.folders import ImageFile
from scenarios.anomaly.pool import GOOD, Pool
from scenarios.datasets.file_digests import digests_of
from scenarios.datasets.packed import Sizes, packed_images, packed_masks

_log = logging.getLogger(__name__)


class Hashed(NamedTuple):
    """Files and the SHA-256 of each, of the image and, where there is one, of its mask; of several joined by +."""

    files: list[ImageFile]
    images: list[str]
    masks: list[str | None]

    def digest(self) -> str:
        """Return one SHA-256 over what every image is and what is in it, wherever it lies and whatever its
        name.
        """
        lines = sorted(
            f"{file.category}/{file.defect}/{file.train}/{image}/{mask}"
            for file, image, mask in zip(*self, strict=True)
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def hashed(files: Sequence[ImageFile]) -> Hashed:
    """Hash the files.

    Raises:
        UserError: one that cannot be read; or one that is among the training and among the test images, both
        named.
    """
    masks = [mask for file in files if file.mask is not None for mask in (file.mask, *file.more_masks)]
    found = digests_of([*(file.path for file in files), *masks])
    images, of_masks = found[: len(files)], iter(found[len(files) :])
    learned = {key: file.path for file, key in zip(files, images, strict=True) if file.train}
    for file, key in zip(files, images, strict=True):
        if not file.train and key in learned:
            raise UserError(
                f"{file.path} is a test image, but the same file is learned from as {learned[key]}"
            )
    return Hashed(
        list(files),
        images,
        [
            None if file.mask is None else "+".join(islice(of_masks, 1 + len(file.more_masks)))
            for file in files
        ],
    )


def kinds_of(files: Sequence[ImageFile]) -> tuple[str, ...]:
    """Return the kinds of defects, `GOOD` first, then sorted."""
    return (GOOD, *sorted({file.defect for file in files} - {GOOD}))


def disk_pool(
    content: Hashed, categories: tuple[str, ...], sizes: Sizes, *, resolution: int, rule: str
) -> Pool:
    """Return the images as a pool; decoded and checked where that has not been done before.

    Raises:
        UserError: a damaged image or mask, or one that does not fit, named.
    """
    files, kinds = content.files, kinds_of(content.files)
    samples = {sample: index for index, sample in enumerate(sorted({file.sample for file in files}))}
    masks = packed_masks(
        [file.mask for file in files],
        [file.path for file in files],
        [key for key in content.masks if key is not None],
        sizes,
        more={file.mask: file.more_masks for file in files if file.mask is not None},
        resolution=resolution,
        rule=rule,
    )
    if bare := [file.path for file in files if file.defect != GOOD and file.mask is None]:
        _log.warning(
            "%d defective images have no mask and count for image figures only, the first of them %s",
            len(bare),
            bare[0],
        )
    return Pool(
        categories=categories,
        kinds=kinds,
        inputs=packed_images([file.path for file in files], content.images, sizes),
        masks=masks,
        category=np.array([categories.index(file.category) for file in files], dtype=np.int64),
        defect=np.array([kinds.index(file.defect) for file in files], dtype=np.int64),
        sample=np.array([samples[file.sample] for file in files], dtype=np.int64),
        train=np.array([file.train for file in files], dtype=bool),
        has_mask=np.array([file.mask is not None for file in files], dtype=bool),
    )
