"""Data sets on disk that are missing, damaged or something else: one sentence that names the file, and
nothing half-written left behind.
"""

from __future__ import annotations

import gzip
import logging
import shutil
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import disk_formats as formats
import numpy as np
import pytest
from scipy.io import savemat

from harness.errors import UserError
from harness.selection import configured

SMALL = "resize=8,crop=6"


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()


def _refusal(text: str) -> str:
    """Return the sentence with which loading ends."""
    with pytest.raises(UserError) as refused:
        configured("dataset", text).load()
    said = str(refused.value)
    assert "\n" not in said
    return said


# --- where it is looked for ---------------------------------------------------------------------------------


def test_without_a_place_to_look_it_says_which_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OWB_DATA")
    assert _refusal("cifar100").startswith(
        "'cifar100' has to be read from your disk: set OWB_DATA to the folder above cifar-100-python, or say"
    )
    with pytest.raises(UserError, match="has to be read from your disk"):
        _ = configured("dataset", "cifar100").card


def test_a_missing_folder_is_named_with_where_it_was_looked_for_and_how_to_get_it(tmp_path: Path) -> None:
    said = _refusal("cub")
    for folder in ("CUB_200_2011", "cub", "CUB"):
        assert str(tmp_path / "data" / folder) in said
    assert "there is no such folder" in said
    assert "get CUB_200_2011.tgz from" in said
    assert str(tmp_path / "data" / "mine" / "CUB_200_2011") in _refusal("cub[root=mine]")


def test_a_folder_of_another_layout_is_named_with_what_it_should_hold(tmp_path: Path) -> None:
    (tmp_path / "data" / "cifar-100-python").mkdir()
    assert f"{tmp_path}/data/cifar-100-python holds none of train, test, meta" in _refusal("cifar100")


def _gzip(content: bytes) -> bytes:
    """Return the same bytes at any time, since the names of tests are made of them."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize("root", ["", "root={}", "root={}/cifar-100-python", "root=../data"])
def test_a_root_is_the_folder_or_the_one_above_it(root: str, tmp_path: Path) -> None:
    formats.cifar100(tmp_path / "data", train=1)
    assert (
        len(
            configured("dataset", f"cifar100[{root.format(tmp_path / 'data')}]".replace("[]", ""))
            .load()
            .labels
        )
        == 200
    )


def test_an_archive_beside_is_said_to_wait_for_unpacking(tmp_path: Path) -> None:
    archive = formats.tar_of(
        formats.aircraft(tmp_path / "elsewhere"), tmp_path / "data" / "fgvc-aircraft-2013b.tar.gz"
    )
    assert f"unpack {archive} beside it first" in _refusal("aircraft")
    archive.write_bytes(archive.read_bytes()[:-300])
    assert f"{archive} is truncated or damaged" in _refusal("aircraft")
    archive.write_bytes(formats.web_page())
    assert f"{archive} is a web page that was saved under this name, not an archive" in _refusal("aircraft")


def test_an_archive_is_held_against_its_published_digest(tmp_path: Path) -> None:
    archive = formats.tar_of(
        formats.cifar100(tmp_path / "elsewhere", train=1), tmp_path / "data" / "cifar-100-python.tar.gz"
    )
    said = _refusal("cifar100")
    assert f"{archive} has MD5 " in said
    assert "eb9058c3a382ffc7106e4002c42a8d85 is the publisher's: truncated or damaged" in said


def test_a_zip_is_read_to_its_end(tmp_path: Path) -> None:
    archive = tmp_path / "data" / "raw_image_ver.zip"
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("training/0_0.jpg", formats.jpeg())
    assert f"unpack {archive}" in _refusal("animal10n")
    archive.write_bytes(archive.read_bytes()[:-30])
    assert f"{archive} is truncated or damaged" in _refusal("animal10n")


# --- files that are not what they should be -----------------------------------------------------------------


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def _page(path: Path) -> None:
    path.write_bytes(formats.web_page())


ARRAYS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "cifar10": (formats.cifar10, "data_batch_3"),
    "cifar100": (formats.cifar100, "test"),
    "cifar100-c": (formats.cifar100_c, "gaussian_noise.npy"),
    "svhn": (formats.svhn, "test_32x32.mat"),
    "mnist": (lambda above: formats.mnist(above / "mnist"), "t10k-images-idx3-ubyte.gz"),
    "fashion-mnist": (
        lambda above: formats.mnist(above / "fashion-mnist", end=""),
        "train-labels-idx1-ubyte",
    ),
    "emnist[split=letters]": (formats.emnist_letters, "emnist-letters-train-images-idx3-ubyte.gz"),
    "cub": (formats.cub, "classes.txt"),
    "cars": (formats.cars, "cars_test_annos_withlabels.mat"),
    "tinyimagenet": (lambda above: formats.tinyimagenet(above, classes=3), "wnids.txt"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    writer, file = ARRAYS[name]
    folder = writer(tmp_path / "data")
    (folder / file).unlink()
    assert _refusal(name) == f"{folder} lacks {file}, which belongs to {name.partition('[')[0]}"


@pytest.mark.parametrize("name", [name for name in ARRAYS if name not in ("cub", "tinyimagenet")])
def test_a_truncated_file_is_said_to_be_so(name: str, tmp_path: Path) -> None:
    writer, file = ARRAYS[name]
    path = writer(tmp_path / "data") / file
    _cut(path)
    said = _refusal(name)
    assert str(path) in said
    assert "truncated" in said


@pytest.mark.parametrize("name", ARRAYS)
def test_a_web_page_in_the_place_of_a_file_is_said_to_be_one(name: str, tmp_path: Path) -> None:
    writer, file = ARRAYS[name]
    path = writer(tmp_path / "data") / file
    _page(path)
    assert f"{path} is a web page that was saved under this name, not " in _refusal(name)


def test_files_that_differ_from_the_publishers_are_warned_of_or_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = formats.cifar100(tmp_path / "data")
    with caplog.at_level(logging.WARNING):
        configured("dataset", "cifar100").load()
    assert [
        f"{folder / name} has MD5" in record.message
        for name, record in zip(("train", "test", "meta"), caplog.records, strict=True)
    ]
    said = _refusal("cifar100[verify=true]")
    assert said.startswith(f"{folder / 'train'} has MD5 ")
    assert "16019d7e3df5f24257cddd939b257f8d is the publisher's" in said


def test_a_file_is_digested_again_when_it_has_changed(tmp_path: Path) -> None:
    folder = formats.cifar100(tmp_path / "data")
    before = configured("dataset", "cifar100").card.digest
    (folder / "meta").write_bytes(formats.python2_pickle({"fine_label_names": ["x"] * 100}))
    assert configured("dataset", "cifar100").card.digest != before


def _batch(labels: list[int], width: int = 3072) -> bytes:
    return formats.python2_pickle({"data": np.zeros((2, width), np.uint8), "fine_labels": labels})


@pytest.mark.parametrize(
    ("name", "writer", "file", "content", "expected"),
    [
        (
            "cifar100",
            formats.cifar100,
            "test",
            _batch([1, 100]),
            "has labels from 0 to 100, but names for 100 classes",
        ),
        ("cifar100", formats.cifar100, "test", _batch([1]), "test holds no list fine_labels of 2 numbers"),
        (
            "cifar100",
            formats.cifar100,
            "test",
            _batch([1, 2], 3000),
            "test holds no uint8 array data of rows of 3072",
        ),
        (
            "cifar100",
            formats.cifar100,
            "meta",
            formats.python2_pickle({"names": []}),
            "meta holds no list fine_label_names",
        ),
        (
            "cifar100-c",
            formats.cifar100_c,
            "labels.npy",
            b"\x80\x04]\x94.",
            "labels.npy: truncated or damaged",
        ),
        (
            "mnist",
            ARRAYS["mnist"][0],
            "train-labels-idx1-ubyte.gz",
            _gzip(bytes(9)),
            "begins with 00000000: an idx file",
        ),
        (
            "mnist",
            ARRAYS["mnist"][0],
            "train-labels-idx1-ubyte.gz",
            _gzip(b"\0\0\x08\1\0\0\0\2ab"),
            "has 2 labels for 20 images",
        ),
        ("mnist", ARRAYS["mnist"][0], "train-labels-idx1-ubyte.gz", b"no gzip", "cannot read"),
        (
            "emnist[split=letters]",
            formats.emnist_letters,
            "emnist-letters-mapping.txt",
            b"1 65\n3 66\n",
            "one after another",
        ),
        (
            "emnist[split=letters]",
            formats.emnist_letters,
            "emnist-letters-mapping.txt",
            b"1 65\n2 66\n",
            "labels from 1 to 26, 1 to 2",
        ),
        ("cub", formats.cub, "image_class_labels.txt", b"1 1\n2 9\n", "the class 9 and"),
        ("cub", formats.cub, "image_class_labels.txt", b"1 1\n", "image 2 of"),
        (
            "cub",
            formats.cub,
            "images.txt",
            b"one two\n",
            "should begin every line with a number and a space, got 'one'",
        ),
        (
            "cub",
            formats.cub,
            "images.txt",
            b"\xff\xfe\x01",
            "is not text: a list of CUB-200-2011 was expected",
        ),
        (
            "cub",
            formats.cub,
            "images.txt",
            b"1 001.Bird_0/none.jpg\n",
            "names {}/images/001.Bird_0/none.jpg, which is not there (1 of 1",
        ),
        (
            "tinyimagenet",
            ARRAYS["tinyimagenet"][0],
            "wnids.txt",
            b"tench\n",
            "WordNet ids such as n01440764, one a line, got 'tench'",
        ),
        (
            "tinyimagenet",
            ARRAYS["tinyimagenet"][0],
            "wnids.txt",
            b"n01440764\n",
            "names the class n01440778, which",
        ),
        ("aircraft", formats.aircraft, "data/variants.txt", b"707-320\n", "names the variant 'A380', which"),
    ],
)
def test_contents_that_do_not_fit_are_named(
    name: str, writer: Callable[[Path], Path], file: str, content: bytes, expected: str, tmp_path: Path
) -> None:
    folder = writer(tmp_path / "data")
    (folder / file).write_bytes(content)
    said = _refusal(name)
    assert expected.format(folder) in said
    assert str(folder) in said


def test_test_annotations_of_cars_without_labels_are_not_enough(tmp_path: Path) -> None:
    formats.cars(tmp_path / "data", test_labels=False)
    assert (
        "cars_test_annos_withlabels.mat has no class of its images; the test annotations are those with labels"
        in _refusal("cars")
    )


def test_digits_of_another_shape_are_refused(tmp_path: Path) -> None:
    folder = formats.svhn(tmp_path / "data")
    savemat(folder / "train_32x32.mat", {"X": np.zeros((28, 28, 3, 2), np.uint8), "y": np.ones((2, 1))})
    assert "train_32x32.mat holds X uint8 (28, 28, 3, 2) and 2 labels" in _refusal("svhn")
    savemat(folder / "train_32x32.mat", {"X": np.zeros((32, 32, 3, 2), np.uint8)})
    assert "train_32x32.mat holds no y" in _refusal("svhn")


# --- pictures and their folders -----------------------------------------------------------------------------


def test_missing_and_empty_class_folders_are_named(tmp_path: Path) -> None:
    folder = formats.imagenet(tmp_path / "data" / "imagenet")
    said = f"imagenet[subset=present,{SMALL}]"
    assert "train has 5 class folders, 1000 were expected; say subset=present" in _refusal("imagenet")
    assert "train has 5 class folders, 9 were expected" in _refusal("imagenet[subset=first9]")
    shutil.rmtree(folder / "val" / formats.WNIDS[3])
    assert (
        f"{folder / 'val'} lacks 1 of the 5 class folders that were expected there: {formats.WNIDS[3]}"
        in _refusal(said)
    )
    (folder / "val" / formats.WNIDS[3]).mkdir()
    assert f"{folder / 'val'} has 1 class folders without a picture: {formats.WNIDS[3]}" in _refusal(said)
    shutil.rmtree(folder / "val")
    assert "lacks the folder val" in _refusal(said)


def test_cars_in_folders_are_all_196(tmp_path: Path) -> None:
    formats.cars_in_folders(tmp_path / "data", classes=3)
    assert "train has 3 class folders, 196 were expected" in _refusal("cars")


@pytest.mark.parametrize(
    ("name", "said"),
    [("imagenet", f"[subset=present,{SMALL}]"), ("cars", "[resize=8,crop=6]"), ("animal10n", "")],
)
def test_hidden_files_and_folders_are_no_class_and_no_picture(name: str, said: str, tmp_path: Path) -> None:
    writer = {
        "imagenet": lambda above: formats.imagenet(above / "imagenet"),
        "cars": formats.cars_in_folders,
    }.get(name, formats.animal10n)
    folder = writer(tmp_path / "data")
    before = configured("dataset", f"{name}{said}").card.digest
    for above in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for hidden in (".ipynb_checkpoints", "__MACOSX"):
            formats.picture(above / hidden / "7_7.jpg", 7, 7)
        for hidden in ("._n01440764_0.JPEG", "Thumbs.db", "desktop.ini", ".DS_Store"):
            (above / hidden).write_bytes(b"of the system")
    assert configured("dataset", f"{name}{said}").card.digest == before


@pytest.mark.parametrize("name", ["11_4.jpg", "cat_4.jpg"])
def test_a_name_of_animal10n_without_a_label_is_refused(name: str, tmp_path: Path) -> None:
    folder = formats.animal10n(tmp_path / "data")
    formats.picture(folder / "training" / name, 0, 0)
    assert f"{folder / 'training' / name} should be called <label>_<number>.jpg" in _refusal("animal10n")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [(_cut, "damaged, or not an image"), (_page, "is a web page"), (Path.unlink, "is not there")],
)
def test_an_unreadable_picture_is_named_and_nothing_is_left(
    damage: Callable[[Path], None], expected: str, tmp_path: Path
) -> None:
    folder = formats.cub(tmp_path / "data")
    path = folder / "images" / "003.Bird_2" / "Bird_2_1.jpg"
    damage(path)
    said = _refusal(f"cub[{SMALL}]")
    assert str(path) in said
    assert expected in said
    left = [each.name for each in (tmp_path / "cache").glob("*")] if (tmp_path / "cache").exists() else []
    assert not [name for name in left if name.startswith("pack-") or "tmp" in name]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    formats.cub(tmp_path / "data")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 0))
    assert "cannot keep the packed items in" in _refusal(f"cub[{SMALL}]")
    assert not [*(tmp_path / "cache").glob("*pack*"), *(tmp_path / "cache").glob("*tmp*")]


def test_a_cache_that_cannot_be_written_is_said_or_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    formats.cub(tmp_path / "data")
    formats.cifar100(tmp_path / "data")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "file" / "inside"))
    assert len(configured("dataset", "cifar100").load().labels) == 300
    assert len(configured("dataset", "cifar100").card.digest) == 64
    assert "set OWB_CACHE to a folder with room for them" in _refusal(f"cub[{SMALL}]")
