"""Publishing a board: the records of a suite become a folder that anybody can check.

Every figure is recomputed from the stored predictions; the folder is written whole and replaces an earlier
one; the same records give the same bytes. `leaderboards.publishing.board` says what is in the folder,
`leaderboards.publishing.check` how it is checked.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from os import getpid
from pathlib import Path
from typing import Any

from harness.contracts import Status
from harness.errors import UserError
from harness.protocol.cells import Cell, Contender, Suite
from harness.results.printable import printable
from harness.store.mlflow_store import Store
from harness.store.record import Record
from leaderboards.publishing.accepted import ACCEPTED
from leaderboards.publishing.board import (
    ENTRY,
    LONGEST_REASON,
    PROTOCOL,
    SOURCE,
    Board,
    BoardCell,
    BoardProtocol,
    Entry,
    Header,
    board_hash,
    entry_folder,
    predictions_file,
    read_board,
    slug,
    yaml_text,
)
from leaderboards.publishing.check import check_board
from leaderboards.publishing.readme import rendered
from leaderboards.publishing.rescore import EvalSet, differences, eval_set_of, rescore

LIMIT_MB = 16.0
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_MOST_NAMED = 5


def publish(name: str, suite: Suite, cells: Sequence[Cell], store: Store, root: Path) -> Path:
    """Write the board `name` below `root` from the records of `cells`, replacing an earlier one; return its
    folder.

    Raises:
        UserError: a scenario that no board takes, cells that have not run, a recorded figure that its
            predictions do not give, a board above `LIMIT_MB`, an earlier one with accepted submissions.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} cannot name a board: small letters, digits, dot, hyphen and underscore, beginning "
            "with a letter or digit"
        )
    if not cells:
        raise UserError(f"board {name!r} would have no cells")
    for protocol in {cell.protocol.hash: cell.protocol for cell in cells}.values():
        if reason := protocol.scenario.board_exclusion_reason():
            raise UserError(f"{protocol.label} cannot stand on a board: {reason}")
    if (root / name / ACCEPTED).exists():
        raise UserError(
            f"board {name!r} holds accepted submissions, which are in no store; published anew it would lose "
            f"them: remove {root / name} first, and accept them again"
        )
    records = _records(cells, store)
    board = _board(name, suite, cells, records, store)
    folder, temporary = root / name, root / f".{name}.{getpid()}.tmp"
    try:
        _write(board, cells, records, store, temporary)
        check_size(name, temporary)
        replace_folder(folder, temporary)
    except OSError as error:
        raise UserError(f"cannot write board {str(folder)!r}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def render(folder: Path) -> None:
    """Write `README.md` and `board.csv` of a board folder anew from its entries."""
    board = read_board(folder)
    for name, text in rendered(board).items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _records(cells: Sequence[Cell], store: Store) -> dict[str, Record]:
    """Return the finished record of every cell, else its newest one."""
    found = store.finished({cell.protocol.hash for cell in cells})
    open_cells = []
    for cell in cells:
        if cell.key not in found:
            record = _newest(store, cell.key)
            if record is None or record.status in (Status.QUEUED, Status.RUNNING):
                open_cells.append(cell)
            else:
                found[cell.key] = record
    if open_cells:
        raise UserError(
            f"{len(open_cells)} of {len(cells)} cells have not run: {_some(map(str, open_cells))}; run the suite first"
        )
    if mixed := [cell for cell in cells if found[cell.key].mixed]:
        raise UserError(
            f"{len(mixed)} of {len(cells)} cells ran with other libraries than their keys name: "
            f"{_some(map(str, mixed))}; run the suite without --mixed"
        )
    return {cell.key: found[cell.key] for cell in cells}


def _newest(store: Store, key: str) -> Record | None:
    try:
        return store.by_key(key)
    except UserError:
        return None


def _board(
    name: str, suite: Suite, cells: Sequence[Cell], records: Mapping[str, Record], store: Store
) -> Board:
    metrics = _recomputed(cells, records, store)
    by_label: dict[str, list[Cell]] = {}
    for cell in cells:
        by_label.setdefault(cell.contender.label, []).append(cell)
    entries = [_entry(own[0].contender, own, records, metrics, store) for own in by_label.values()]
    protocols = [
        BoardProtocol.of(protocol)
        for protocol in {cell.protocol.label: cell.protocol for cell in cells}.values()
    ]
    header = Header(name=name, hash=board_hash(suite, protocols), suite=suite, protocols=tuple(protocols))
    return Board(header=header, entries=tuple(sorted(entries, key=lambda entry: slug(entry.label))))


def _recomputed(
    cells: Sequence[Cell], records: Mapping[str, Record], store: Store
) -> dict[str, Mapping[str, float]]:
    """Return the figures of every done cell by key; one deal at a time is held."""
    found: dict[str, Mapping[str, float]] = {}
    wrong: list[str] = []
    for (_, seed), group in _by_deal(cells).items():
        eval_set: EvalSet | None = None
        for cell in group:
            record = records[cell.key]
            if record.status is not Status.DONE:
                continue
            eval_set = eval_set or eval_set_of(cell.protocol.scenario, seed)
            rescored = rescore(eval_set, store.predictions(record))
            problems = [] if rescored.digest == record.digest else ["its predictions are not those recorded"]
            problems += rescored.problems or differences(record.metrics, rescored.metrics)
            wrong += [f"{cell}: {problem}" for problem in problems]
            found[cell.key] = rescored.metrics
    if wrong:
        raise UserError(
            f"not published, because records and predictions disagree: {_some(wrong)}; "
            "if scoring changed since they were recorded, run them into a new store"
        )
    return found


def _by_deal(cells: Iterable[Cell]) -> dict[tuple[str, int], list[Cell]]:
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.protocol.hash, cell.seed), []).append(cell)
    return groups


def _entry(
    contender: Contender,
    cells: Sequence[Cell],
    records: Mapping[str, Record],
    metrics: Mapping[str, Mapping[str, float]],
    store: Store,
) -> Entry:
    environments: list[dict[str, Any]] = []
    rows = []
    for cell in cells:
        record = records[cell.key]
        environment = json.loads(store.file(record, "cell.json").read_text(encoding="utf-8"))["environment"]
        if environment not in environments:
            environments.append(environment)
        rows.append(
            BoardCell(
                scenario=cell.protocol.label,
                seed=cell.seed,
                status=record.status,
                reason=printable(" ".join(record.reason.split()))[:LONGEST_REASON],
                key=cell.key,
                digest=record.digest if cell.key in metrics else "",
                metrics=dict(metrics.get(cell.key, {})),
                seconds=_rounded(record.seconds, 3),
                peak_mib=_rounded(record.peak_mib, 1),
                environment=environments.index(environment),
                together=record.together,
                session=record.session,
            )
        )
    return Entry(
        label=contender.label,
        strategy=contender.plugin.name,
        params=dict(contender.params),
        code=contender.code,
        environments=tuple(environments),
        cells=tuple(rows),
    )


def _write(
    board: Board, cells: Sequence[Cell], records: Mapping[str, Record], store: Store, folder: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / PROTOCOL).write_text(yaml_text(board.header), encoding="utf-8", newline="\n")
    sources = {cell.contender.label: cell.contender.plugin.source for cell in cells}
    for entry in board.entries:
        own = folder / entry_folder(entry.label)
        own.mkdir(parents=True)
        (own / ENTRY).write_text(yaml_text(entry), encoding="utf-8", newline="\n")
        source = sources[entry.label]
        if source is not None:
            (own / SOURCE).write_text(source, encoding="utf-8", newline="\n")
        for cell in entry.done:
            target = folder / predictions_file(entry, cell)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(store.predictions(records[cell.key]), target)
    for name, text in rendered(board).items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def check_size(name: str, folder: Path) -> None:
    """Raise `UserError` where the files of a board take more than `LIMIT_MB`, with the largest of them."""
    sizes = {
        path.relative_to(folder).as_posix(): path.stat().st_size / 1e6
        for path in folder.rglob("*")
        if path.is_file()
    }
    total = sum(sizes.values())
    if total > LIMIT_MB:
        largest = sorted(sizes, key=lambda path: (-sizes[path], path))[:_MOST_NAMED]
        named = ", ".join(f"{path} {sizes[path]:.1f} MB" for path in largest)
        raise UserError(
            f"board {name!r} would take {total:.1f} MB, more than {LIMIT_MB:.0f}; largest: {named}"
        )


def replace_folder(folder: Path, new: Path) -> None:
    """Put `new` in the place of `folder`, on the same disk; an earlier one is moved away first, because a full
    folder cannot be renamed over.
    """
    earlier = folder.with_name(f".{folder.name}.{getpid()}.old")
    if folder.exists():
        folder.rename(earlier)
    try:
        new.rename(folder)
    except OSError:
        if earlier.exists():
            earlier.rename(folder)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def _rounded(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None


def _some(texts: Iterable[str]) -> str:
    every = list(texts)
    rest = len(every) - _MOST_NAMED
    return "; ".join(every[:_MOST_NAMED]) + (f"; and {rest} more" if rest > 0 else "")


__all__ = ["LIMIT_MB", "check_board", "check_size", "publish", "read_board", "render", "replace_folder"]
