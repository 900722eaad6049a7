"""A submission: the entry of one strategy for one board, with who made it and the digest of every file.

    FOLDER/submission.yaml                 who, what, for which board, SHA-256 of every other file
    FOLDER/entry.yaml                      as on a board: configuration, code digest, environments, one row
    per cell FOLDER/predictions/SCENARIO--seed-K.npz
    FOLDER/strategy.py                     the strategy's source, where it is a file

It is made by publishing the strategy as a board of its own, so every figure is recomputed here as it will be
at the gate. Nothing in it
names the machine: files go by their bare names, and reasons of failures lose their folders.
"""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.code.imports import OURS, beside, statements
from harness.contracts import Status
from harness.errors import UserError
from harness.execution.plan import plan
from harness.places import home_folder
from harness.plugins import Plugin
from harness.protocol.cells import Cell, cells, contenders, protocols
from harness.protocol.yaml_files import read_yaml
from harness.store.mlflow_store import Store
from leaderboards.publishing.board import (
    ENTRY,
    SOURCE,
    BoardCell,
    BoardProtocol,
    Entry,
    Header,
    read_entry,
    read_header,
    slug,
    yaml_text,
)
from leaderboards.publishing.metadata import (
    SUBMISSION,
    Metadata,
    Submission,
    parsed,
    read_content,
    read_submission,
    sha256,
)
from leaderboards.publishing.publish import publish

_ABSOLUTE = re.compile(r"(?<![\w.])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'\":,;]+[/\\])+")


def submit(strategy: str, board: Path, metadata: Metadata, store: Store, folder: Path) -> Path:
    """Write the submission of `strategy` for the board in folder `board` to `folder`, which must not be there
    yet.

    Raises:
        UserError: cells that have not run, with the command that runs them; a strategy that is neither one file
            nor this project's; a board that this installation
            deals otherwise; whatever `publish` refuses; something that would name this machine.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already; remove it or choose another --out")
    header = read_header(board)
    todo = _cells(strategy, header)
    _check_all_ran(todo, store, header)
    suite = header.suite.model_copy(update={"strategies": (todo[0].contender.label,)})
    with tempfile.TemporaryDirectory() as scratch:
        made = publish("submission", suite, todo, store, Path(scratch))
        (source,) = (made / "entries").iterdir()
        entry = _anonymous(read_entry(source / ENTRY))
        (source / ENTRY).write_text(yaml_text(entry), encoding="utf-8", newline="\n")
        files = {
            path.relative_to(source).as_posix(): sha256(path)
            for path in sorted(source.rglob("*"))
            if path.is_file()
        }
        content = Submission(**metadata.model_dump(), board=header.name, board_hash=header.hash, files=files)
        (source / SUBMISSION).write_text(yaml_text(content), encoding="utf-8", newline="\n")
        _check_anonymous(source)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, folder)
    return folder


def read_metadata(path: Path | None, said: dict[str, Any]) -> Metadata:
    """Return the metadata of a YAML file, overridden by what was `said` (values that are None or empty count
    as not said).
    """
    content: Any = {}
    if path is not None:
        content = read_yaml(path, repr(str(path)), as_text=True)
        if not isinstance(content, dict):
            raise UserError(f"{str(path)!r} should hold the keys {', '.join(Metadata.model_fields)}")
    return parsed(Metadata, content | {name: value for name, value in said.items() if value}, "the metadata")


def submitted_file(cell: BoardCell) -> str:
    """Return the name of a cell's predictions, relative to the submission."""
    return f"predictions/{slug(cell.scenario)}--seed-{cell.seed}.npz"


def without_folders(text: str) -> str:
    """Return `text` with paths cut down to the names of their files.

    >>> without_folders("no file '/home/me/data/digits.csv' (mine.py:3)")
    "no file 'digits.csv' (mine.py:3)"
    """
    return _ABSOLUTE.sub("", text)


def _cells(strategy: str, header: Header) -> list[Cell]:
    found = contenders([strategy])
    if len(found) != 1:
        raise UserError(
            f"{strategy!r} stands for {len(found)} alternatives; a submission is one configuration"
        )
    _check_gate_can_import(found[0].plugin)
    here = protocols(header.suite.scenarios)
    stale = [
        mine.label
        for mine, theirs in zip(here, header.protocols, strict=True)
        if BoardProtocol.of(mine) != theirs
    ]
    if stale:
        raise UserError(
            f"board {header.name!r} was dealt otherwise than this installation deals {', '.join(stale)}: "
            "install its version"
        )
    return cells(here, found, header.suite.seeds)


def _check_gate_can_import(plugin: Plugin) -> None:
    """A submission is one file or a strategy of this project: whatever else it needs, the gate has not."""
    if plugin.source is None:
        package = plugin.cls.__module__.partition(".")[0]
        if package not in OURS:
            raise UserError(
                f"{plugin.name} is installed from {package}, which the gate has not: hand it in as one file, "
                "FILE.py:Class"
            )
        return
    for node in ast.walk(ast.parse(plugin.source)):
        for one in statements([node]) if isinstance(node, ast.stmt) else ():
            name = one.module.partition(".")[0]
            if one.level or (name and beside(plugin.folder, name)):
                raise UserError(
                    f"{Path(plugin.name.rpartition(':')[0]).name} imports {name or one.item} from beside it, and a "
                    "submission is one file: put what it needs into that file"
                )


def _check_all_ran(todo: Sequence[Cell], store: Store, header: Header) -> None:
    missing = [cell for cell in plan(todo, store).open if not _ended(store, cell.key)]
    if missing:
        suite, label = header.suite, todo[0].contender.label
        scenarios = " ".join(
            f"-s {shlex.quote(text)}" for text in dict.fromkeys(cell.protocol.label for cell in missing)
        )
        limits = f"--timeout {suite.timeout_s:g} --memory {suite.memory_mib}"
        raise UserError(
            f"{len(missing)} of {len(todo)} cells have not run; run them with: "
            f"owb run {shlex.quote(label)} {scenarios} --seeds {suite.seeds} --no-bounds {limits}"
        )


def _ended(store: Store, key: str) -> bool:
    """Say whether a cell failed for good: such a cell is a row with its status."""
    try:
        return store.by_key(key).status not in (Status.QUEUED, Status.RUNNING)
    except UserError:
        return False


def _anonymous(entry: Entry) -> Entry:
    """Name a strategy's file without its folder, and take folders out of the reasons of failures."""
    rows = tuple(cell.model_copy(update={"reason": without_folders(cell.reason)}) for cell in entry.cells)
    bare = {"label": entry.label, "strategy": entry.strategy}
    if ".py:" in entry.strategy:
        path = entry.strategy.rpartition(":")[0]
        bare = {name: text.replace(path, Path(path).name, 1) for name, text in bare.items()}
    return entry.model_copy(update={**bare, "cells": rows})


def _check_anonymous(folder: Path) -> None:
    home = str(home_folder() or "")
    for name in (SUBMISSION, ENTRY, SOURCE):
        path = folder / name
        if len(home) > 1 and path.is_file() and home in path.read_text(encoding="utf-8"):
            raise UserError(
                f"{name} would name your home folder {home}: give paths relative to the working folder"
            )


__all__ = [
    "SUBMISSION",
    "Metadata",
    "Submission",
    "parsed",
    "read_content",
    "read_metadata",
    "read_submission",
    "sha256",
    "submit",
    "submitted_file",
    "without_folders",
]
