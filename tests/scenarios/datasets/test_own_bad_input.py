"""Data of one's own that are out of the ordinary: deep, for print, with single items, in tables of many rows. One
sentence with the path and what to do, and nothing half-written in the cache.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import own_formats as own
import pytest
from PIL import Image

from harness.errors import UserError
from harness.selection import configured
from scenarios.datasets.by_name import data_of


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OWB_DATA", raising=False)
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))


def _folder(root: Path, image: Image.Image, file: str, **options: Any) -> Path:
    """Write three plain pictures in two classes and one more, which is the last of the second."""
    for number, name in enumerate(("ant", "ant", "bee")):
        path = root / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (40 * number, 0, 9)).save(path)
    image.save(root / "bee" / file, **options)
    return root / "bee" / file


def _half_written(cache: Path) -> list[Path]:
    return [path for path in cache.glob("*") if path.name.startswith("pack-") or ".tmp" in path.name]


def test_16_bits_show_as_their_high_byte_and_what_would_show_black_is_refused(tmp_path: Path) -> None:
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024
    path = _folder(tmp_path / "p", Image.fromarray(deep), "deep.png")
    shown = data_of(f"folder[root={tmp_path / 'p'}]").inputs[np.array([3])][0]
    np.testing.assert_array_equal(shown, np.broadcast_to(deep // 256, (3, 8, 8)))
    Image.fromarray(deep // 64).save(path)
    with pytest.raises(
        UserError, match=rf"^image {path} is of 16 bits and has no value above 1008, .*; scale its"
    ):
        data_of(f"folder[root={tmp_path / 'p'},resize=4]")
    assert len(_half_written(tmp_path / "cache")) == 2  # the pack that was made first and its digest


def test_pictures_for_print_are_read_in_colours(tmp_path: Path) -> None:
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    _folder(tmp_path / "p", ink, "print.jpg", quality=100)
    shown = data_of(f"folder[root={tmp_path / 'p'}]").inputs[np.array([3])][0]
    assert np.abs(shown.astype(int) - np.array([255, 0, 0])[:, None, None]).max() <= 2


@pytest.mark.parametrize("mode", ["F", "LAB"])
def test_values_that_no_viewer_shows_alike_are_refused(mode: str, tmp_path: Path) -> None:
    path = _folder(tmp_path / "p", Image.new(mode, (8, 8)), "odd.tiff")
    with pytest.raises(
        UserError, match=rf"^image {path} is of mode {mode}.*; convert it to 8 bits a channel first$"
    ):
        data_of(f"folder[root={tmp_path / 'p'}]")
    assert not _half_written(tmp_path / "cache")


def test_a_class_with_one_item_is_named_where_two_are_needed(tmp_path: Path) -> None:
    _folder(tmp_path / "p", Image.new("RGB", (8, 8)), "more.png")
    Image.new("RGB", (8, 8), (3, 4, 5)).save(tmp_path / "p" / "bee" / "other.png")
    (tmp_path / "p" / "cod").mkdir()
    Image.new("RGB", (8, 8), (6, 7, 8)).save(tmp_path / "p" / "cod" / "0.png")
    text = f"folder[root={tmp_path / 'p'}]"
    assert data_of(text).class_names == ("ant", "bee", "cod")
    with pytest.raises(UserError) as refused:
        configured("scenario", f"class-incremental[dataset={text},stages=1]").deal(0)
    said = str(refused.value)
    assert said.startswith(f"{text}: class 2 has no training item")
    assert "'cod' has 1 item in all, and each class needs one at least for each of training and test" in said


@pytest.mark.parametrize("inside", ["", "train"])
def test_an_empty_folder_is_said_to_be_one(inside: str, tmp_path: Path) -> None:
    (tmp_path / "p" / inside).mkdir(parents=True)
    with pytest.raises(
        UserError, match=rf"^{tmp_path / 'p' / inside} has no folder for a class in it, and no labels.csv$"
    ):
        data_of(f"folder[root={tmp_path / 'p'}]")


def test_a_table_of_many_rows_takes_memory_in_proportion_to_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten million rows are these a hundred times: what a row takes does not depend on how many there are, and no row
    becomes objects of Python but its label's text, which is kept once.
    """
    import pyarrow as pa

    numbers = [(row, row % 7, f"class {row % 3}") for row in range(100_000)]
    path = own.table(tmp_path / "t.csv", numbers, ("x1", "x2", "y"))
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    data = data_of(f"table[path={path},features=x*,label=y]")
    assert data.inputs.shape == (100_000, 2)
    assert np.bincount(data.labels).tolist() == [33_334, 33_333, 33_333]
    assert pool.bytes_allocated() == before
    assert pool.max_memory() - before < 20 * path.stat().st_size
    monkeypatch.setattr("scenarios.datasets.own.columns.MEMORY_SHARE", 1e-6)
    with pytest.raises(
        UserError, match=rf"^{path} has 0.0 GiB unpacked, more than the .*: split it, or save its"
    ):
        data_of(f"table[path={path},features=x*,label=y]")
