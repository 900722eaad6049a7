"""Data of one's own: every kind from its true format into cells of several families, the same data in every
kind with the same predictions, and what is said of data that are wrong.
"""

from __future__ import annotations

import json
import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import own_formats as own
import pytest
from PIL import Image
from runs import Owb

from harness.cell.run import CellSettings, learner_seed, run_cell
from harness.cell.sealing import build
from harness.contracts import Data, Scenario
from harness.errors import UserError
from harness.protocol.cells import contenders
from harness.selection import configured
from harness.store.predictions import digest
from scenarios.datasets.by_name import data_of, dataset_named
from scenarios.datasets.own.base import Own
from scenarios.datasets.packed import packed_items


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OWB_DATA", raising=False)
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))


def _scenario(text: str) -> Scenario:
    scenario: Scenario = configured("scenario", text)
    return scenario


def _predicted(scenario: Scenario, strategy: str, scratch: Path) -> str:
    """Return the digest of what a cell predicts under seed 0."""
    (contender,) = contenders([strategy])
    settings = CellSettings(
        root_seed=learner_seed(0),
        budget=scenario.budget(),
        needed=scenario.answers,
        probed=scenario.probed,
        kept=scenario.kept,
    )
    learner = contender.plugin.cls(**contender.params)
    results = run_cell(learner, build(scenario, 0).episodes, settings, scratch=scratch)
    return digest([answer for result in results for answer in result.answers])


def _content(data: Data) -> tuple[Any, ...]:
    return (
        np.asarray(data.inputs[np.arange(len(data.labels))]).tobytes(),
        data.labels.tobytes(),
        data.class_names,
        None if data.published_test is None else data.published_test.tobytes(),
    )


def _said(text: str) -> str:
    with pytest.raises(UserError) as refused:
        data_of(text)
    return str(refused.value)


@pytest.mark.parametrize("kind", own.WRITERS)
def test_the_same_pictures_are_the_same_data_and_the_same_predictions_in_every_kind(
    kind: str, tmp_path: Path
) -> None:
    if kind in own.OF_HUGGING_FACE:
        pytest.importorskip("datasets")
    lot = own.pictures(tmp_path / "pictures")
    text = own.WRITERS[kind](lot, tmp_path)
    data = data_of(text)
    order = np.array([own.NAMES.index(name) for name in lot.labels])
    tested = np.array([part == "test" for part in lot.parts])
    assert _content(data) == (lot.pixels.tobytes(), order.tobytes(), own.NAMES, tested.tobytes())
    card = dataset_named(text).card
    assert (card.items, card.classes, card.shape, len(card.digest)) == (44, 4, (3, 12, 12), 64)
    first = f"folder[root={tmp_path / 'pictures'}]"
    for beneath, strategy in (
        ("class-incremental[dataset={},stages=2,epochs=1,batch_size=8,test_fraction=0]", "replay[memory=8]"),
        ("held-out[of=class-incremental[dataset={},stages=2,epochs=1,batch_size=8]]", "fine-tune"),
        ("noisy-labels[over=class-incremental[dataset={},stages=1,epochs=1,batch_size=8]]", "cross-entropy"),
    ):
        found, expected = (_scenario(beneath.format(dataset)) for dataset in (text, first))
        assert _predicted(found, strategy, tmp_path) == _predicted(expected, strategy, tmp_path)
        assert [*found.data_digests().values()] == [card.digest]


@pytest.mark.parametrize(
    ("family", "strategy"),
    [
        ("cgcd[dataset={},initial=2,new=1,n_new=4,n_init=2,n_seen=2,epochs=1,first_epochs=1]", "k-means"),
        ("ncd[dataset={},novel=2,epochs=1,first_epochs=1]", "ncd-k-means"),
    ],
)
def test_features_of_ones_own_are_discovered_in(family: str, strategy: str, tmp_path: Path) -> None:
    """As arrays, and as columns of a table with the same numbers."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(4), 20)
    inputs = (rng.normal(size=(80, 6)) + 4 * np.eye(4, 6)[labels]).astype(np.float32)
    np.savez(tmp_path / "points.npz", inputs=inputs, labels=labels)
    rows = [[*map(repr, map(float, values)), label] for values, label in zip(inputs, labels, strict=True)]
    own.table(tmp_path / "points.csv", rows, [*(f"f{place}" for place in range(6)), "label"])
    texts = (f"arrays[path={tmp_path}/points.npz]", f"table[path={tmp_path}/points.csv,features=f*]")
    assert _content(data_of(texts[0])) == _content(data_of(texts[1]))
    assert data_of(texts[0]).class_names == ("0", "1", "2", "3")
    first, second = (_predicted(_scenario(family.format(text)), strategy, tmp_path) for text in texts)
    assert first == second


def test_folders_without_parts_go_to_any_depth_and_classes_that_are_numbers_count(tmp_path: Path) -> None:
    for name in ("10", "9"):
        for inside in ("0.png", "more/0.png", "more/still/0.png"):
            path = tmp_path / "digits" / name / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (6, 4), int(name) + len(inside)).save(path)
    data = data_of(f"folder[root={tmp_path / 'digits'},colour=false]")
    assert (data.class_names, data.published_test, data.inputs.shape) == (("9", "10"), None, (6, 1, 4, 6))
    assert data.labels.tolist() == [1, 1, 1, 0, 0, 0]
    np.testing.assert_array_equal(
        data.inputs[np.array([0, 5])][:, 0, 0, 0], [15, 9 + len("more/still/0.png")]
    )


def test_validation_groups_and_a_file_of_labels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lot = own.pictures(tmp_path / "pictures", train=4, test=2)
    root = tmp_path / "pictures"
    parts = ["val" if "3.png" in file.name else part for file, part in zip(lot.files, lot.parts, strict=True)]
    rows = [
        (file.relative_to(root), "odd" if row % 2 else "even", part, f"day {row // 4}")
        for row, (file, part) in enumerate(zip(lot.files, parts, strict=True))
    ][:-1]
    own.table(root / "labels.csv", rows, ("file", "label", "split", "group"))
    with caplog.at_level(logging.WARNING):
        data = data_of(f"folder[root={root}]")
    assert f"labels.csv names no label for 1 pictures, which are left out: {lot.files[-1]}" in caplog.text
    assert data.class_names == ("even", "odd")
    assert data.labels.tolist() == [row % 2 for row in range(23)]
    assert data.groups is not None
    assert data.groups.tolist() == [row // 4 for row in range(23)]
    assert data.published_validation is not None
    assert np.flatnonzero(data.published_validation).tolist() == [3, 7, 11, 15]
    assert data.published_test is not None
    assert np.flatnonzero(data.published_test).tolist() == [*range(16, 23)]
    deal = _scenario(f"class-incremental[dataset=folder[root={root}],stages=1,test_fraction=0.3]").deal(0)
    (stage,) = deal.stages
    assert not {*data.groups[stage.rows]} & {*data.groups[stage.query]}


def test_digests_follow_the_data_and_not_the_place(tmp_path: Path) -> None:
    lot = own.pictures(tmp_path / "pictures")
    before = dataset_named(f"folder[root={tmp_path / 'pictures'}]").card.digest
    (tmp_path / "pictures").rename(tmp_path / "moved")
    text = f"folder[root={tmp_path / 'moved'}]"
    assert dataset_named(text).card.digest == before
    moved = tmp_path / "moved" / lot.files[0].relative_to(tmp_path / "pictures")
    moved.rename(moved.parents[1] / "bee" / "9.png")
    other = dataset_named(text).card.digest
    assert other != before
    Image.new("RGB", (12, 12)).save(moved.parents[1] / "bee" / "9.png")
    assert len({before, other, dataset_named(text).card.digest}) == 3


def test_sizes_differ_only_where_one_is_said(tmp_path: Path) -> None:
    for name, size in (("a", (8, 8)), ("b", (16, 12))):
        (tmp_path / "p" / name).mkdir(parents=True)
        Image.new("RGB", size, (10, 20, 30)).save(tmp_path / "p" / name / "0.png")
    said = _said(f"folder[root={tmp_path / 'p'}]")
    assert said == (
        f"{tmp_path}/p/b/0.png has 16 x 12 pixels, {tmp_path}/p/a/0.png 8 x 8: say resize=SIDE to bring all to one size"
    )
    data = data_of(f"folder[root={tmp_path / 'p'},resize=6]")
    np.testing.assert_array_equal(
        data.inputs[np.arange(2)], np.full((2, 3, 6, 6), [[[10]], [[20]], [[30]]], np.uint8)
    )


def _one(folder: Path, name: str = "0.png", value: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (value, 0, 0)).save(folder / name)
    return folder / name


def _beside(root: Path) -> None:
    _one(root)


def _empty(root: Path) -> None:
    (root / "cod").mkdir()


def _by_case(root: Path) -> None:
    _one(root / "ANT", value=3)


def _both(root: Path) -> None:
    for name in ("train", "test"):
        _one(root / name / "ant")


def _torn(root: Path) -> None:
    path = root / "ant" / "0.png"
    path.write_bytes(path.read_bytes()[:40])


def _out(root: Path) -> None:
    (root / "bee" / "1.png").symlink_to(_one(root.parent / "elsewhere"))


def _circle(root: Path) -> None:
    (root / "bee" / "again").symlink_to(root / "bee", target_is_directory=True)


def _defects(root: Path) -> None:
    _one(root / "screw" / "train" / "good")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            _beside,
            "{}/0.png lies in no folder of a class: put it into one, or name its class in {}/labels.csv with",
        ),
        (_empty, "class 'cod' has no picture: {}/cod is empty; remove it, or fill it"),
        (_by_case, "the folder {} has classes 'ANT' and 'ant', which differ by case alone: write them alike"),
        (
            _both,
            "{} has folders test and train beside 'ant', so parts and classes cannot be told apart: move 'ant'",
        ),
        (_torn, "cannot read the image {}/ant/0.png: damaged, or not an image"),
        (_out, "{}/bee/1.png is a link to {}/elsewhere/0.png, outside of {}: copy what it leads to"),
        (_circle, "{}/bee/again is a link to {}/bee, in which it lies itself: remove it"),
        (
            _defects,
            "{} has categories with normal images in train/good, such as 'screw', and no classes: say anomaly[",
        ),
    ],
)
def test_what_is_wrong_in_folders_is_said_in_one_sentence(spoil: Any, sentence: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    _one(root / "ant")
    _one(root / "bee", value=2)
    spoil(root)
    said = _said(f"folder[root={root}]")
    assert said.startswith(sentence.replace("{}/elsewhere", f"{tmp_path}/elsewhere").replace("{}", str(root)))
    assert not [*(tmp_path / "cache").glob("pack-*.npy*")]


_COLUMNS = "table[path={},image=file]"
_NUMBERS = "table[path={},features=x*,label=y]"


@pytest.mark.parametrize(
    ("content", "text", "sentence"),
    [
        ("", _COLUMNS, "{} is empty: a first line with the names of its columns is expected"),
        ("file,label\n", _COLUMNS, "{} has names of columns and no row below them"),
        (
            "file;label\na.png;1\n",
            _COLUMNS,
            "{} is separated by semicolons: separate it by commas, or by tabs",
        ),
        ("file,lable\na.png,1\n", _COLUMNS, "unknown column of {} 'label'; did you mean 'lable'?"),
        ("file,file\na.png,1\n", _COLUMNS, "{} has two columns 'file': rename one"),
        (
            "file,label\na.png,1\nb.png,\n",
            _COLUMNS,
            "column 'label' of {} has no label in row 3 (1 of 2 rows have none)",
        ),
        (
            "file,label\na.png,1\nb.png,0.5\n",
            _COLUMNS,
            "column 'label' of {} holds real numbers, such as 0.5 in row 3",
        ),
        ("file,label\na.png,1\nc.png,2\n", _COLUMNS, "row 3 of {} names c.png, and there is no such file in"),
        ("file,label\na.png,1\n../d.png,2\n", _COLUMNS, "row 3 of {} names ../d.png, which lies outside of"),
        (
            "file,label\na.png,1\na.png,2\n",
            _COLUMNS,
            "row 3 of {} names a.png again, after row 2: keep one of them",
        ),
        (
            "file,label,part\na.png,1,tset\n",
            _COLUMNS[:-1] + ",split=part]",
            "unknown part in row 2 of column 'part' of",
        ),
        (
            "file,label,part\na.png,1,test\n",
            _COLUMNS[:-1] + ",split=part]",
            "column 'part' of {} puts no item into train",
        ),
        (
            "x1,x2,y\n1,2,a\n3,two,b\n",
            _NUMBERS,
            "column 'x2' of {} has 'two' in row 3, where a number is expected",
        ),
        ("x1,x2,y\n1,2,a\n3,,b\n", _NUMBERS, "column 'x2' of {} has"),
        ("x1,x2\n1,2\n", _NUMBERS, "unknown column of {} 'y'"),
        ("z1,y\n1,2\n", _NUMBERS, "unknown column of {} 'x*' (all: z1)"),
        ("z1,y\n1,2\n", "table[path={},label=y]", "say either image or features: table["),
    ],
)
def test_what_is_wrong_in_a_table_is_said_with_its_row(
    content: str, text: str, sentence: str, tmp_path: Path
) -> None:
    _one(tmp_path, "a.png")
    _one(tmp_path, "b.png", value=1)
    path = tmp_path / "t.csv"
    path.write_text(content)
    assert _said(text.format(path)).startswith(sentence.replace("{}", str(path)))


def _arrays(folder: Path, **content: Any) -> str:
    inputs = np.zeros((3, 2), dtype=np.float32)
    np.savez(folder / "a.npz", **{"inputs": inputs, "labels": np.array([0, 1, 1]), **content})
    return f"arrays[path={folder / 'a.npz'}]"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            {"labels": np.array([{}, {}, {}])},
            "cannot read labels of {}: it holds Python objects, which are not read",
        ),
        (
            {"labels": np.array([0.5, 1, 1])},
            "labels of {} holds float64, such as 0.5 in row 0: write it as text",
        ),
        (
            {"labels": np.array([0, 1])},
            "labels of {} should have shape (3,), one value for each of the inputs",
        ),
        (
            {"split": np.array(["train", "tst", "test"])},
            "unknown part in row 1 of split of {}: 'tst'; did you mean 'test'",
        ),
        (
            {"class_names": np.array(["a"])},
            "labels of {} has '1' in row 1, but labels of 1 named classes are 0 to 0",
        ),
        ({"inputs": np.full((3, 2), np.nan, np.float32)}, "arrays[path={}]: inputs should be finite"),
    ],
)
def test_what_is_wrong_in_arrays_is_said_with_its_row(
    content: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    said = _said(_arrays(tmp_path, **content))
    assert said.startswith(sentence.replace("{}", str(tmp_path / "a.npz")))


def test_an_archive_that_unpacks_to_more_than_its_share_of_memory_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("inputs", "labels"):
            archive.writestr(f"{name}.npy", bytes(2**22))
    said = _said(f"arrays[path={tmp_path / 'bomb.npz'},memory=0.000001]")
    assert "GiB unpacked, more than the" in said
    assert "save its arrays as .npy files in a folder, which are mapped" in said


def test_the_check_counts_classes_and_names_all_that_is_wrong_at_once(tmp_path: Path, call_owb: Owb) -> None:
    lot = own.pictures(tmp_path / "pictures")
    text = f"folder[root={tmp_path / 'pictures'}]"
    said = call_owb("data", "check", text)
    assert said.code == 0
    assert said.out.startswith(f"{text}: 44 items of 4 classes, 11 to 11 per class, 3x12x12, digest ")
    assert [line.split() for line in said.out.splitlines()[1:3]] == [
        ["class", "train", "test"],
        ["ant", "8", "3"],
    ]
    for file in lot.files[:2]:
        file.write_bytes(b"no picture")
    lot.files[-1].write_bytes(lot.files[5].read_bytes())
    said = call_owb("data", "check", text)
    assert said.code == 1
    assert said.err.count("damaged, or not an image") == 1  # the first of all is asked for the size
    lot.files[0].write_bytes(lot.files[6].read_bytes())
    said = call_owb("data", "check", text)
    assert f"cannot read the image {lot.files[1]}" in said.err
    assert f"{lot.files[-1]} in test is the same as {lot.files[5]} in train" in said.err
    assert "items     44\nclasses   4\nshape     3x12x12" in call_owb("data", "show", text).out


def test_the_check_reads_images_of_anomaly_detection(tmp_path: Path, call_owb: Owb) -> None:
    for value, part in enumerate(("train/good", "test/good", "test/cut")):
        _one(tmp_path / "mine" / "screw" / part, value=value)
    text = f"anomaly[source=folder,root={tmp_path / 'mine'},resize=16,crop=16]"
    said = call_owb("data", "check", text)
    assert said.out.startswith(
        f"{text}: 1 categories, 1 images to learn, 1 good and 1 defective ones to test, 0 masks"
    )


def test_labels_of_which_some_are_wrong_take_part_as_they_come(tmp_path: Path) -> None:
    own.pictures(tmp_path / "pictures")
    dataset = f"folder[root={tmp_path / 'pictures'},labels_are_true=false]"
    beneath = f"class-incremental[dataset={dataset},stages=1,test_fraction=0]"
    with pytest.raises(UserError, match="labels of which an unknown share is wrong: say noise=published"):
        _scenario(f"noisy-labels[over={beneath}]").deal(0)
    assert len(_scenario(f"noisy-labels[over={beneath},noise=published]").deal(0).stages) == 1


def test_what_is_missing_or_not_said_is_told_with_an_example(tmp_path: Path) -> None:
    for text, sentence in (
        ("folder", "say where your data are: folder[root=FOLDER]"),
        (
            f"folder[root={tmp_path}/none]",
            f"there is no {tmp_path}/none, which root={tmp_path}/none leads to",
        ),
        ("table", "say where your data are: table[path=FILE,image=COLUMN"),
        (f"arrays[path={tmp_path}]", f"unknown array of {tmp_path} 'inputs' (all: none)"),
    ):
        assert _said(text).startswith(sentence)
    assert isinstance(dataset_named("folder"), Own)


def test_huggingface_reads_features_and_single_splits_and_says_what_it_does_not_find(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    lot = own.pictures(tmp_path / "pictures")
    both = own.hugging_face(lot)
    both["train"].save_to_disk(str(tmp_path / "one"))
    data = data_of(f"huggingface[path={tmp_path / 'one'}]")
    assert (len(data.labels), data.published_test) == (32, None)
    np.testing.assert_array_equal(data.inputs[np.arange(32)], lot.pixels[:32])
    both.save_to_disk(str(tmp_path / "two"))
    with pytest.raises(UserError, match=r"unknown split of .*two 'tset'; did you mean 'test'"):
        data_of(f"huggingface[path={tmp_path / 'two'},parts=tset]")
    assert len(data_of(f"huggingface[path={tmp_path / 'two'},parts=train]").labels) == 32
    with pytest.raises(UserError, match=r"unknown column of .*two 'lable'; did you mean 'label'"):
        data_of(f"huggingface[path={tmp_path / 'two'},label=lable]")
    with pytest.raises(UserError, match="nothing is downloaded"):
        data_of("huggingface[path=nobody/nothing]")
    points = {"x": [[1.0, 2.0], [3.0, 4.0]], "label": ["b", "a"]}
    datasets.Dataset.from_dict(points).save_to_disk(str(tmp_path / "points"))
    data = data_of(f"huggingface[path={tmp_path / 'points'},features=x]")
    assert (data.class_names, data.labels.tolist()) == (("a", "b"), [1, 0])
    np.testing.assert_array_equal(np.asarray(data.inputs), np.float32([[1, 2], [3, 4]]))


def test_a_name_in_the_local_cache_of_hugging_face_is_read_without_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache as the hub's data set `me/birds` leaves it, made from one of Parquet files."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "local")
    lot = own.pictures(tmp_path / "pictures")
    own.WRITERS["hub"](lot, tmp_path)
    files = {
        part: str(tmp_path / "hub" / "data" / f"{part}-00000-of-00001.parquet") for part in ("train", "test")
    }
    made = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "made"))
    source = Path(made["train"].cache_files[0]["filename"]).parent
    target = tmp_path / "local" / "me___birds" / "default" / "0.0.0" / ("a" * 40)
    target.mkdir(parents=True)
    for file in source.iterdir():
        (target / file.name.replace("parquet-", "birds-")).write_bytes(file.read_bytes())
    facts = json.loads((target / "dataset_info.json").read_text())
    (target / "dataset_info.json").write_text(json.dumps({**facts, "dataset_name": "birds"}))
    found = data_of("huggingface[path=me/birds]")
    np.testing.assert_array_equal(found.inputs[np.arange(44)], lot.pixels)


def test_without_its_library_a_data_set_of_hugging_face_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    assert _said(f"huggingface[path={tmp_path}]").endswith("pip install 'openworld-bench[huggingface]'")


def test_names_with_commas_stand_in_quotes_and_come_back(tmp_path: Path) -> None:
    own.pictures(tmp_path / "birds, and [others")
    dataset = f"folder[root='{tmp_path}/birds, and [others']"
    assert len(data_of(dataset).labels) == 44
    scenario = _scenario(f"held-out[of=class-incremental[dataset={dataset},stages=2]]")
    assert os.fspath(tmp_path) in str(scenario.data_digests())
    assert len(scenario.deal(0).stages) == 2


def test_large_jpeg_files_are_decoded_at_a_part_of_their_size_where_that_is_asked_for(tmp_path: Path) -> None:
    """Of a smooth photograph of 320 px values are nearly the same at 16 px, for which a quarter of its size is
    decoded; for 200 px all of it is, so that they are the same.
    """
    rng = np.random.default_rng(4)
    smooth = Image.fromarray(rng.integers(0, 256, (5, 8, 3), dtype=np.uint8)).resize((512, 320))
    for name, picture in (("a", smooth), ("b", smooth.transpose(Image.Transpose.FLIP_LEFT_RIGHT))):
        (tmp_path / "p" / name).mkdir(parents=True)
        picture.save(tmp_path / "p" / name / "0.jpg", quality=95)
    whole, part, kept = (
        np.asarray(data_of(f"folder[root={tmp_path / 'p'},{said}]").inputs[np.arange(2)]).astype(int)
        for said in ("resize=16", "resize=16,draft=true", "resize=200,draft=true")
    )
    assert 0 < np.abs(whole - part).max() <= 8
    exact = data_of(f"folder[root={tmp_path / 'p'},resize=200]").inputs[np.arange(2)]
    np.testing.assert_array_equal(kept, exact)
    assert _said(f"folder[root={tmp_path / 'p'},draft=true]").startswith(
        "draft=true decodes at a part of the size"
    )


def test_of_a_pack_that_is_larger_than_what_is_held_nothing_stays_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 MiB of items, read in any order, as one, as many and as none; a pack of the size allowed is mapped."""
    rng = np.random.default_rng(0)
    items = rng.integers(0, 256, (16, 1, 1024, 1024), dtype=np.uint8)
    hashes = [f"{number:064x}" for number in rng.permutation(16)]
    packed = packed_items(range(16), hashes, "test", (1, 1024, 1024), "uint8", items.__getitem__)

    def look() -> int:
        for rows in (
            np.array([3]),
            rng.permutation(16),
            np.zeros(0, dtype=np.int64),
            np.array([[1, 15], [0, 1]]),
        ):
            np.testing.assert_array_equal(packed[rows], items[rows])
        return _resident(Path(packed.path).name)

    monkeypatch.setattr("scenarios.datasets.pack_files.HELD", (16 << 20) - 1)
    assert look() == 0
    monkeypatch.setattr("scenarios.datasets.pack_files.HELD", 16 << 20)
    assert look() > 0


def _resident(name: str) -> int:
    """Return how many KiB of a mapped file this process has in its memory."""
    own, found = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0] and ":" not in line.split()[0]:
            own = line.endswith(name)
        elif own and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found
