"""Checking a committed board: nothing in the folder is trusted that can be recomputed, and all problems are
said at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from harness.contracts import Status
from harness.errors import UserError
from harness.plugins import is_by_path
from harness.protocol.cells import Protocol
from harness.selection import expand
from leaderboards.publishing.accepted import ACCEPTED, read_accepted
from leaderboards.publishing.board import (
    CSV,
    ENTRY,
    PROTOCOL,
    README,
    SOURCE,
    Board,
    BoardCell,
    BoardProtocol,
    Entry,
    Header,
    board_hash,
    cell_key,
    entry_files,
    entry_folder,
    predictions_file,
    read_entry,
    read_header,
    read_submissions,
    slug,
)
from leaderboards.publishing.metadata import SUBMISSION, sha256
from leaderboards.publishing.readme import rendered
from leaderboards.publishing.rescore import EvalSet, differences, eval_set_of, rescore


def check_board(folder: Path, *, seeds: Collection[int] | None = None) -> list[str]:
    """Return everything that is wrong with a board folder: form, hashes, keys, digests, figures, rendered
    files. Empty is fine.

    seeds: of cells whose digests and figures are computed again; by default all.
    """
    try:
        header = read_header(folder)
    except UserError as error:
        return [str(error)]
    entries, unreadable = _readable_entries(folder)
    board = Board(header=header, entries=tuple(entries))
    try:
        board = replace(
            board, accepted=read_accepted(folder), submissions=read_submissions(folder, board.entries)
        )
    except UserError as error:
        unreadable.append(str(error))
    form = [
        *unreadable,
        *_header_problems(header, folder),
        *_suite_problems(board),
        *_submission_problems(board, folder),
        *_stray_files(board, folder),
    ]
    figures = [
        problem
        for protocol in header.protocols
        for problem in _protocol_problems(protocol, board, folder, seeds)
    ]
    return [*form, *figures, *([] if form else _rendering_problems(board, folder))]


def _readable_entries(folder: Path) -> tuple[list[Entry], list[str]]:
    entries, problems = [], []
    for path in entry_files(folder):
        where = f"entries/{path.parent.name}"
        try:
            entry = read_entry(path)
        except UserError as error:
            problems.append(str(error))
            continue
        if path.parent.name != slug(entry.label):
            problems.append(f"{where} holds {entry.label!r}, whose folder should be {slug(entry.label)}")
        elif any(cell.environment not in range(len(entry.environments)) for cell in entry.cells):
            problems.append(f"{where}: a cell names an environment that is not there")
        else:
            entries.append(entry)
    return entries, problems


def _header_problems(header: Header, folder: Path) -> Iterator[str]:
    name = folder.resolve().name
    if header.name != name:
        yield f"{PROTOCOL} names the board {header.name!r}, its folder {name!r}"
    if header.hash != board_hash(header.suite, header.protocols):
        yield f"{PROTOCOL}: the board hash is not that of its protocols, seeds and limits"
    in_suite, held = _labels(header.suite.scenarios), _labels(protocol.label for protocol in header.protocols)
    if in_suite != held:
        yield (
            f"{PROTOCOL}: the suite names the scenarios {', '.join(in_suite)}, but the protocols are {', '.join(held)}"
        )


def _suite_problems(board: Board) -> Iterator[str]:
    """Say where the entries are not every strategy of the suite with every cell once."""
    suite = board.header.suite
    in_suite, labels = _labels(suite.strategies), _labels(entry.label for entry in board.entries)
    yield from (
        f"the suite names {label!r}, which has no readable entry" for label in in_suite if label not in labels
    )
    yield from (
        f"the suite names the probe {text!r} in a file, which nobody else has"
        for text in suite.probes
        if is_by_path(text.partition("[")[0])
    )
    yield from (f"entry {label!r} is not named in the suite" for label in labels if label not in in_suite)
    wanted = sorted(
        (protocol.label, seed) for protocol in board.header.protocols for seed in range(suite.seeds)
    )
    for entry in board.entries:
        held = sorted((cell.scenario, cell.seed) for cell in entry.cells)
        if held != wanted:
            missing = [f"{scenario} seed {seed}" for scenario, seed in wanted if (scenario, seed) not in held]
            besides = (
                f"lacks {', '.join(missing)}"
                if missing
                else "has cells twice or cells the suite does not name"
            )
            yield f"{entry.label}: {besides}"


def _submission_problems(board: Board, folder: Path) -> Iterator[str]:
    """Say where what was accepted is not what lies here, byte by byte."""
    listed = {version.label: version for version in board.accepted.current.values()}
    for label in dict.fromkeys([*listed, *board.submissions]):
        version, submission = listed.get(label), board.submissions.get(label)
        if version is None:
            yield f"{label}: it has a {SUBMISSION}, but {ACCEPTED} names no such submission"
        elif submission is None:
            yield f"{label}: {ACCEPTED} names it, but it has no {SUBMISSION}"
        elif (submission.name, submission.revision, submission.digest) != (
            version.name,
            version.revision,
            version.digest,
        ):
            yield f"{label}: its {SUBMISSION} is not the one that was accepted"
    for label, submission in board.submissions.items():
        for name, stated in submission.files.items():
            path = folder / entry_folder(label) / name
            if not path.is_file() or sha256(path) != stated:
                yield f"{label}: {name} is not the file that was handed in"


def _stray_files(board: Board, folder: Path) -> Iterator[str]:
    allowed = {PROTOCOL, README, CSV, ACCEPTED}
    for entry in board.entries:
        allowed |= {(entry_folder(entry.label) / name).as_posix() for name in (ENTRY, SOURCE, SUBMISSION)}
        allowed |= {predictions_file(entry, cell).as_posix() for cell in entry.done}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or (path.is_file() and name not in allowed):
            yield f"{name} does not belong on a board"


def _protocol_problems(
    protocol: BoardProtocol, board: Board, folder: Path, seeds: Collection[int] | None
) -> Iterator[str]:
    try:
        scenario = protocol.scenario()
        here = BoardProtocol.of(
            Protocol(label=protocol.label, scenario_name=protocol.content["scenario"], scenario=scenario)
        )
    except Exception as error:  # data that are not installed, a configuration that the scenario refuses
        yield f"{protocol.label}: cannot be dealt here: {type(error).__name__}: {error}"
        return
    changed = [name for name in BoardProtocol.model_fields if getattr(here, name) != getattr(protocol, name)]
    if changed:
        yield (
            f"{protocol.label}: its {', '.join(changed)} differ from what this installation has, so "
            "nothing can be recomputed"
        )
        return
    if reason := scenario.board_exclusion_reason():
        yield f"{protocol.label}: cannot stand on a board: {reason}"
    for seed in range(board.header.suite.seeds):
        eval_set = eval_set_of(scenario, seed) if seeds is None or seed in seeds else None
        for entry in board.entries:
            for cell in entry.cells:
                if (cell.scenario, cell.seed) == (protocol.label, seed):
                    where = f"{protocol.label} | {entry.label} | seed {seed}"
                    yield from (
                        f"{where}: {problem}"
                        for problem in _cell_problems(protocol, entry, cell, eval_set, folder)
                    )


def _cell_problems(
    protocol: BoardProtocol, entry: Entry, cell: BoardCell, eval_set: EvalSet | None, folder: Path
) -> Iterator[str]:
    if cell.key != cell_key(protocol, entry, cell):
        yield "its key is not that of its protocol, configuration, seed, code and libraries"
    if cell.status is not Status.DONE:
        if cell.metrics or cell.digest:
            yield f"ended as {cell.status}, but has figures or a digest"
        return
    if eval_set is None:
        return
    try:
        rescored = rescore(eval_set, folder / predictions_file(entry, cell))
    except UserError as error:
        yield str(error)
        return
    if rescored.digest != cell.digest:
        yield "the digest of its predictions is not the one stated"
    yield from rescored.problems or differences(cell.metrics, rescored.metrics)


def _rendering_problems(board: Board, folder: Path) -> list[str]:
    found = []
    for name, text in rendered(board).items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != text.encode():
            found.append(f"{name} is not what the entries render to")
    return found


def _labels(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(str(selection) for text in texts for selection in expand(text)))


__all__ = ["check_board"]
