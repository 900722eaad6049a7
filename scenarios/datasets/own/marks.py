"""What is said of every item of one's own data: its class, its part of the split, its group, as text or numbers.

Classes are numbered in sorted order of their names, as numbers where all of them are whole numbers. Parts are
called train, val or test, or by one of their usual other names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.contracts import IntArray
from harness.errors import UserError, unknown

PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""The names that a part of a split goes by, in small letters, and what each of them means."""

_WHOLE = re.compile(r"[-+]?\d+")
_REAL = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|nan", re.I)


class Column(NamedTuple):
    """One text an item, each distinct one kept once.

    title: such as `column 'label' of birds.csv`.  values: distinct, "" for a missing one.  codes: int64 (N,)
    places in `values`.  first: number that the first item's row has for its owner.
    """

    title: str
    values: Sequence[str]
    codes: IntArray
    first: int = 0

    def row_of(self, value: int) -> str:
        """Return the first row with the value of this place, in words."""
        return f"row {self.first + int((self.codes == value).argmax())}"


class Marks(NamedTuple):
    """Labels int64 (N,), the names of their classes, and what `harness.contracts.Data` has of parts, groups and
    given labels.
    """

    labels: IntArray
    class_names: tuple[str, ...]
    published_test: NDArray[np.bool_] | None = None
    published_validation: NDArray[np.bool_] | None = None
    groups: IntArray | None = None
    given: IntArray | None = None

    def part(self, row: int) -> str:
        """Return the part that an item is in."""
        for name, inside in (("test", self.published_test), ("val", self.published_validation)):
            if inside is not None and inside[row]:
                return name
        return "train"


def column_of(title: str, values: Sequence[str]) -> Column:
    """Return texts, one an item, as a column."""
    distinct, codes = np.unique(np.asarray(values, dtype=np.str_), return_inverse=True)
    return Column(title, [str(value) for value in distinct], codes.astype(np.int64))


def marks_of(
    labels: Column | None,
    split: Column | None,
    groups: Column | None,
    class_names: Sequence[str] = (),
    *,
    given: Column | None = None,
    all_true: bool = True,
) -> Marks:
    """Return what the columns say.

    Args:
        labels: the name of the class of every item; with `class_names`, its number. None where the given labels are
            all there are.
        split: its part, all of them train where there is no such column.
        groups: anything that is alike for items that belong together.
        class_names: the classes in the order of their numbers; those without items are left out.
        given: the label that came with every item, right or wrong; test items need none.
        all_true: whether every item has its true class in `labels`; otherwise those without one count as given.

    Raises:
        UserError: a missing label or group, a label that is a real number, classes that differ by case alone, an
        unknown part, or nothing to train on; the row and what to do.
    """
    parts = _parts(split) if split is not None else {}
    if labels is None:
        labels, given = given, None
    if labels is None:
        raise UserError("items need labels, or labels that were given")
    if given is not None and not all_true:
        labels = _filled_from(labels, given)
    numbers, names = _classes(labels, class_names)
    return Marks(
        labels=numbers,
        class_names=names,
        published_test=parts.get("test"),
        published_validation=parts.get("val"),
        groups=None if groups is None else _filled(groups, "group")[1][groups.codes],
        given=None if given is None else _given(given, names, class_names, parts.get("test"), numbers),
    )


def _filled_from(labels: Column, given: Column) -> Column:
    """Return true classes where there are some, and given labels elsewhere."""
    own, others = (
        np.array([value.strip() for value in column.values], dtype=np.str_)[column.codes]
        for column in (labels, given)
    )
    return column_of(labels.title, [*np.where(own == "", others, own)])._replace(first=labels.first)


def _given(
    column: Column,
    names: Sequence[str],
    class_names: Sequence[str],
    is_test: NDArray[np.bool_] | None,
    labels: IntArray,
) -> IntArray:
    """Return the numbers of the given labels, for test items without one those of their true classes."""
    meant = dict(zip(names, range(len(names)), strict=True))
    named = {str(place): name for place, name in enumerate(class_names)}
    if class_names:
        meant = {place: meant[name] for place, name in named.items() if name in meant}
    stripped = [value.strip() for value in column.values]
    lacking = np.array([not value for value in stripped], dtype=bool)[column.codes]
    _check_filled(column, "label", lacking if is_test is None else lacking & ~is_test)
    for place, value in enumerate(stripped):
        if value and value not in meant:
            raise unknown(
                f"class in {column.row_of(place)} of {column.title}, one without any true item:",
                named.get(value, value),
                names,
                ", ".join(names[:20]),
            )
    numbers = np.array([meant.get(value, -1) for value in stripped], dtype=np.int64)[column.codes]
    return np.where(lacking, labels, numbers)


def _classes(column: Column, class_names: Sequence[str]) -> tuple[IntArray, tuple[str, ...]]:
    names, codes = _filled(column, "label")
    if class_names:
        names, order = _named(column, names, class_names)
    else:
        if all(map(_REAL.fullmatch, names)) and (
            broken := [place for place, name in enumerate(names) if not _WHOLE.fullmatch(name)]
        ):
            found = column.values[[*codes].index(broken[0])]
            raise UserError(
                f"{column.title} holds real numbers, such as {found} in {column.row_of([*codes].index(broken[0]))}: "
                "write classes as names or as whole numbers"
            )
        whole = all(map(_WHOLE.fullmatch, names))
        order = sorted(
            range(len(names)), key=lambda place: (int(names[place]), "") if whole else (0, names[place])
        )
    used = tuple(names[place] for place in order)
    alike: dict[str, str] = {}
    for name in used:
        if (other := alike.setdefault(name.casefold(), name)) != name:
            raise UserError(
                f"{column.title} has classes {other!r} and {name!r}, which differ by case alone: write them alike, or "
                "rename one"
            )
    number = np.argsort(np.array(order))
    return number[codes][column.codes].astype(np.int64), used


def _named(column: Column, names: Sequence[str], class_names: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the names of classes that come as numbers, and their places in the order of these numbers."""
    for place, name in enumerate(names):
        if not _WHOLE.fullmatch(name) or not 0 <= int(name) < len(class_names):
            value = [text.strip() for text in column.values].index(name)
            raise UserError(
                f"{column.title} has {names[place]!r} in {column.row_of(value)}, but labels of {len(class_names)} "
                f"named classes are 0 to {len(class_names) - 1}: leave such items out, or name their classes"
            )
    return [class_names[int(name)] for name in names], sorted(
        range(len(names)), key=lambda place: int(names[place])
    )


def _filled(column: Column, what: str) -> tuple[list[str], IntArray]:
    """Return the distinct values of a column without spaces around them, and for each of its own values the place
    of that.
    """
    stripped = [value.strip() for value in column.values]
    if "" in stripped:
        _check_filled(
            column, what, np.isin(column.codes, [place for place, value in enumerate(stripped) if not value])
        )
    values = [*dict.fromkeys(stripped)]
    place_of = {value: place for place, value in enumerate(values)}
    return values, np.array([place_of[value] for value in stripped], dtype=np.int64)


def _check_filled(column: Column, what: str, empty: NDArray[np.bool_]) -> None:
    """Do nothing where no item lacks a value that it needs; empty: bool (N,)."""
    if empty.any():
        raise UserError(
            f"{column.title} has no {what} in row {column.first + int(empty.argmax())} ({int(empty.sum())} of "
            f"{len(empty)} rows have none): fill it in, or leave the row out"
        )


def _parts(column: Column) -> dict[str, NDArray[np.bool_]]:
    """Return which items are in each part that there is."""
    meant = [PARTS.get(value.strip().lower(), "") for value in column.values]
    if "" in meant:
        invalid = meant.index("")
        raise unknown(
            f"part in {column.row_of(invalid)} of {column.title}:",
            column.values[invalid],
            PARTS,
            ", ".join(PARTS),
        )
    parts = np.array(meant)[column.codes] if meant else np.zeros(0, dtype=np.str_)
    found = {name: parts == name for name in dict.fromkeys(meant)}
    if "train" not in found:
        raise UserError(f"{column.title} puts no item into train, so nothing is left to learn from")
    return found


def nearest(kind: str, name: str, valid: Collection[str]) -> UserError:
    """Return the error for a name that is not there, with the nearest one and the first of all."""
    some = [*valid]
    return unknown(kind, name, some, ", ".join(some[:20]) + (", ..." if len(some) > 20 else "") or "none")


__all__ = ["PARTS", "Column", "Marks", "column_of", "marks_of", "nearest"]
