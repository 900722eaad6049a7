"""Records as data frames of pandas, and as files: a row per cell, or per cell and stage.

Parameters stand last, those of the strategy as `strategy.NAME`, those of the scenario as `scenario.NAME`. Records
keep them as text; a column whose texts are all numbers, or all truth values, is made of these.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError, unknown
from harness.results.write_files import write_page

if TYPE_CHECKING:
    import pandas as pd

    from harness.store.mlflow_store import Store
    from harness.store.record import Record

FORMATS = ("csv", "parquet", "json")


def cells_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return a row per cell: scenario, protocol, strategy, seed, status, reason, every metric, learn_s and seconds
    (s), peak_mib (MiB), key, and all parameters.
    """
    return _frame(
        [
            {
                **_names(record),
                "status": str(record.status),
                "reason": record.reason,
                **record.metrics,
                "learn_s": record.learn_s,
                "seconds": record.seconds,
                "peak_mib": record.peak_mib,
                "key": record.key,
            }
            for record in records
        ],
        [_parameters(record) for record in records],
    )


def stages_frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return a row per cell and stage: scenario, protocol, strategy, seed, stage (from 0), every figure that the
    scenario scores after a stage, key, and all parameters.
    """
    rows, parameters = [], []
    for record, figures in zip(records, store.stages_of(records), strict=True):
        for stage in sorted({stage for curve in figures.values() for stage in curve}):
            own = {name: curve[stage] for name, curve in figures.items() if stage in curve}
            rows.append({**_names(record), "stage": stage, **own, "key": record.key})
            parameters.append(_parameters(record))
    return _frame(rows, parameters)


def write_frame(frame: pd.DataFrame, path: Path, kind: str) -> None:
    """Write a frame to a file, whole, as csv, parquet or json (a list of objects, null for what is not known).

    Raises:
        UserError: no such format, or a file that cannot be written.
    """
    if kind not in FORMATS:
        raise unknown("format", kind, FORMATS, ", ".join(FORMATS))
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file with --out")
    content = io.BytesIO()
    if kind == "csv":
        frame.to_csv(content, index=False, lineterminator="\n")
    elif kind == "json":
        frame.to_json(content, orient="records", lines=False, indent=1)
    else:
        frame.to_parquet(content, index=False)
    write_page({path.name: content.getvalue()}, path.parent)


def _names(record: Record) -> dict[str, Any]:
    return {
        "scenario": record.scenario,
        "protocol": record.protocol_hash,
        "strategy": record.strategy,
        "seed": record.seed,
    }


def _parameters(record: Record) -> dict[str, str]:
    said = {name: value for name, value in record.params.items() if name != "seed"}
    return {
        name if name.startswith("scenario.") else f"strategy.{name}": value for name, value in said.items()
    }


def _frame(rows: Sequence[Mapping[str, Any]], parameters: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    import pandas as pd

    names = sorted({name for each in parameters for name in each}, reverse=True)
    columns = {name: _typed([each.get(name) for each in parameters]) for name in names}
    return pd.concat([pd.DataFrame(rows), pd.DataFrame(columns)], axis=1)


def _typed(texts: Sequence[str | None]) -> list[Any]:
    """Return the values that texts of one parameter stand for, where all stand for values of one kind."""
    known = {text for text in texts if text not in (None, "None")}
    if known and known <= {"True", "False"}:
        return [None if text in (None, "None") else text == "True" for text in texts]
    for kind in (int, float):
        try:
            found: dict[str | None, Any] = {text: kind(text) for text in known if text is not None}
        except ValueError:
            continue
        return [found.get(text) for text in texts]
    return [*texts]


__all__ = ["FORMATS", "cells_frame", "stages_frame", "write_frame"]
