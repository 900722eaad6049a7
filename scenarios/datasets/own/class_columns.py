"""Columns of classes as the library `datasets` has them: numbers with names of their own, and -1 for no class.

Two such columns of one data set may name the same classes in another order, or one may be plain text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scenarios.datasets.own.marks import Column, nearest


def without_none(column: Column, kind: Any) -> Column:
    """Return a column whose labels are empty where they stand for no class; `kind` is its feature in `datasets`."""
    if not hasattr(kind, "names"):
        return column
    return column._replace(values=["" if value == "-1" else value for value in column.values])


def as_classes(column: Column, kind: Any, names: Sequence[str]) -> Column:
    """Return labels as another column has them.

    Args:
        column: the labels, empty where there is none.
        kind: their feature in `datasets`.
        names: of the classes that the other column has numbers for; empty where it has names itself.

    Raises:
        UserError: a class that the other column does not know; the row.
    """
    if hasattr(kind, "names"):
        column = column._replace(values=[value and kind.names[int(value)] for value in column.values])
    elif kind.dtype not in ("string", "large_string"):
        return column
    if not names:
        return column
    numbers = {name: str(place) for place, name in enumerate(names)}
    for place, value in enumerate(column.values):
        if value and value not in numbers:
            raise nearest(f"class in {column.row_of(place)} of {column.title}:", value, numbers)
    return column._replace(values=[value and numbers[value] for value in column.values])


__all__ = ["as_classes", "without_none"]
