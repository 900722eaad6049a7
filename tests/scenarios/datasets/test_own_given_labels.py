"""Wrong labels of one's own: labels that came with the items, beside true ones or without, from every kind into
`noisy-labels`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import own_formats as own
import pytest
from PIL import Image

import openworld
from harness.contracts import Scenario
from harness.errors import UserError
from harness.results.ranking import rankings
from harness.selection import configured
from harness.store.mlflow_store import Record, Status
from scenarios.datasets.by_name import data_of


class Lot(NamedTuple):
    """Points float32 (N, 3) of three classes; true and given label and part of each."""

    inputs: np.ndarray
    true: list[str]
    given: list[str]
    parts: list[str]


@pytest.fixture
def lot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lot:
    """Twenty training items a class, of which five are called the next class, and five test items right."""
    monkeypatch.delenv("OWB_DATA", raising=False)
    monkeypatch.setenv("OWB_CACHE", str(tmp_path / "cache"))
    names, rng = ("ant", "bee", "cat"), np.random.default_rng(0)
    true = [name for name in names for _ in range(25)]
    parts = ["train" if item % 25 < 20 else "test" for item in range(75)]
    given = [names[(names.index(name) + (item % 25 < 5)) % 3] for item, name in enumerate(true)]
    inputs = rng.normal(size=(75, 3)) / 4 + np.eye(3)[[names.index(name) for name in true]]
    return Lot(inputs.astype(np.float32), true, given, parts)


def _table(lot: Lot, folder: Path, true: list[str], said: str) -> str:
    rows = [
        [*map(repr, map(float, values)), *marks]
        for values, *marks in zip(lot.inputs, true, lot.given, lot.parts, strict=True)
    ]
    path = own.table(folder / "points.csv", rows, ("f0", "f1", "f2", "species", "crowd", "part"))
    return f"table[path={path},features=f*,given=crowd,split=part,{said}]"


def _arrays(lot: Lot, folder: Path, true: list[str], said: str) -> str:
    content = {"labels": np.array(true)} if any(true) else {}
    np.savez(
        folder / "points.npz",
        inputs=lot.inputs,
        given=np.array(lot.given),
        split=np.array(lot.parts),
        **content,
    )
    return f"arrays[path={folder / 'points.npz'}]"


def _folder(lot: Lot, folder: Path, true: list[str], said: str) -> str:
    (folder / "points").mkdir()
    for row, values in enumerate(lot.inputs):
        pixels = np.clip(100 + 60 * values, 0, 255).astype(np.uint8)
        Image.fromarray(np.broadcast_to(pixels, (4, 4, 3)).copy()).save(folder / "points" / f"{row}.png")
    columns = {"label": true} if any(true) else {}
    columns |= {"given": lot.given, "split": lot.parts}
    rows = [(f"{row}.png", *marks) for row, marks in enumerate(zip(*columns.values(), strict=True))]
    own.table(folder / "points" / "labels.csv", rows, ("image", *columns))
    return f"folder[root={folder / 'points'}]"


def _hugging_face(lot: Lot, folder: Path, true: list[str], said: str) -> str:
    """Both columns are of classes, which each names in an order of its own."""
    datasets = pytest.importorskip("datasets")
    kinds = {
        "species": datasets.ClassLabel(names=["bee", "ant", "cat"]),
        "crowd": datasets.ClassLabel(names=["cat", "bee", "ant"]),
    }
    labels = {"species": true, "crowd": lot.given} if any(true) else {"crowd": lot.given}
    columns = {
        name: [kinds[name].str2int(label) if label else -1 for label in found]
        for name, found in labels.items()
    }
    kinds = {name: kinds[name] for name in labels}
    plain = {"f": lot.inputs.tolist(), "part": lot.parts}
    features = {"f": datasets.Sequence(datasets.Value("float32")), "part": datasets.Value("string"), **kinds}
    made = datasets.Dataset.from_dict({**plain, **columns}, features=datasets.Features(features))
    made.save_to_disk(str(folder / "points"))
    return f"huggingface[path={folder / 'points'},features=f,given=crowd,split=part]"


Write = Callable[[Lot, Path, list[str], str], str]
KINDS = pytest.mark.parametrize("write", [_table, _arrays, _folder, _hugging_face])


def _noisy(dataset: str, said: str = "noise=published") -> str:
    return (
        f"noisy-labels[over=class-incremental[dataset={dataset},stages=1,epochs=2,batch_size=8,test_fraction=0],"
        f"{said},probe_epochs=0,watched=0]"
    )


def _scenario(text: str) -> Scenario:
    scenario: Scenario = configured("scenario", text)
    return scenario


@KINDS
def test_given_labels_are_handed_over_and_true_ones_score(write: Write, lot: Lot, tmp_path: Path) -> None:
    text = write(lot, tmp_path, lot.true, "label=species")
    scenario = _scenario(_noisy(text, "noise=published,told=matrix"))
    deal = scenario.deal(3)
    (stage,) = deal.stages
    assert deal.class_numbers is not None
    names = np.array(data_of(text).class_names)[deal.class_numbers]
    assert names[deal.labels].tolist() == lot.true
    assert names[stage.observed_labels].tolist() == [lot.given[row] for row in stage.rows]
    assert sorted(stage.rows) == [row for row in range(75) if lot.parts[row] == "train"]
    assert stage.noise_info is not None
    assert stage.noise_info.rate == 15 / 60
    matrix = stage.noise_info.matrix
    assert matrix is not None
    for place, name in enumerate(names):
        following = {"ant": "bee", "bee": "cat", "cat": "ant"}[name]
        np.testing.assert_allclose(
            matrix[place], np.where(names == name, 0.75, np.where(names == following, 0.25, 0))
        )
    assert scenario.not_known == ""
    final = openworld.debug("cross-entropy", _noisy(text))
    assert final["wrong_labels"] == 0.25
    assert 0 <= final["memorised"] <= 1


@KINDS
def test_without_true_labels_figures_that_need_them_are_said_to_be_not_known(
    write: Write, lot: Lot, tmp_path: Path
) -> None:
    text = write(lot, tmp_path, [""] * 75, "label=")
    assert data_of(text).given is None
    scenario = _scenario(_noisy(text))
    assert "memorised" not in [metric.name for metric in scenario.metrics]
    final = openworld.debug("cross-entropy", _noisy(text))
    assert set(final) <= {metric.name for metric in scenario.metrics}
    done = Record(
        key="k",
        run_id="",
        status=Status.DONE,
        strategy="cross-entropy",
        scenario=_noisy(text),
        seed=0,
        protocol_hash="p",
        metrics=final,
    )
    (ranked,) = rankings([done])
    assert ranked.notes[-1] == (
        "not known, as the true labels are not: memorised, corrected, wrong auroc, kept precision, kept recall, "
        "matrix error"
    )
    with pytest.raises(UserError, match="labels of which an unknown share is wrong: say noise=published"):
        _scenario(_noisy(text, "noise=symmetric")).deal(0)
    with pytest.raises(UserError, match="told=rate cannot be had with noise=published"):
        _scenario(_noisy(text, "noise=published,told=rate")).deal(0)


def test_true_labels_of_the_test_alone_are_what_is_tested(lot: Lot, tmp_path: Path) -> None:
    """The given label counts where the true one is empty, which all training items may leave so."""
    true = [name if part == "test" else "" for name, part in zip(lot.true, lot.parts, strict=True)]
    lot = lot._replace(given=["" if name else given for name, given in zip(true, lot.given, strict=True)])
    text = _table(lot, tmp_path, true, "label=species,labels_are_true=false")
    data = data_of(text)
    expected = [name or given for name, given in zip(true, lot.given, strict=True)]
    assert [data.class_names[label] for label in data.labels] == expected
    scenario = _scenario(_noisy(text))
    assert scenario.not_known
    assert len(scenario.deal(0).stages[0].rows) == 60
    with pytest.raises(
        UserError, match=r"column 'species' of .*points.csv has no label in row 2 \(60 of 75 rows"
    ):
        data_of(_table(lot, tmp_path, true, "label=species"))


def test_given_labels_of_discovery_name_known_classes(lot: Lot, tmp_path: Path) -> None:
    """The classes 0 and 1 are known; some items of 1 are called 2, until these are called 0."""
    discovery = (
        "noisy-labels[over=cgcd[dataset={},initial=2,initial_list=0-1,class_order=natural,new=1,n_init=all,n_new=4,"
        "n_seen=0,shortage=all,test_fraction=0],noise=published,probe_epochs=0]"
    )
    text = _table(lot, tmp_path, lot.true, "label=species")
    with pytest.raises(
        UserError, match="given labels name classes that are not among the 2 classes with labels"
    ):
        _scenario(discovery.format(text)).deal(0)
    given = ["ant" if name == "cat" else name for name in lot.given]
    text = _table(lot._replace(given=given), tmp_path, lot.true, "label=species")
    first = _scenario(discovery.format(text)).deal(0).stages[0]
    assert len({given[row] for row in first.rows}) == 2
    assert [("ant", "bee")[label] for label in first.observed_labels] == [given[row] for row in first.rows]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            "dog",
            "unknown class in row 2 of column 'crowd' of {}, one without any true item: 'dog' (all: ant, bee, cat)",
        ),
        (
            "",
            "column 'crowd' of {} has no label in row 2 (1 of 75 rows have none): fill it in, or leave the row out",
        ),
    ],
)
def test_given_labels_that_are_no_classes_are_named(
    given: str, sentence: str, lot: Lot, tmp_path: Path
) -> None:
    lot.given[0] = given
    with pytest.raises(UserError) as refused:
        data_of(_table(lot, tmp_path, lot.true, "label=species"))
    assert str(refused.value) == sentence.format(tmp_path / "points.csv")


@pytest.mark.parametrize("label_is_text", [True, False])
@pytest.mark.parametrize("given_is", ["text", "classes", "numbers"])
def test_labels_of_hugging_face_mean_the_same_as_names_and_as_numbers(
    label_is_text: bool, given_is: str, tmp_path: Path, lot: Lot
) -> None:
    """A test item without a given label keeps its true one; numbers without names are those of the true classes."""
    datasets = pytest.importorskip("datasets")
    names, others = ["bee", "ant", "cat"], ["cat", "bee", "ant"]
    true, given = ["ant", "bee", "cat", "ant"], ["bee", "bee", "cat", ""]
    kinds = {
        "text": ("string", given),
        "classes": (
            datasets.ClassLabel(names=others),
            [others.index(name) if name else -1 for name in given],
        ),
        "numbers": ("int64", [names.index(name) if name else None for name in given]),
    }
    kind, values = kinds[given_is]
    features = {
        "f": datasets.Sequence(datasets.Value("float32")),
        "part": datasets.Value("string"),
        "species": datasets.Value("string") if label_is_text else datasets.ClassLabel(names=names),
        "crowd": datasets.Value(kind) if isinstance(kind, str) else kind,
    }
    columns = {
        "f": [[1.0]] * 4,
        "part": ["train"] * 3 + ["test"],
        "species": true if label_is_text else [names.index(name) for name in true],
        "crowd": values,
    }
    made = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    made.save_to_disk(str(tmp_path / "points"))
    text = f"huggingface[path={tmp_path / 'points'},features=f,label=species,given=crowd,split=part]"
    if label_is_text and given_is == "numbers":
        with pytest.raises(UserError, match="unknown class in row 0 of column 'crowd'"):
            data_of(text)
        return
    data = data_of(text)
    assert data.given is not None
    assert [data.class_names[label] for label in data.labels] == true
    assert [data.class_names[label] for label in data.given] == [*given[:3], "ant"]
    assert data.class_names == tuple(sorted(names) if label_is_text else names)


def test_a_given_label_of_hugging_face_that_is_no_class_is_named(tmp_path: Path, lot: Lot) -> None:
    datasets = pytest.importorskip("datasets")
    points = {
        "f": [[1.0]] * 3,
        "species": [0, 1, 0],
        "first": ["ant", "bee", "dog"],
        "second": ["ant", "bee", "cat"],
    }
    features = datasets.Features(
        {
            "f": datasets.Sequence(datasets.Value("float32")),
            "species": datasets.ClassLabel(names=["ant", "bee", "cat"]),
            "first": datasets.Value("string"),
            "second": datasets.Value("string"),
        }
    )
    datasets.Dataset.from_dict(points, features=features).save_to_disk(str(tmp_path / "points"))
    text = f"huggingface[path={tmp_path / 'points'},features=f,given="
    for given, sentence in (
        ("first", r"unknown class in row 2 of column 'first' of .*: 'dog' \(all: ant, bee, cat\)"),
        (
            "second",
            r"unknown class in row 2 of column 'second' of .*, one without any true item: 'cat'.* \(all: ant, bee\)",
        ),
        ("secnd", "unknown column of .*points 'secnd'; did you mean 'second'"),
    ):
        with pytest.raises(UserError, match=sentence):
            data_of(f"{text}{given}]")


def test_true_labels_of_some_items_of_hugging_face_stand_beside_given_ones(tmp_path: Path, lot: Lot) -> None:
    """Where only the test has true labels, -1 elsewhere, the given ones count there."""
    datasets = pytest.importorskip("datasets")
    kind = datasets.ClassLabel(names=["ant", "bee"])
    columns = {
        "f": [[1.0]] * 4,
        "part": ["train", "train", "test", "test"],
        "species": [-1, -1, 1, 0],
        "crowd": [0, 1, 0, 0],
    }
    features = datasets.Features(
        {
            "f": datasets.Sequence(datasets.Value("float32")),
            "part": datasets.Value("string"),
            "species": kind,
            "crowd": kind,
        }
    )
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(tmp_path / "points"))
    text = f"huggingface[path={tmp_path / 'points'},features=f,given=crowd,split=part"
    with pytest.raises(UserError, match=r"has no label in row 0 \(2 of 4 rows have none\)"):
        data_of(f"{text}]")
    data = data_of(f"{text},labels_are_true=false]")
    assert data.given is not None
    assert (data.labels.tolist(), data.given.tolist()) == ([0, 1, 1, 0], [0, 1, 0, 0])


def test_labels_that_are_wrong_already_are_not_corrupted_unasked(lot: Lot, tmp_path: Path) -> None:
    text = _table(lot, tmp_path, lot.true, "label=species")
    with pytest.raises(
        UserError, match="has given labels beside the true ones: say noise=published to hand these"
    ):
        _scenario(_noisy(text, "noise=symmetric[rate=0.4]")).deal(0)
