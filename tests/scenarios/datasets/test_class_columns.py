"""Columns of classes as `datasets` has them, of which nothing but names and type are looked at."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.errors import UserError
from scenarios.datasets.own.class_columns import as_classes, without_none
from scenarios.datasets.own.marks import Column, column_of

CLASSES = SimpleNamespace(names=["cat", "bee", "ant"], dtype="int64")
TEXT, NUMBERS = SimpleNamespace(dtype="string"), SimpleNamespace(dtype="int64")


def _texts(column: Column) -> list[str]:
    return [column.values[code] for code in column.codes]


def test_no_class_is_minus_one_in_a_column_of_classes_and_a_number_elsewhere() -> None:
    column = column_of("column 'a'", ["0", "-1", "2"])
    assert _texts(without_none(column, CLASSES)) == ["0", "", "2"]
    assert _texts(without_none(column, NUMBERS)) == ["0", "-1", "2"]


def test_labels_become_numbers_of_the_other_columns_names_or_these_names() -> None:
    numbers, names = column_of("column 'a'", ["2", "", "0"]), column_of("column 'a'", ["ant", "", "cat"])
    other = ("bee", "ant", "cat")
    for column, kind in ((numbers, CLASSES), (names, TEXT)):
        assert _texts(as_classes(column, kind, other)) == ["1", "", "2"]
        assert _texts(as_classes(column, kind, ())) == ["ant", "", "cat"]
    for of_others in (other, ()):
        assert as_classes(numbers, NUMBERS, of_others) == numbers


def test_a_class_that_the_other_column_does_not_know_is_named_with_its_row() -> None:
    with pytest.raises(UserError, match="unknown class in row 1 of column 'a': 'bea'; did you mean 'bee'"):
        as_classes(column_of("column 'a'", ["ant", "bea"]), TEXT, ("bee", "ant"))
