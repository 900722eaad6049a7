"""Stage 0, form: nothing of a submission is read before it is known to be small, plain and inside its folder.

YAML is walked as events before an object is made of it; archives of arrays are judged by their headers
(`harness.sandbox.arrays`).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from harness.protocol.yaml_files import Loader
from harness.results.printable import unprintable
from harness.sandbox.arrays import npz_problems
from leaderboards.publishing.board import ENTRY, SOURCE
from leaderboards.publishing.submission import SUBMISSION

MOST_FILES = 1000
LARGEST = {SUBMISSION: 1 << 20, ENTRY: 4 << 20, SOURCE: 256 << 10}
LARGEST_NPZ = 20 << 20
LARGEST_FOLDER = 100 << 20
DEEPEST_YAML = 12
_LONGEST_NAME = 200
_NPZ = re.compile(r"predictions/[a-z0-9][a-z0-9.-]*\.npz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What is wrong with the form, and the files that may be read."""

    problems: tuple[str, ...]
    sound: frozenset[str]


def form(folder: Path) -> Form:
    """Look at every file of a submission without unpacking any."""
    names, problems = _files(folder)
    problems += [f"{name} is missing" for name in (SUBMISSION, ENTRY) if name not in names]
    sound = set()
    for name in names:
        found = list(_file_problems(folder / name, name))
        problems += found
        if not found:
            sound.add(name)
    return Form(problems=tuple(problems), sound=frozenset(sound))


def _files(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of regular files that a submission may hold, in order, and what else lies there."""
    names: list[str] = []
    problems: list[str] = []
    seen = total = 0
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                seen += 1
                if seen > MOST_FILES:
                    return [], [
                        f"more than {MOST_FILES} files; a submission holds one per cell and three more"
                    ]
                name = Path(entry.path).relative_to(folder).as_posix()
                found = entry.stat(follow_symlinks=False)
                if entry.is_symlink():
                    problems.append(f"{name!r} is a symbolic link; only plain files are taken")
                elif entry.is_dir(follow_symlinks=False) and name == "predictions":
                    waiting.append(Path(entry.path))
                elif not stat.S_ISREG(found.st_mode) or not _is_allowed(name):
                    problems.append(f"{name!r} does not belong in a submission")
                else:
                    names.append(name)
                    total += found.st_size
    if total > LARGEST_FOLDER:
        problems.append(f"the files take {total >> 20} MiB, more than {LARGEST_FOLDER >> 20}")
    return sorted(names), sorted(problems)


def _is_allowed(name: str) -> bool:
    return name in LARGEST or (len(name) <= _LONGEST_NAME and _NPZ.fullmatch(name) is not None)


def _file_problems(path: Path, name: str) -> Iterator[str]:
    size, largest = path.stat().st_size, LARGEST.get(name, LARGEST_NPZ)
    if size > largest:
        yield f"{name} takes {size >> 10} KiB, more than {largest >> 10}"
    elif name in LARGEST:
        yield from _text_problems(path, name)
    else:
        yield from (f"{name}: {problem}" for problem in npz_problems(path))


def _text_problems(path: Path, name: str) -> Iterator[str]:
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        yield f"{name} is not UTF-8: byte {error.start}"
        return
    if "\0" in text:
        yield f"{name} holds a null character"
        return
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        yield from unprintable(line, f"{name}: line {number}")
    if name != SOURCE:
        yield from (f"{name}: {problem}" for problem in _yaml_problems(text))


def _yaml_problems(text: str) -> Iterator[str]:
    """Walk the events, which builds no object: tags could make any, aliases could make many, depth could end
    the interpreter's stack.
    """
    depth = 0
    try:
        for event in yaml.parse(text, Loader=Loader):
            line = event.start_mark.line + 1 if event.start_mark else 0
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                yield f"line {line} has a YAML anchor or alias; say the value where it is needed"
                return
            if tag := getattr(event, "tag", None):
                yield f"line {line} has the YAML tag {tag!r}; only plain values are taken"
                return
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST_YAML:
                yield f"line {line} is nested more than {DEEPEST_YAML} deep"
                return
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        yield f"is not YAML{f', line {mark.line + 1}' if mark else ''}"


__all__ = ["Form", "form"]
