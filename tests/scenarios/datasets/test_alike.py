"""Near duplicates: what is the same photograph in another format, size and brightness, and what is not."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from scenarios.datasets.alike import Pair, pairs_alike, prints_of


def _photographs(number: int) -> np.ndarray:
    """Return smooth random pictures, uint8 (N, 3, 48, 40)."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (number, 6, 5, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((40, 48))) for one in coarse]).transpose(
        0, 3, 1, 2
    )


def _again(photograph: np.ndarray, **options: int) -> np.ndarray:
    """Return a picture that was made half as large, saved as JPEG, read and brought back."""
    small = Image.fromarray(photograph.transpose(1, 2, 0)).resize((20, 24))
    content = BytesIO()
    small.save(content, "JPEG", **options)
    return np.asarray(Image.open(content).convert("RGB").resize((40, 48))).transpose(2, 0, 1)


def test_a_photograph_is_known_again_in_other_formats_sizes_and_brightness() -> None:
    originals = _photographs(60)
    darker = (20 + 0.6 * originals[7]).astype(np.uint8)
    copies = np.stack([originals[11], _again(originals[3], quality=60), darker])
    inputs = np.concatenate([originals, copies])
    train, test = np.arange(60), np.arange(60, 63)
    assert pairs_alike(prints_of(inputs), train, test) == [Pair(11, 60), Pair(3, 61), Pair(7, 62)]
    assert {*pairs_alike(prints_of(inputs), np.arange(63))} == {(11, 60), (3, 61), (7, 62)}
    assert pairs_alike(prints_of(inputs), train[:2], test) == []


def test_prints_do_not_depend_on_channels_value_range_or_batches() -> None:
    grey = np.repeat(_photographs(1100)[:, :1], 3, axis=1)
    whole = prints_of(grey)
    np.testing.assert_array_equal(whole.hashes, prints_of(grey[:, :1]).hashes)
    np.testing.assert_array_equal(whole.hashes[1020:1030], prints_of(grey[1020:1030]).hashes)
    scaled = prints_of(grey[:, :1].astype(np.float32) / 255)
    assert (
        np.bitwise_count(scaled.hashes ^ whole.hashes).max() <= 1
    )  # neighbours that are equal but for rounding
    np.testing.assert_allclose(scaled.small, whole.small, atol=1e-3)


def test_images_of_one_colour_and_images_smaller_than_the_hash_are_taken() -> None:
    plain = np.full((4, 1, 5, 3), 9, dtype=np.uint8)
    assert pairs_alike(prints_of(plain), np.arange(4)) == []
    small = np.random.default_rng(0).integers(0, 256, (3, 1, 4, 4), dtype=np.uint8)
    assert pairs_alike(prints_of(small[[0, 1, 2, 1]]), np.arange(4)) == [Pair(1, 3)]
