"""Every data set on disk, read from its true format: items, labels, order, test part, and that nothing else
is read or told.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import disk_formats as formats
import numpy as np
import pytest

from harness.contracts import Data, Divisible
from harness.errors import UserError
from harness.selection import configured
from scenarios.datasets.on_disk import pickles
from scenarios.datasets.on_disk.pictures import Picture, Pictures
from scenarios.datasets.on_disk.place import OnDisk

PICTURES = ("tinyimagenet", "imagenet", "cub", "cars", "aircraft", "animal10n", "clothing1m")


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))


def _loaded(name: str, tmp_path: Path, said: str | None = None) -> Data:
    writer, usual = formats.WRITERS[name]
    if not (tmp_path / "data").exists():
        writer(tmp_path / "data")
    said = usual if said is None else said
    data: Data = configured("dataset", f"{name}[{said}]" if said else name).load()
    return data


def _colours(data: Data) -> np.ndarray[Any, Any]:
    """Return the mean colour of every picture, (N, 3)."""
    return data.inputs[np.arange(len(data.labels))].astype(float).mean(axis=(2, 3))


@pytest.mark.parametrize("name", formats.WRITERS)
def test_a_data_set_is_found_and_loads_the_same_twice(name: str, tmp_path: Path) -> None:
    first, second = _loaded(name, tmp_path), _loaded(name, tmp_path)
    every = np.arange(len(first.labels))
    assert first.inputs.shape[0] == len(every)
    assert first.inputs[every].dtype == np.uint8
    assert first.inputs[every].tobytes() == second.inputs[every].tobytes()
    assert first.labels.dtype == np.int64
    assert sorted({*first.labels}) == [*range(len(first.class_names))][: 4 if name == "cifar100-c" else None]
    assert first.published_test is not None
    assert first.published_test.dtype == np.bool_


@pytest.mark.parametrize("name", formats.WRITERS)
def test_the_digest_follows_the_contents_wherever_they_lie(name: str, tmp_path: Path) -> None:
    _loaded(name, tmp_path)
    said = formats.WRITERS[name][1]
    dataset = configured("dataset", f"{name}[{said}]" if said else name)
    before = dataset.card.digest
    assert len(before) == 64
    assert before != type(dataset).card.digest
    (folder,) = (folder for folder in (tmp_path / "data").iterdir())
    folder.rename(tmp_path / "elsewhere")
    inner = dataset.folders[1].split("/")[1] if name == "fashion-mnist" else ""
    moved = configured(
        "dataset", f"{name}[root={tmp_path / 'elsewhere' / inner}{',' + said if said else ''}]"
    )
    assert moved.card.digest == before
    images = [
        path for path in sorted((tmp_path / "elsewhere").rglob("*.[jJ][pP]*")) if "test" not in path.parts
    ]
    changed = images[0] if name in PICTURES else moved.files()[0]
    changed.write_bytes(formats.jpeg() if name in PICTURES else changed.read_bytes() + b"\0")
    assert moved.card.digest != before


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_divisible_and_tell_no_path(name: str, tmp_path: Path) -> None:
    data = _loaded(name, tmp_path)
    assert isinstance(data.inputs, Divisible)
    rows = np.array([3, 0])
    part = data.inputs.subset(rows)
    np.testing.assert_array_equal(part[np.arange(2)], data.inputs[rows])
    told = str(pickle.dumps(part))
    assert str(tmp_path / "data") not in told
    assert not any(class_name in told for class_name in data.class_names if len(class_name) > 3)
    assert len(part.rows) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_has_the_colour_of_its_class_and_part(name: str, tmp_path: Path) -> None:
    data = _loaded(name, tmp_path)
    labels = (
        data.labels
        if name != "clothing1m"
        else np.where(data.published_test, data.labels, (data.labels - 1) % 14)
    )
    colours = _colours(data)
    np.testing.assert_allclose(
        colours[:, 0], (37 * labels) % 256, atol=4
    )  # JPEG keeps a plain colour to a few steps
    np.testing.assert_allclose(colours[:, 2], np.where(data.published_test, 200, 50), atol=4)


def test_cifar_comes_in_the_order_of_its_files_with_its_names(tmp_path: Path) -> None:
    data = _loaded("cifar10", tmp_path)
    np.testing.assert_array_equal(data.labels, np.tile(np.arange(10), 6))
    np.testing.assert_array_equal(np.flatnonzero(data.published_test), np.arange(50, 60))
    np.testing.assert_array_equal(data.inputs[np.array([23])][0], formats.pixels(3, 2))
    assert (data.class_names[0], data.class_names[9]) == ("airplane", "truck")


def test_cifar_100_takes_the_fine_labels(tmp_path: Path) -> None:
    data = _loaded("cifar100", tmp_path)
    assert set(np.bincount(data.labels)) == {3}
    np.testing.assert_array_equal(data.inputs[np.array([142])][0], formats.pixels(42, 1))
    np.testing.assert_array_equal(data.inputs[np.array([242])][0], formats.pixels(42, 0, test=True))
    assert data.class_names[42] == "fine 42"


@pytest.mark.parametrize(
    ("said", "expected"), [("corruption=fog,severity=3", range(8, 12)), ("corruption=fog", range(20))]
)
def test_a_severity_is_a_fifth_of_a_corruption(said: str, expected: range, tmp_path: Path) -> None:
    data = _loaded("cifar100-c", tmp_path, said)
    assert data.published_test is not None
    assert data.published_test.all()
    images = [formats.pixels(place % 4, 10 * (1 + place // 4) + 1) for place in expected]
    np.testing.assert_array_equal(data.inputs[np.arange(len(expected))], np.stack(images))
    np.testing.assert_array_equal(data.labels, [place % 4 for place in expected])


def test_the_ten_of_svhn_is_the_digit_zero_and_extra_digits_are_extra(tmp_path: Path) -> None:
    data, more = _loaded("svhn", tmp_path), _loaded("svhn", tmp_path, "extra=true")
    np.testing.assert_array_equal(data.labels, np.tile([1, 2, 3, 4, 5, 6, 7, 8, 9, 0], 4))
    np.testing.assert_array_equal(
        data.inputs[np.array([9, 20])], np.stack([formats.pixels(10, 0), formats.pixels(1, 10)])
    )
    assert data.published_test is not None
    assert more.published_test is not None
    assert (data.published_test.sum(), (~data.published_test).sum(), (~more.published_test).sum()) == (
        20,
        20,
        40,
    )
    np.testing.assert_array_equal(more.inputs[np.array([20])][0], formats.pixels(1, 20))


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_is_read_plain_and_packed(end: str, tmp_path: Path) -> None:
    formats.mnist(tmp_path / "data" / "MNIST" / "raw", end=end)
    data = _loaded("mnist", tmp_path)
    assert data.inputs.shape == (30, 1, 28, 28)
    np.testing.assert_array_equal(data.inputs[np.array([13])][0], formats.pixels(3, 1, side=28, channels=1))
    np.testing.assert_array_equal(data.published_test, np.arange(30) >= 20)


def test_letters_of_emnist_are_upright_and_counted_from_zero(tmp_path: Path) -> None:
    data = _loaded("emnist", tmp_path)
    np.testing.assert_array_equal(data.inputs[np.array([28])][0], formats.pixels(2, 1, side=28, channels=1))
    assert (data.labels[28], data.class_names[2], len(data.class_names)) == (2, "C", 26)


def test_tinyimagenet_sorts_its_ids_and_leaves_out_the_images_without_labels(tmp_path: Path) -> None:
    data = _loaded("tinyimagenet", tmp_path)
    assert data.class_names == tuple(formats.WNIDS[:6])
    np.testing.assert_array_equal(data.labels, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 4, 3, 2, 1, 0])
    assert data.inputs.shape == (18, 3, 64, 64)


def test_a_subset_of_imagenet_is_said_by_number_or_by_file(tmp_path: Path) -> None:
    formats.imagenet(tmp_path / "data" / "imagenet")
    few = _loaded("imagenet", tmp_path, "subset=first2,resize=8,crop=0")
    assert few.class_names == tuple(formats.WNIDS[:2])
    np.testing.assert_array_equal(few.labels, [0, 0, 1, 1, 0, 1])
    (tmp_path / "ids.txt").write_text(f"{formats.WNIDS[4]} tench\n\n{formats.WNIDS[2]}\n")
    listed = _loaded("imagenet", tmp_path, f"subset={tmp_path / 'ids.txt'},resize=8,crop=0")
    assert listed.class_names == (formats.WNIDS[2], formats.WNIDS[4])
    np.testing.assert_allclose(_colours(listed)[:, 0], [37 * label for label in (2, 2, 4, 4, 2, 4)], atol=4)


def test_imagenet_is_read_as_kaggle_lays_it_out(tmp_path: Path) -> None:
    formats.imagenet_of_kaggle(tmp_path / "data")
    data = _loaded("imagenet", tmp_path)
    np.testing.assert_array_equal(data.labels, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 3, 2, 1, 0])
    np.testing.assert_allclose(_colours(data)[:, 0], 37 * data.labels, atol=4)


def test_cars_are_read_from_folders_too(tmp_path: Path) -> None:
    formats.cars_in_folders(tmp_path / "data")
    data = _loaded("cars", tmp_path)
    np.testing.assert_array_equal(data.labels, np.tile(np.arange(196), 2))
    np.testing.assert_allclose(_colours(data)[:, 0], (37 * data.labels) % 256, atol=4)


def test_models_of_cars_and_variants_of_aircraft_keep_the_publishers_order(tmp_path: Path) -> None:
    data = _loaded("cars", tmp_path)
    np.testing.assert_array_equal(data.labels, [3, 3, 2, 2, 1, 1, 0, 0] * 2)
    assert data.class_names[3] == "Make 3 Sedan 2012"
    formats.aircraft(tmp_path / "data", variants=("Yak-42", "BAE 146-200"))
    assert _loaded("aircraft", tmp_path).class_names == ("Yak-42", "BAE 146-200")


def test_clothing_has_noisy_or_clean_training_labels(tmp_path: Path) -> None:
    formats.clothing1m(tmp_path / "data", inner="")
    noisy, clean = (
        _loaded("clothing1m", tmp_path),
        _loaded("clothing1m", tmp_path, "training=clean,resize=8,crop=6"),
    )
    np.testing.assert_array_equal(noisy.labels, [*np.roll(np.arange(14), -1), *range(14)])
    np.testing.assert_array_equal(clean.labels, [*range(14), *range(14)])


MORE = [1 + label % 3 for label in range(14)]
"""With the first of every class, two, three or four noisy items of Clothing1M; two of the class that the
noisy labels call Clothes 1.
"""


def _clothing(said: str) -> list[Picture]:
    dataset: Pictures = configured("dataset", f"clothing1m[{said},resize=8,crop=0]")
    return dataset.listing().pictures


def test_clothing_keeps_so_many_training_items_of_every_class(tmp_path: Path) -> None:
    formats.clothing1m(tmp_path / "data", more=MORE)
    whole, two = (_clothing(f"validation=true,per_class={said}") for said in (0, 2))
    assert (len(whole), len(two)) == (14 + sum(MORE) + 28, 2 * 14 + 28)
    assert two == [picture for picture in whole if picture in two], "in the order of the lists"
    assert two[-28:] == whole[-28:], "validation and test are whole"
    np.testing.assert_array_equal(np.bincount([picture.label for picture in two[:-28]]), np.full(14, 2))
    data = _loaded("clothing1m", tmp_path, "per_class=2,resize=8,crop=0")
    np.testing.assert_array_equal(data.labels, [picture.label for picture in (*two[:28], *two[-14:])])
    np.testing.assert_allclose(_colours(data)[:28, 0], (37 * ((data.labels[:28] - 1) % 14)) % 256, atol=4)


def test_a_draw_of_clothing_follows_its_seed_and_holds_the_smaller_ones(tmp_path: Path) -> None:
    formats.clothing1m(tmp_path / "data", more=MORE)
    one, two, other = (
        {*_clothing(said)} for said in ("per_class=1", "per_class=2", "per_class=2,subset_seed=1")
    )
    assert two == {*_clothing("per_class=2,subset_seed=0")} == {*_clothing("per_class=smallest")}
    assert one < two
    assert two != other
    assert {picture for picture in two if MORE[(picture.label - 1) % 14] == 1} <= other, (
        "classes of two are whole"
    )
    assert len(_clothing("training=clean,per_class=smallest")) == 28


def test_of_clothing_that_is_not_kept_nothing_is_read(tmp_path: Path) -> None:
    formats.clothing1m(tmp_path / "data", more=MORE)
    kept, other = (
        configured("dataset", f"clothing1m[per_class=1{said},resize=8,crop=0]")
        for said in ("", ",subset_seed=1")
    )
    digest = kept.card.digest
    assert digest != other.card.digest
    for dataset in (kept, other):
        assert len(dataset.load().labels) == 28
    packs = [*(tmp_path / "cache").glob("pack-*.npy")]
    assert [len(np.load(pack, mmap_mode="r")) for pack in packs] == [28, 28], "each draw has its own"
    first, *rest = {*_clothing("")} - {*_clothing("per_class=1")}
    first.path.write_bytes(b"not a picture")
    for picture in rest:
        picture.path.unlink()
    assert (kept.card.digest, kept.problems()) == (
        digest,
        ["clothing1m has 28 items of 14 classes, 10540 of 14 were published"],
    )
    assert len(kept.load().labels) == 28
    with pytest.raises(UserError, match="which is not there"):
        configured("dataset", "clothing1m[resize=8,crop=0]").load()


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            "per_class=3",
            "per_class=3 cannot be had: the smallest class of Clothing1M's noisy training list, 'Clothes 1', numbers 2",
        ),
        (
            "per_class=2,training=clean",
            "the smallest class of Clothing1M's clean training list, 'Clothes 0', numbers 1",
        ),
        (
            "per_class=half",
            "per_class should be a number of training items, 0 for all, or smallest, got 'half'",
        ),
        ("per_class=-2", "per_class should be a number of training items"),
        ("subset_seed=-1", "subset_seed should be greater than or equal to 0"),
    ],
)
def test_a_draw_of_clothing_that_cannot_be_had_is_refused(said: str, sentence: str, tmp_path: Path) -> None:
    formats.clothing1m(tmp_path / "data", more=MORE)
    with pytest.raises(UserError) as problem:
        _clothing(said)
    assert sentence in str(problem.value)


@pytest.mark.parametrize(
    ("said", "stated"),
    [
        ("per_class=0", (1_010_526, 14)),
        ("per_class=13714", (191_996 + 10_526, 14)),
        ("validation=true,per_class=13714", (191_996 + 14_313 + 10_526, 14)),
        ("training=clean", (47_570 + 10_526, 14)),
        ("per_class=smallest", None),
    ],
)
def test_how_much_clothing_was_published(said: str, stated: tuple[int, int] | None) -> None:
    assert configured("dataset", f"clothing1m[{said}]").stated() == stated


def test_sizes_are_parameters(tmp_path: Path) -> None:
    assert _loaded("cub", tmp_path, "resize=20,crop=16").inputs.shape == (12, 3, 16, 16)
    with pytest.raises(UserError, match="crop=30 is larger than resize=20"):
        _loaded("cub", tmp_path, "resize=20,crop=30")


# --- pickles ------------------------------------------------------------------------------------------------

CONTENT = {
    "data": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "labels": [2, 0, 1],
    "name": "batch",
    "half": np.array([0.5, -1.0]),
}


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_pickle_of_python_2_is_read_as_pickle_reads_it(tmp_path: Path) -> None:
    content = formats.python2_pickle(CONTENT)
    theirs = pickle.loads(content, encoding="bytes")
    ours = pickles.unpickled(_written(tmp_path / "p", content), "a test")
    np.testing.assert_array_equal(ours["data"], theirs[b"data"])
    np.testing.assert_array_equal(ours["half"], theirs[b"half"])
    assert (ours["labels"], ours["name"]) == (theirs[b"labels"], "batch")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">f4", "?"])
def test_pickles_of_python_3_are_read_in_every_protocol(protocol: int, dtype: str, tmp_path: Path) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    arrays = {"by row": array, "by column": np.asfortranarray(array)}
    content = {**arrays, b"key": [np.float64(0.25), "text", b"bytes", None, True, 1.5], "t": (1, {"x": 2})}
    ours = pickles.unpickled(_written(tmp_path / "p", pickle.dumps(content, protocol)), "a test")
    for name in arrays:
        np.testing.assert_array_equal(ours[name], array)
        assert ours[name].dtype == array.dtype
    assert ours["key"] == [0.25, "text", "bytes", None, True, 1.5]
    assert ours["t"] == [1, {"x": 2}]


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


HOSTILE = {
    "os.system": b"cos\nsystem\n(S'true'\ntR.",
    "builtins.eval": b"cbuiltins\neval\n(S'1'\ntR.",
    "__builtin__.getattr": b"c__builtin__\ngetattr\n.",
    "numpy.load": b"cnumpy\nload\n(S'x'\ntR.",
    "numpy.core.multiarray.fromfile": b"cnumpy.core.multiarray\nfromfile\n.",
    "a changed call": b"cnumpy\ndtype\n(NU\x04codeU\x01x\x86tb.",
    "an array of a class of its own": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\nK\x00\x85U\x01btR.",
    "the encoding 'utf-16'": b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x06\x00\x00\x00utf-16tR.",
}


@pytest.mark.parametrize("asked", HOSTILE)
def test_a_pickle_that_asks_for_more_is_refused_by_name(asked: str, tmp_path: Path) -> None:
    path = _written(tmp_path / "p", b"\x80\x02" + HOSTILE[asked])
    with pytest.raises(UserError) as refused:
        pickles.unpickled(path, "a test")
    assert f"{path} asks for {asked}, and only arrays" in str(refused.value)


def test_nothing_runs_while_a_pickle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for protocol in range(6):
        with pytest.raises(UserError, match="asks for"):
            pickles.unpickled(_written(tmp_path / "p", pickle.dumps({"data": _Runs()}, protocol)), "a test")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"data": np.array([{}, None], dtype=object)}, "cannot read|asks for"),
        ({"data": np.array(["text"])}, "not one of numbers"),
        ({"data": {1, 2}}, "asks for"),
        ([1], "holds a list: a test was expected"),
        ({"data": np.zeros(2, dtype=[("a", "i4")])}, "cannot read"),
    ],
)
def test_other_contents_are_refused(content: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        pickles.unpickled(_written(tmp_path / "p", pickle.dumps(content, 2)), "a test")


def test_bytes_that_do_not_fill_an_array_are_refused(tmp_path: Path) -> None:
    content = formats.python2_pickle({"data": np.zeros((3, 4), np.uint8)})
    shape = b"(" + b"J" + (3).to_bytes(4, "little")
    assert shape in content
    with pytest.raises(UserError, match="is not filled by its bytes"):
        pickles.unpickled(
            _written(tmp_path / "p", content.replace(shape, b"(J" + (5).to_bytes(4, "little"))), "a test"
        )


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_pickle_is_said_to_be_so(share: float, tmp_path: Path) -> None:
    content = formats.python2_pickle(CONTENT)
    with pytest.raises(
        UserError, match=r"p (is truncated|holds|.*truncated or damaged)|cannot read .*truncated"
    ):
        pickles.unpickled(_written(tmp_path / "p", content[: int(share * len(content))]), "a test")


def test_every_data_set_says_what_there_is_to_know() -> None:
    for name in formats.WRITERS:
        cls = configured("dataset", name).__class__
        assert issubclass(cls, OnDisk)
        assert cls.name == name
        assert cls.card.licence
        assert cls.card.source
        assert cls.obtain
        assert cls.card.package == "on disk"
        assert len(cls.card.digest) in (0, 64)
