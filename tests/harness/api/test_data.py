"""Data that are objects in Python come back from the cache item by item, and what does not fit is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from harness.api.data import as_dataset
from harness.errors import UserError
from harness.selection import configured


class Squares(Dataset[Any]):
    """Grey squares, as bright as their number; three classes with names."""

    classes = ("low", "middle", "high")

    def __init__(self, items: int = 6) -> None:
        self.items = items

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        return torch.full((1, 4, 4), row / self.items, dtype=torch.float64), torch.tensor(row % 3)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache of its own."""
    monkeypatch.setenv("OWB_CACHE", str(tmp_path))
    return tmp_path


def test_a_torch_dataset_comes_back_with_its_split_and_the_names_of_its_classes() -> None:
    data = configured("dataset", as_dataset(Squares(6), validation=Squares(3), test=Squares(9))).load()
    brightness = [row / items for items in (6, 3, 9) for row in range(items)]
    assert np.array_equal(data.inputs[:, 0, 1, 2], np.float32(brightness))
    assert data.inputs.dtype == np.float32
    assert data.labels.tolist() == [row % 3 for items in (6, 3, 9) for row in range(items)]
    assert data.class_names == Squares.classes
    assert np.flatnonzero(data.published_test).tolist() == [*range(9, 18)]
    assert np.flatnonzero(data.published_validation).tolist() == [6, 7, 8]


def test_arrays_and_tensors_and_data_sets_of_the_same_contents_are_one(cache: Path) -> None:
    rows, labels = [Squares()[row][0] for row in range(6)], np.arange(6) % 3
    name = as_dataset(Squares())
    tensors = torch.stack(rows)
    assert as_dataset((tensors.numpy(), labels), class_names=Squares.classes) == name
    assert as_dataset((tensors, torch.tensor(labels)), class_names=Squares.classes) == name
    assert len(list((cache / "arrays").iterdir())) == 1
    others = [
        as_dataset((tensors, labels)),
        as_dataset(TensorDataset(tensors, torch.tensor(labels))),
        as_dataset((tensors + 0.01, labels)),
        as_dataset((tensors, labels), groups=[0, 0, 0, 1, 1, 1]),
        as_dataset((tensors[:3], labels[:3]), test=(tensors[3:], labels[3:])),
    ]
    assert others[0] == others[1]
    assert len({name, *others}) == 5


def test_features_text_labels_and_groups_are_kept() -> None:
    inputs = np.arange(12.0).reshape(4, 3)
    data = configured("dataset", as_dataset((inputs, ["b", "a", "b", "a"]), groups=[5, 5, 2, 2])).load()
    assert np.array_equal(data.inputs, inputs)
    assert [data.class_names[label] for label in data.labels] == ["b", "a", "b", "a"]
    assert data.groups[0] == data.groups[1] != data.groups[2] == data.groups[3]


def test_pictures_have_their_channels_first() -> None:
    pixels = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    pictures = [(Image.fromarray(values), number) for number, values in enumerate(pixels)]
    data = configured("dataset", as_dataset(pictures)).load()
    assert np.array_equal(data.inputs, pixels.transpose(0, 3, 1, 2))


class _Noisy(Squares):
    def __getitem__(self, row: int) -> tuple[Any, Any]:
        return torch.rand(1, 4, 4), row % 3


class _Broken(Squares):
    def __getitem__(self, row: int) -> tuple[Any, Any]:
        if row == 4:
            raise KeyError("no such file")
        return super().__getitem__(row)


def _last(item: Any) -> list[Any]:
    return [Squares()[0], Squares()[1], item]


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (_Noisy(), "item 0 of train differs when it is read again"),
        (_Broken(), r"item 4 of train does not load: KeyError: 'no such file' \(test_data.py"),
        (_last((np.zeros((1, 4, 5), np.float32), 1)), r"item 2 of train is float32 \(1, 4, 5\), where the first"),
        (_last((np.zeros((1, 4, 4), np.int64), 1)), "item 2 of train is int64: give images as uint8"),
        (_last({"image": 1, "label": 2}), r"item 2 of train should be a pair \(input, label\), it is dict"),
        (_last((Squares()[0][0], 0.5)), "labels hold float64, such as 0"),
        (_last((Squares()[0][0], [1, 0, 0])), r"the label of item 2 of train has shape \(3,\)"),
        ([(Image.new("P", (4, 4)), 0)], "item 0 of train is a picture in mode P: convert it"),
        ([], "train has no items"),
        (np.zeros((3, 2)), "train should be a data set"),
        (iter([]), "train should be a data set"),
        ((np.zeros((3, 2)), np.zeros(4)), r"should be \(N, ...\) and \(N,\), they are \(3, 2\) and \(4,\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_and_nothing_is_left(cache: Path, train: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        as_dataset(train)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_data_that_the_cache_no_longer_has_are_asked_for_again(cache: Path) -> None:
    for digest in ("0123456789abcdef", "../../../etc"):
        with pytest.raises(UserError, match=r"as_dataset, from the same data"):
            configured("dataset", f"arrays[digest={digest}]").load()
    (cache / "arrays").write_text("in the way")
    with pytest.raises(UserError, match="cannot keep data in"):
        as_dataset(Squares())
