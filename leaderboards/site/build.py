"""Writing pages: OUT/NAME/ for every board or experiment, OUT/index.html over all that are there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.results.write_files import write_page
from leaderboards.publishing.board import read_board, slug
from leaderboards.site.badge import badges
from leaderboards.site.pages import HTML, SUMMARY, files_of, index_page, page_of_records
from leaderboards.site.report import report_of_board

if TYPE_CHECKING:
    from harness.store.mlflow_store import Store

BADGES = "badges"
DOCUMENTATION = "docs/index.html"
"""The first page of `make docs`, which lies beside the boards."""


def build_boards(folders: Iterable[Path], out: Path, *, curves: bool = True) -> Iterable[Path]:
    """Write the page of every board folder, with a badge for every contender that has a place; yield where, one
    after another.

    Raises:
        UserError: a board that cannot be read.
    """
    from harness.studies.ablation.page import write_report
    from leaderboards.publishing.ablation_on_board import board_report  # that package builds on this one

    for folder in folders:
        report = report_of_board(folder, curves=curves)
        own = write_page(files_of(report), out / folder.resolve().name)
        write_page(badges(report.rankings, report.name), own / BADGES)
        if (found := board_report(read_board(folder))) is not None:
            write_report(found, own)
        yield own


def build_experiment(
    store: Store, name: str, out: Path, *, title: str = "", curves: bool | None = None
) -> Path:
    """Write the page of an experiment straight from its records; return its folder.

    Raises:
        UserError: no such experiment, or one without records.
    """
    return write_page(
        page_of_records(store.records(name), name=name, title=title, store=store, curves=curves),
        out / slug(name),
    )


def write_index(out: Path) -> Path:
    """Write OUT/index.html over every page in OUT, by name, and the documentation where it is there; return it."""
    summaries = [_summary(path) for path in sorted(out.glob(f"*/{SUMMARY}"))]
    documentation = DOCUMENTATION if (out / DOCUMENTATION).is_file() else ""
    write_page({HTML: index_page(summaries, documentation)}, out)
    return out / HTML


def _summary(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; build that page again or remove its folder") from None
    return {**found, "folder": path.parent.name}


__all__ = ["build_boards", "build_experiment", "write_index"]
