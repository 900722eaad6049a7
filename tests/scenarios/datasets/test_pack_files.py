"""Packs: the bytes that several threads write, the seal beside them, and what is noticed of a change."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness import stamps
from harness.contracts import AnyArray
from harness.errors import UserError
from harness.stamps import noted
from scenarios.datasets.pack_files import is_whole, rows_of, write_pack

SHAPE = (1, 1024, 700)
"""Of items of 700 KiB, of which two are a part of a pack: as many whole ones as 2 MiB hold."""


@pytest.fixture
def items() -> AnyArray:
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (5, *SHAPE), dtype=np.uint8)


@pytest.fixture
def pack(items: AnyArray, tmp_path: Path) -> Path:
    path = tmp_path / "pack-a.npy"
    write_pack(path, range(5), SHAPE, "uint8", items.__getitem__)
    return path


def test_a_pack_has_the_bytes_of_an_array_saved_whole_and_its_seal_their_digest_by_parts(
    items: AnyArray, pack: Path
) -> None:
    saved = io.BytesIO()
    np.save(saved, items)
    assert pack.read_bytes() == saved.getvalue()
    parts = [saved.getvalue()[:128], *(items[start : start + 2].tobytes() for start in (0, 2, 4))]
    expected = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
    assert json.loads(_seal(pack).read_text()) == {"digest": expected, "stamp": None}
    assert is_whole(pack, (5, *SHAPE))
    assert not is_whole(pack, (4, *SHAPE))


def test_a_large_pack_is_known_by_its_stamp_from_the_start(
    items: AnyArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest in its seal is not looked at as long as the stamp is that of the file, and no longer."""
    monkeypatch.setattr("scenarios.datasets.pack_files.HELD", 1 << 20)
    path = tmp_path / "pack-a.npy"
    write_pack(path, range(5), SHAPE, "uint8", items.__getitem__)
    seal = json.loads(_seal(path).read_text())
    assert seal["stamp"] == [*(noted(path) or ())]
    _seal(path).write_text(json.dumps({**seal, "digest": "another"}))
    assert is_whole(path, (5, *SHAPE))
    os.utime(path, (1, 1))
    assert not is_whole(path, (5, *SHAPE))


@pytest.mark.parametrize("held", [1 << 20, 1 << 30])
@pytest.mark.parametrize("place", [-1, 128, 700_000 * 3, 40])
def test_one_changed_byte_is_noticed_wherever_it_is(
    held: int, place: int, items: AnyArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scenarios.datasets.pack_files.HELD", held)
    path = tmp_path / "pack-a.npy"
    write_pack(path, range(5), SHAPE, "uint8", items.__getitem__)
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not is_whole(path, (5, *SHAPE))


def test_a_pack_that_was_copied_is_read_once_and_then_known_by_its_stamp(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it was left alone for more than two seconds; before, it is read each time."""
    copy = tmp_path / "pack-b.npy"
    for source, target in ((pack, copy), (_seal(pack), _seal(copy))):
        shutil.copy(source, target)
    assert is_whole(copy, (5, *SHAPE))
    assert json.loads(_seal(copy).read_text())["stamp"] is None
    later = time.time_ns() + 3_000_000_000
    monkeypatch.setattr(stamps, "time", SimpleNamespace(time_ns=lambda: later))
    assert is_whole(copy, (5, *SHAPE))
    assert json.loads(_seal(copy).read_text())["stamp"] == [*(noted(copy) or ())]


@pytest.mark.parametrize(
    "said", ["", "[]", "{}", '{"digest": "x", "stamp": [1]}', '{"digest": 3, "stamp": null}']
)
def test_a_seal_that_says_nothing_counts_as_none(said: str, pack: Path) -> None:
    _seal(pack).write_text(said)
    assert not is_whole(pack, (5, *SHAPE))


def test_a_pack_that_is_cut_short_meanwhile_is_named(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scenarios.datasets.pack_files.HELD", 1 << 20)
    rows_of(str(pack), np.arange(5))
    os.truncate(pack, 128 + 4 * 716_800)
    with pytest.raises(UserError, match=r"pack-a\.npy is damaged: remove it"):
        rows_of(str(pack), np.arange(5))


def test_of_a_pack_with_an_item_that_fails_nothing_is_left(items: AnyArray, tmp_path: Path) -> None:
    def read(row: int) -> AnyArray:
        if row == 3:
            raise UserError("row 3 is unreadable")
        found: AnyArray = items[row]
        return found

    with pytest.raises(UserError, match="row 3 is unreadable"):
        write_pack(tmp_path / "pack-a.npy", range(5), SHAPE, "uint8", read)
    assert not [*tmp_path.iterdir()]


def test_a_pack_whose_seal_cannot_be_kept_is_taken_away(items: AnyArray, tmp_path: Path) -> None:
    _seal(tmp_path / "pack-a.npy").mkdir()
    with pytest.raises(UserError, match="cannot keep the packed items"):
        write_pack(tmp_path / "pack-a.npy", range(5), SHAPE, "uint8", items.__getitem__)
    assert [path.name for path in tmp_path.iterdir()] == ["pack-a.npy.json"]


def _seal(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
