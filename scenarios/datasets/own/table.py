"""A table of one's own: a row for each item, with the file of its picture or with its features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from harness.contracts import Card, param
from harness.errors import UserError
from harness.places import below_data
from scenarios.datasets.file_digests import digests_of
from scenarios.datasets.own.base import Content, Labelling, hashes_of, inside, own_card, place_of
from scenarios.datasets.own.columns import first_row, header_of, matching, matrix_of, table_of, text_column
from scenarios.datasets.own.marks import Column, Marks, marks_of
from scenarios.datasets.own.pictures import Pictures, Source

if TYPE_CHECKING:
    import pyarrow as pa


class Listed(NamedTuple):
    """The pictures that a table names, in the order of its rows."""

    paths: list[Path]
    marks: Marks


class Roles(NamedTuple):
    """The columns that say what every item is, empty for none; and whether every item has its true class."""

    label: str
    given: str
    split: str
    group: str
    all_true: bool = True


class Table(Pictures):
    """Your table: a CSV or Parquet file with a row for each item, its picture's file or its features."""

    kind: ClassVar[Card] = own_card(
        "A table of your own",
        notes="A CSV, TSV or Parquet file with a column of labels, and of paths of pictures or of numbers; where "
        "wanted also of parts (train, val, test), groups and given labels.",
    )
    usage: ClassVar[str] = (
        "table[path=FILE,image=COLUMN,label=COLUMN] or table[path=FILE,features=PREFIX*,label=COLUMN]"
    )

    path: str = param("", "the file, .csv, .tsv or .parquet, below OWB_DATA where that is set")
    image: str = param("", "column with the files of the pictures, relative to the table or to root")
    features: str = param(
        "", "columns of numbers, by name or as PREFIX*, several joined by +; instead of image"
    )
    label: str = param("label", "column with the classes; empty where given has all the labels there are")
    given: str = param(
        "", "column with the labels that came with the items, some of them wrong; empty for none"
    )
    split: str = param("", "column that says train, val or test; empty for none")
    group: str = param(
        "", "column that is alike for items that must stay on one side of a split; empty for none"
    )
    root: str = param("", "folder that all pictures lie below; empty for that of the table")

    def content(self) -> Content:
        """Return the items in the order of the rows."""
        path = place_of(self.path, "path", self.usage)
        if bool(self.image) == bool(self.features):
            raise UserError(
                f"say either image or features: {self.usage}; {path} has columns {_some(header_of(path))}"
            )
        if self.image:
            root = below_data(self.root) if self.root else path.parent
            rows = listed(path, root, self.image, self._roles())
            return self.pictured(rows.marks, digests_of(rows.paths), lambda row: Source(str(rows.paths[row])))
        roles = self._roles()
        others = [name for name in roles[:4] if name]
        names = matching(self.features, header_of(path), str(path), others)
        table = table_of(path, others, names)
        first = first_row(path)
        values = matrix_of(table, names, str(path), first)
        return Content(
            marks=_marks(table, path, roles),
            shape=values.shape[1:],
            digest=digests_of([path])[0],
            inputs=lambda: values,
            name=lambda row: f"row {first + row} of {path}",
            hashes=lambda: hashes_of(values),
        )

    def labelling(self) -> Labelling:
        """Return which columns of labels are said."""
        return Labelling(
            true=self.labels_are_true and bool(self.label), given=bool(self.given) and bool(self.label)
        )

    def _roles(self) -> Roles:
        if not (self.label or self.given):
            raise UserError(f"say label=COLUMN, or given=COLUMN where no true labels are known: {self.usage}")
        return Roles(self.label, self.given, self.split, self.group, all_true=self.labels_are_true)


def listed(path: Path, root: Path, image: str, roles: Roles) -> Listed:
    """Return the pictures that a table names.

    Args:
        path: of the table.
        root: folder that they lie below.
        image: column of their files.
        roles: the other columns.

    Raises:
        UserError: a column, a file or a label that is missing, a file that lies elsewhere or is named twice; the
        row.
    """
    table = table_of(path, [name for name in (image, *roles[:4]) if name])
    first = first_row(path)
    said = text_column(table, image, str(path), first)
    found: dict[Path, int] = {}
    paths = []
    for row, code in enumerate(said.codes):
        where = f"row {first + row} of {path}"
        if not (name := said.values[code].strip()):
            raise UserError(f"{where} has no picture in column {image!r}: fill it in, or leave the row out")
        paths.append(inside(root, name, where))
        if (other := found.setdefault(paths[-1].resolve(), row)) != row:
            raise UserError(f"{where} names {name} again, after row {first + other}: keep one of them")
    return Listed(paths, _marks(table, path, roles))


def _marks(table: pa.Table, path: Path, roles: Roles) -> Marks:
    def column(name: str) -> Column | None:
        return text_column(table, name, str(path), first_row(path)) if name else None

    return marks_of(
        column(roles.label),
        column(roles.split),
        column(roles.group),
        given=column(roles.given),
        all_true=roles.all_true,
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


__all__ = ["Listed", "Roles", "Table", "listed"]
