"""YAML files, read as a person means them: a key that is said twice is refused, and no scalar is more than it
looks like.

YAML 1.1 takes `yes` and `off` for truth values, `010` for 8, `1:30` for 90 and `2024-01-01` for a date; here
they are text. Numbers are decimal, truth values `true` and `false`. Nothing but plain values is made,
whatever the tags of a file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from harness.errors import UserError

_LONGEST = 200
_NULL = (re.compile(r"(?:~|null|)\Z"), ["~", "n", ""])
_MERGE = (re.compile(r"<<\Z"), ["<"])
_SCALARS = {
    "bool": (re.compile(r"(?:true|false)\Z"), ["t", "f"]),
    "int": (re.compile(r"-?(?:0|[1-9][0-9]*)\Z"), [*"-0123456789"]),
    "float": (
        re.compile(r"(?:-?(?:0|[1-9][0-9]*)\.[0-9]*(?:e[-+][0-9]+)?|-?\.inf|\.nan)\Z"),
        [*"-.0123456789"],
    ),
}


class DuplicateKeyError(Exception):
    """A mapping has a key twice."""


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # ten times faster
    """Reads scalars as said above."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def construct_document(self, node: Any) -> Any:
        """Return the content of a document; raise `DuplicateKeyError` where a mapping in it has a key twice."""
        waiting, seen = [node], {id(node)}
        while waiting:
            here = waiting.pop()
            pairs = here.value if isinstance(here, yaml.MappingNode) else []
            _check_keys([key for key, _ in pairs])
            inside = (
                [part for pair in pairs for part in pair]
                if pairs
                else here.value
                if isinstance(here, yaml.SequenceNode)
                else []
            )
            waiting += [
                part for part in inside if id(part) not in seen
            ]  # an alias is the node that it stands for
            seen.update(map(id, inside))
        return super().construct_document(node)


class _TextLoader(Loader):
    """Leaves numbers and truth values to the model that they are read into: what is text there keeps its
    zeros.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


for _loader in (Loader, _TextLoader):
    for _tag, _resolver in {
        "null": _NULL,
        "merge": _MERGE,
        **(_SCALARS if _loader is Loader else {}),
    }.items():
        _loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", *_resolver)


def read_yaml(path: Path, what: str, *, as_text: bool = False) -> Any:
    """Return the content of a YAML file.

    Args:
        path: of the file.
        what: how messages call it.
        as_text: leave every scalar but null as the text that it is, for a model that knows which are numbers.

    Raises:
        UserError: it cannot be read, is not YAML, or says a key twice.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_TextLoader if as_text else Loader)  # noqa: S506  (both are safe)
    except DuplicateKeyError as error:
        raise UserError(f"{what} {error}") from None
    except OSError as error:
        raise UserError(f"cannot read {what}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {what}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{what} is not YAML: {_problem(error)}") from None


def _check_keys(keys: Sequence[Any]) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key in keys:
        if not isinstance(key, yaml.ScalarNode):
            continue
        found, line = (key.tag, key.value), key.start_mark.line + 1
        if found in lines:
            where = f"line {line}" if lines[found] == line else f"lines {lines[found]} and {line}"
            raise DuplicateKeyError(f"says {key.value[:_LONGEST]!r} twice, in {where}")
        lines[found] = line


def _problem(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
        return f"{error.problem[:_LONGEST]} in line {error.problem_mark.line + 1}"
    return " ".join(str(error).split())[:_LONGEST]


__all__ = ["Loader", "read_yaml"]
