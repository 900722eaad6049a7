"""Columns of a table: of a CSV or TSV file, of a Parquet file, or of a table of Arrow that is there already.

A CSV file is text in UTF-8 with a line of names first; its rows are counted as a spreadsheet counts them, the
names being row 1. Other rows count from 0. Whatever a label looks like, it is taken as the text it is.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError
from scenarios.datasets.own.marks import Column, nearest

if TYPE_CHECKING:
    import pyarrow as pa

SEPARATORS = {".csv": ",", ".tsv": "\t"}
PARQUET = (".parquet", ".pq")
MEMORY_SHARE = 0.5
"""Of this machine's memory, what a table may take when it is unpacked."""


def header_of(path: Path) -> list[str]:
    """Return the names of the columns.

    Raises:
        UserError: the file cannot be read, is in no format that is, or two columns have one name.
    """
    suffix = path.suffix.lower()
    if suffix not in (*SEPARATORS, *PARQUET):
        raise UserError(f"{path} is read as a table if its name ends in {', '.join((*SEPARATORS, *PARQUET))}")
    names = _first_line(path, SEPARATORS[suffix]) if suffix in SEPARATORS else _schema_names(path)
    if again := [name for place, name in enumerate(names) if name in names[:place]]:
        raise UserError(f"{path} has two columns {again[0]!r}: rename one")
    return names


def table_of(path: Path, texts: Sequence[str], numbers: Sequence[str] = ()) -> pa.Table:
    """Return columns of a file.

    Args:
        path: of the file.
        texts: columns that are read as text where the file does not say what they are.
        numbers: columns of real numbers.

    Raises:
        UserError: the file is damaged or larger than memory, has no row or no such column, or a number that is
        none.
    """
    names = header_of(path)
    wanted = [*dict.fromkeys([*texts, *numbers])]
    for name in wanted:
        if name not in names:
            raise nearest(f"column of {path}", name, names)
    table = (
        _parquet(path, wanted)
        if path.suffix.lower() in PARQUET
        else _separated(path, wanted, {*numbers} - {*texts})
    )
    if not table.num_rows:
        raise UserError(f"{path} has names of columns and no row below them")
    return table


def first_row(path: Path) -> int:
    """Return the number of the first row of a table, as its owner counts."""
    return 2 if path.suffix.lower() in SEPARATORS else 0


def matching(patterns: str, names: Sequence[str], where: str, others: Sequence[str] = ()) -> list[str]:
    """Return the columns that patterns such as `f*`, joined by +, stand for, in the order of the table, without
    those in `others`.

    Raises:
        UserError: a pattern stands for none.
    """
    said = [pattern.strip() for pattern in patterns.split("+")]
    free = [name for name in names if name not in others]
    for pattern in said:
        if not any(fnmatchcase(name, pattern) for name in free):
            raise nearest(f"column of {where}", pattern, free)
    return [name for name in free if any(fnmatchcase(name, pattern) for pattern in said)]


def text_column(table: pa.Table, name: str, where: str, first: int = 0) -> Column:
    """Return a column of text, whole numbers or truth values.

    Raises:
        UserError: it holds something else.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    title = f"column {name!r} of {where}"
    column = table[name]
    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        value = next((value for value in column.to_pylist() if value is not None), None)
        raise UserError(f"{title} holds real numbers, such as {value}: write it as names or as whole numbers")
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if not (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    ):
        raise UserError(f"{title} holds {kind}, where names or whole numbers are expected")
    filled = pc.fill_null(column.cast(pa.string()), "").combine_chunks()
    if isinstance(filled, pa.ChunkedArray):
        filled = pa.concat_arrays(filled.chunks)
    coded = filled.dictionary_encode()
    return Column(
        title,
        coded.dictionary.to_pylist(),
        coded.indices.to_numpy(zero_copy_only=False).astype(np.int64),
        first,
    )


def matrix_of(table: pa.Table, names: Sequence[str], where: str, first: int = 0) -> NDArray[np.float32]:
    """Return numbers as float32 (N, values): a column each, or a list of one length in every row of a column.

    Raises:
        UserError: a value that is missing or no number, or a list of another length; the row.
    """
    parts = [_numbers(table[name].combine_chunks(), f"column {name!r} of {where}", first) for name in names]
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


def _numbers(column: Any, title: str, first: int) -> NDArray[np.float32]:
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    if column.null_count:
        row = first + column.is_null().to_pylist().index(True)
        raise UserError(
            f"{title} has no value in row {row} ({column.null_count} of {len(column)} rows have none): fill it in, or "
            "leave the row out"
        )
    kind = column.type
    width = 1
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        lengths = column.value_lengths().to_numpy(zero_copy_only=False)
        width = int(lengths[0])
        if len(other := np.flatnonzero(lengths != width)):
            raise UserError(
                f"{title} has {width} values in row {first} and {lengths[other[0]]} in row {first + other[0]}: every "
                "row needs as many"
            )
        column = column.flatten()
        kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise UserError(f"{title} holds {kind}, where numbers are expected")
    return np.asarray(column.cast(pa.float32(), safe=False)).reshape(-1, width)


def _first_line(path: Path, separator: str) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            names = next(csv.reader(lines, delimiter=separator), [])
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} does not begin with names of columns in UTF-8 ({error})") from None
    if not any(names):
        raise UserError(f"{path} is empty: a first line with the names of its columns is expected")
    if len(names) == 1 and ";" in names[0]:
        raise UserError(
            f"{path} is separated by semicolons: separate it by commas, or by tabs and name it .tsv"
        )
    return names


def _schema_names(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    return [str(name) for name in _read_parquet(path, lambda: pq.read_schema(path)).names]


def _parquet(path: Path, wanted: list[str]) -> pa.Table:
    import pyarrow.parquet as pq

    def read() -> pa.Table:
        with pq.ParquetFile(path) as file:
            groups = [file.metadata.row_group(place) for place in range(file.metadata.num_row_groups)]
            _check_fits(path, sum(group.total_byte_size for group in groups))
            return file.read(columns=wanted)

    return _read_parquet(path, read)


def _check_fits(path: Path, needed: int) -> None:
    import psutil

    allowed = MEMORY_SHARE * psutil.virtual_memory().total
    if needed > allowed:
        raise UserError(
            f"{path} has {needed / 2**30:.1f} GiB unpacked, more than the {allowed / 2**30:.1f} GiB of memory "
            "that a table may take: split it, or save its values as arrays[path=FOLDER]"
        )


def _separated(path: Path, wanted: list[str], numbers: set[str]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    def read(numbers: set[str]) -> pa.Table:
        return arrow_csv.read_csv(
            path,
            parse_options=arrow_csv.ParseOptions(
                delimiter=SEPARATORS[path.suffix.lower()], newlines_in_values=True
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=wanted,
                column_types={name: pa.float32() if name in numbers else pa.string() for name in wanted},
                strings_can_be_null=False,
            ),
        )

    _check_fits(path, path.stat().st_size)
    try:
        return read(numbers)
    except (pa.ArrowInvalid, OSError) as error:
        table = _read_parquet(path, lambda: read(set()))
        for name in sorted(numbers):
            for row, value in enumerate(table[name].to_pylist()):
                if not _is_number(value):
                    raise UserError(
                        f"column {name!r} of {path} has {value!r} in row {row + 2}, where a number is expected"
                    ) from None
        raise UserError(f"cannot read {path}: {error}") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_parquet(path: Path, read: Any) -> Any:
    import pyarrow as pa

    try:
        return read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from None


__all__ = ["first_row", "header_of", "matching", "matrix_of", "table_of", "text_column"]
