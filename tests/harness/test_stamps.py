"""Files that were replaced or damaged while sizes and times of change were kept: digests, packs, labels and
weights notice.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import anomaly_formats
import disk_formats
import numpy as np
import pytest
import torch
from PIL import Image

from harness import stamps, weights
from harness.selection import configured
from harness.stamps import Stamp, noted, stamp_of, stamp_once_written
from scenarios.datasets import file_digests
from scenarios.datasets.file_digests import digests_of
from scenarios.shared.human_labels import human_labels

_LONG_AGO = (1_700_000_000, 1_700_000_000)
Change = Callable[[Path, bytes], None]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OWB_DATA", str(tmp_path / "data"))


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an hour pass, so that what was just written counts as left alone and digests are kept."""
    now = time.time_ns
    monkeypatch.setattr(stamps, "time", SimpleNamespace(time_ns=lambda: now() + 3_600_000_000_000))


def in_place(path: Path, content: bytes) -> None:
    """Write over a file."""
    with path.open("r+b") as file:
        file.write(content)


def replaced(path: Path, content: bytes) -> None:
    """Put another file there."""
    path.unlink()
    path.write_bytes(content)


def changed(path: Path, change: Change = in_place, *, content: bytes | None = None) -> None:
    """Change the last byte of a file (or give it `content`); size and time of change stay. One tick of the
    clock passes at least.
    """
    before = path.stat()
    if content is None:
        content = path.read_bytes()
        content = content[:-1] + bytes([content[-1] ^ 1])
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        change(path, content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


# --- stamps and digests -------------------------------------------------------------------------------------


def test_a_file_has_no_stamp_before_it_was_left_alone_for_two_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    os.utime(path, _LONG_AGO)
    assert stamp_of(path) is None
    seen = path.stat()
    for waited, expected in (
        (2_000_000_000, None),
        (2_000_000_001, Stamp(3, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)),
        (-1, None),
    ):
        monkeypatch.setattr(
            stamps, "time", SimpleNamespace(time_ns=lambda waited=waited: seen.st_ctime_ns + waited)
        )
        assert stamp_of(path) == expected


def test_where_ctime_is_the_time_of_creation_nothing_is_known(
    tmp_path: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    assert stamp_of(path) is not None
    monkeypatch.setattr(stamps, "os", SimpleNamespace(name="nt"))
    assert stamp_of(path) is None


def test_who_has_written_a_file_knows_it_by_its_stamp_once_a_tick_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times of whole seconds, or of hundredths, say nothing of what changes within one."""
    path = tmp_path / "a"
    path.write_bytes(b"one")
    stamp = stamp_once_written(path)
    assert stamp == noted(path) is not None
    in_place(path, b"two")
    os.utime(path, ns=(0, stamp.changed_ns))
    assert noted(path) != stamp
    for ticks in (1_000_000_000, 10_000_000):
        seen = SimpleNamespace(st_size=3, st_mtime_ns=5, st_ctime_ns=7 * ticks, st_ino=11)
        monkeypatch.setattr(Path, "stat", lambda _, seen=seen: seen)
        assert stamp_once_written(path) is None


@pytest.mark.parametrize("change", [in_place, replaced])
@pytest.mark.parametrize("waits", [True, False])
def test_a_digest_is_that_of_what_is_there_now(
    waits: bool, change: Change, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Left alone for long or written a moment ago, through a link or not."""
    if waits:
        request.getfixturevalue("later")
    path, link = tmp_path / "a", tmp_path / "link"
    path.write_bytes(b"some content")
    os.utime(path, _LONG_AGO)
    link.symlink_to(path)
    for _ in range(3):
        for algorithm in ("md5", "sha256"):
            expected = hashlib.new(algorithm, path.read_bytes()).hexdigest()
            assert digests_of([path, link], algorithm) == [expected] * 2  # type: ignore[arg-type]
        changed(path, change)


def test_a_link_that_leads_elsewhere_is_noticed(tmp_path: Path, later: None) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
        os.utime(tmp_path / name / "a", _LONG_AGO)
    (tmp_path / "data").symlink_to(tmp_path / "one")
    first = digests_of([tmp_path / "data" / "a"])
    (tmp_path / "data").unlink()
    (tmp_path / "data").symlink_to(tmp_path / "two")
    assert digests_of([tmp_path / "data" / "a"]) != first


def test_a_file_that_was_left_alone_is_read_once_and_one_that_was_not_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read, inner = tmp_path / "a", [], file_digests.digest_of
    path.write_bytes(b"one")
    monkeypatch.setattr(
        file_digests, "digest_of", lambda path, algorithm: read.append(path) or inner(path, algorithm)
    )
    digests_of([path])
    digests_of([path])
    assert len(read) == 2
    now = time.time_ns
    monkeypatch.setattr(stamps, "time", SimpleNamespace(time_ns=lambda: now() + 3_600_000_000_000))
    digests_of([path])
    digests_of([path])
    assert len(read) == 3
    digests_of([path], anew=True)
    assert len(read) == 4


# --- data sets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "name", "file"),
    [
        (disk_formats.cifar10, "cifar10", "data_batch_1"),
        (disk_formats.cifar10, "cifar10", "batches.meta"),
        (disk_formats.cifar100_c, "cifar100-c", "gaussian_noise.npy"),
        (disk_formats.cifar100_c, "cifar100-c", "labels.npy"),
        (disk_formats.svhn, "svhn", "test_32x32.mat"),
        (disk_formats.cub, "cub[resize=8,crop=0]", "images/001.Bird_0/Bird_0_0.jpg"),
        (disk_formats.clothing1m, "clothing1m[resize=8,crop=0]", "images/*/*/*.jpg"),
    ],
)
@pytest.mark.parametrize("change", [in_place, replaced])
def test_a_data_set_has_another_digest(
    write: Callable[[Path], Path], name: str, file: str, change: Change, tmp_path: Path, later: None
) -> None:
    folder = write(tmp_path / "data")
    before = configured("dataset", name).card.digest
    changed(sorted(folder.glob(file))[0], change)
    assert configured("dataset", name).card.digest != before


def test_a_list_that_says_something_else_is_noticed(tmp_path: Path, later: None) -> None:
    """Bird 1 is told from bird 4 by one digit."""
    labels = disk_formats.cub(tmp_path / "data") / "image_class_labels.txt"
    before = configured("dataset", "cub[resize=8,crop=0]")
    digest, classes = before.card.digest, before.load().labels
    changed(labels, replaced, content=labels.read_bytes().replace(b"1 1\n", b"1 4\n", 1))
    after = configured("dataset", "cub[resize=8,crop=0]")
    assert (digest != after.card.digest, classes[0], after.load().labels[0]) == (True, 0, 3)


@pytest.mark.parametrize("change", [in_place, replaced])
@pytest.mark.parametrize(
    ("write", "category", "file"),
    [
        (anomaly_formats.mvtec, "bottle", "bottle/train/good/000.png"),
        (anomaly_formats.mvtec, "bottle", "bottle/ground_truth/cut/000_mask.png"),
        (anomaly_formats.visa, "candle", "candle/Data/Images/Normal/000.JPG"),
        (anomaly_formats.realiad, "audiojack", "realiad_1024/audiojack/NG/pit/*/*_mask.png"),
    ],
)
def test_images_and_masks_of_anomaly_detection_are_read_again(
    write: Callable[[Path], Path], category: str, file: str, change: Change, tmp_path: Path, later: None
) -> None:
    """The picture turned upside down. What follows its end does not count, so both files are filled up to one
    size.
    """
    root = write(tmp_path / "data")
    (path,) = root.glob(file)
    turned = io.BytesIO()
    with Image.open(path) as opened:
        opened.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(turned, opened.format)
    size = max(path.stat().st_size, len(turned.getvalue()))
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    os.utime(path, _LONG_AGO)

    def look() -> tuple[str, bytes]:
        scenario = configured(
            "scenario", f"anomaly[source={root.name},categories={category},resize=16,crop=0]"
        )
        deal, rows = scenario.deal(0), np.arange(4)
        return str(dict(scenario.data_digests())), np.asarray(deal.inputs[rows]).tobytes() + np.asarray(
            deal.facts["mask"][rows]
        ).tobytes()

    before = look()
    changed(path, change, content=turned.getvalue().ljust(size, b"\0"))
    after = look()
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_check_reads_even_what_seems_to_be_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failing disk changes a file and nobody notes it; a loading may trust the stamp, who asks for a check
    is answered from the disk.
    """
    folder = disk_formats.cifar10(tmp_path / "data")
    monkeypatch.setattr(file_digests, "stamp_of", lambda path: Stamp(1, 2, 3, 4))
    dataset = configured("dataset", "cifar10")
    found = dict(zip(dataset.md5s, digests_of(dataset.files(), "md5"), strict=True))
    monkeypatch.setattr(type(dataset), "md5s", found)
    assert not dataset.differences(dataset.files())
    changed(folder / "data_batch_1")
    assert any("data_batch_1 has MD5" in said for said in dataset.problems())
    assert any("data_batch_1 has MD5" in said for said in dataset.differences(dataset.files())), (
        "what was found is kept"
    )


# --- what is made of files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("waits", [True, False])
def test_a_pack_that_was_damaged_in_place_is_made_again(
    waits: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if waits:
        request.getfixturevalue("later")
    disk_formats.cub(tmp_path / "data")

    def look() -> bytes:
        return np.asarray(
            configured("dataset", "cub[resize=8,crop=0]").load().inputs[np.arange(12)]
        ).tobytes()

    right = look()
    (pack,) = (tmp_path / "cache").glob("pack-*.npy")
    changed(pack)
    assert look() == right


def test_prepared_arrays_that_were_damaged_in_place_are_made_again(tmp_path: Path, later: None) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    right = digests_of([path])
    (kept,) = (tmp_path / "cache").glob("*.npz")
    content = kept.read_bytes()
    changed(kept, content=content.replace(right[0].encode("utf-32-le"), (64 * "0").encode("utf-32-le")))
    assert digests_of([path]) == right


def test_human_labels_that_were_replaced_are_read_again(tmp_path: Path, later: None) -> None:
    file, clean = tmp_path / "people.npz", np.arange(6) % 3
    contents = []
    for labels in (np.zeros(6, dtype=np.int64), np.ones(6, dtype=np.int64)):
        np.savez(file, clean_label=clean, worse_label=labels)
        contents.append(file.read_bytes())
    file.write_bytes(contents[0])
    assert not human_labels(str(file), "worse_label", np.arange(6), clean).any()
    changed(file, replaced, content=contents[1])
    assert human_labels(str(file), "worse_label", np.arange(6), clean).all()


@pytest.mark.parametrize("change", [in_place, replaced])
@pytest.mark.parametrize("waits", [True, False])
def test_weights_that_were_replaced_have_another_digest(
    waits: bool, change: Change, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if waits:
        request.getfixturevalue("later")
    file = tmp_path / "weights.pt"
    torch.save({"weight": torch.zeros(3)}, file)
    for _ in range(3):
        assert weights.digest_of(file) == hashlib.sha256(file.read_bytes()).hexdigest()
        changed(file, change)
