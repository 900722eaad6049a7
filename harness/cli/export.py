"""`owb export`: all cells of one or several stores in one file, for pandas, R or a spreadsheet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import console, options
from harness.errors import UserError, unknown
from harness.places import written

if TYPE_CHECKING:
    import pandas as pd

    from harness.store.mlflow_store import Store

EPILOGUE = options.examples(
    "owb export                                   cells.csv: a row per cell of owb-store, with all parameters",
    "owb export --stages --format parquet         stages.parquet: a row per cell and stage",
    "owb export here/owb-store there/owb-store    two stores in one file, told apart in the column store",
    "owb export --name demo --out demo.json --format json",
)


def export(
    stores: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STORE", help="Stores, as --store elsewhere; by default OWB_STORE or owb-store."
        ),
    ] = None,
    kind: Annotated[str, typer.Option("--format", "-f", help="csv, parquet or json.")] = "csv",
    stages: Annotated[bool, typer.Option("--stages", help="A row per cell and stage.")] = False,
    name: Annotated[
        str, typer.Option("--name", help="One experiment alone; by default every cell of the store.")
    ] = "",
    out: Annotated[
        Path | None, options.path("--out", "-o", help="The file; by default cells.FORMAT or stages.FORMAT.")
    ] = None,
) -> None:
    """Write all recorded cells to one file, a row each, with figures, costs and parameters."""
    import pandas as pd

    from harness.results.frames import FORMATS, write_frame

    if kind not in FORMATS:
        raise unknown("format", kind, FORMATS, ", ".join(FORMATS))
    places = stores or [os.environ.get("OWB_STORE") or "owb-store"]
    frames = [_frame(_opened(place), name, stages) for place in places]
    if len(places) > 1:
        for place, each in zip(places, frames, strict=True):
            each.insert(0, "store", place)
    frame = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    if frame.empty:
        raise UserError(
            f"no {'stage' if stages else 'cell'} is recorded in {', '.join(places)}; see: owb show"
        )
    path = out or Path(f"{'stages' if stages else 'cells'}.{kind}")
    write_frame(frame, path, kind)
    what = "stages of cells" if stages else "cells"
    console.say(f"wrote {path}: {len(frame)} {what}, {len(frame.columns)} columns")


def _frame(store: Store, name: str, stages: bool) -> pd.DataFrame:
    from harness.results.frames import cells_frame, stages_frame

    records = store.records(name)
    return stages_frame(records, store) if stages else cells_frame(records)


def _opened(place: str) -> Store:
    """Return a store that is there.

    Raises:
        UserError: there is none, with the nearest one of its folder.
    """
    from harness.store.mlflow_store import Store

    store = Store(place)
    if not store.exists:
        around = written(place).parent
        others = [str(around / path.parent.name) for path in sorted(around.glob("*/mlflow.db"))]
        raise unknown("store", place, others, ", ".join(others) or "none here")
    return store
