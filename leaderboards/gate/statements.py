"""What an entry states of itself and nothing can recompute: held to what could be true, key by key.

A version is believed where it is one, is not older than this project can use, and is not of a later major
release than the next.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError

from harness.contracts import Precision
from harness.protocol.fingerprint import LIBRARIES
from leaderboards.publishing.board import Entry

LARGEST_PARAMS = 16 << 10
"""Bytes of the resolved configuration as JSON."""
_PROJECT = "openworld-bench"
_PYTHON = ((3, 11), 3)
"""The first release that this project runs on, and the last major one."""
_ALWAYS = ("torch", "numpy")
_VERSION = re.compile(
    r"(?P<release>\d{1,8}(?:\.\d{1,8}){0,4})(?:(?:a|b|rc)\d{1,4})?(?:\.(?:post|dev)\d{1,8})?(?:\+[a-z0-9.]{1,20})?"
)
_NEEDED = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^]]*\])?\s*>=\s*(\d+(?:\.\d+)*)")

Word = Annotated[str, Field(max_length=100)]


class _Environment(BaseModel):
    """What `harness.execution.environment` writes, no more."""

    model_config = ConfigDict(extra="forbid")

    python: Word
    system: Word
    machine: Word
    processor: Word = ""
    cores: Annotated[StrictInt, Field(ge=1, le=65536)] | None
    threads_per_worker: Annotated[StrictInt, Field(ge=1, le=1024)]
    libraries: dict[Literal[LIBRARIES], Word]  # type: ignore[valid-type]
    device: Word = "cpu"
    precision: Precision = "float32"
    compile: StrictBool = False


class _Believed(NamedTuple):
    """From which release on, and up to which major one."""

    first: tuple[int, ...]
    last: int


def statements(entry: Entry) -> Iterator[str]:
    """Say what an entry states that cannot be true."""
    used = {cell.environment for cell in entry.cells}
    yield from (
        f"environments.{place}: is the environment of no cell"
        for place in range(len(entry.environments))
        if place not in used
    )
    for place, stated in enumerate(entry.environments):
        if place in used:
            yield from (f"environments.{place}.{problem}" for problem in _environment(stated))
    size = len(json.dumps(entry.params).encode())
    if size > LARGEST_PARAMS:
        yield f"params: takes {size} bytes, more than {LARGEST_PARAMS}"


def _environment(stated: Mapping[str, object]) -> Iterator[str]:
    try:
        held = _Environment.model_validate(stated)
    except ValidationError as error:
        yield from (
            f"{'.'.join(str(part)[:100] for part in problem['loc'])}: {problem['msg'].lower()}"
            for problem in error.errors()[:5]
        )
        return
    yield from _version("python", held.python, _Believed(*_PYTHON))
    for name, said in held.libraries.items():
        yield from _version(f"libraries.{name}", said, _believed(name))
    yield from (f"libraries.{name}: is missing" for name in _ALWAYS if name not in held.libraries)


def _version(key: str, said: str, believed: _Believed) -> Iterator[str]:
    found = _VERSION.fullmatch(said)
    if found is None:
        yield f"{key}: {said!r} is no version"
        return
    release = tuple(map(int, found["release"].split(".")))
    if release < believed.first or release[0] > believed.last:
        first = ".".join(map(str, believed.first))
        yield f"{key}: version {said} is not one of {first} to {believed.last}.*, which this project knows"


@cache
def _believed(library: str) -> _Believed:
    """Return the releases from the one that the project requires to the major one after the installed."""
    needed = [found for text in requires(_PROJECT) or () if (found := _NEEDED.match(text))]
    first = next((tuple(map(int, found[2].split("."))) for found in needed if found[1] == library), (0,))
    try:
        installed = int(version(library).partition(".")[0])
    except PackageNotFoundError:
        installed = first[0]
    return _Believed(first, installed + 1)


__all__ = ["LARGEST_PARAMS", "statements"]
