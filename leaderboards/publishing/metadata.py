"""What a submission says of itself: who made it, of what version, for which board, with the digest of every
file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from harness.errors import UserError
from harness.protocol import fingerprint
from harness.protocol.yaml_files import read_yaml
from harness.results.printable import unprintable

SUBMISSION = "submission.yaml"
_Model = TypeVar("_Model", bound=BaseModel)

FileName = Annotated[str, Field(pattern=r"^(entry\.yaml|strategy\.py|predictions/[a-z0-9][a-z0-9.-]*\.npz)$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Line = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f]+$")]


class Content(BaseModel):
    """What a file holds: fixed, without keys that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Metadata(Content):
    """What only the author can say.

    reference: a paper, a repository, or "none".  licence: of the code.  revision: counts what was handed in
    under this name; a board takes a higher one in place of the one that it has.
    """

    name: Line
    authors: tuple[Line, ...] = Field(min_length=1, max_length=100)
    method: Line
    reference: Line = "none"
    licence: Line
    revision: Annotated[int, Field(ge=1, le=1_000_000)] = 1

    @model_serializer(mode="wrap")
    def _said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the first revision, which most are."""
        return {name: value for name, value in handler(self).items() if (name, value) != ("revision", 1)}


class Submission(Metadata):
    """The content of `submission.yaml`. files: SHA-256 of every other file of the folder."""

    version: Literal[1] = 1
    board: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    board_hash: Sha256
    files: dict[FileName, Sha256]

    @property
    def digest(self) -> str:
        """Digest of the whole submission: all that is said, and through `files` all that is handed in."""
        return fingerprint.of_value(self.model_dump(mode="json"))


def read_submission(folder: Path) -> Submission:
    """Read `submission.yaml` of a folder whose form is right."""
    return read_content(folder / SUBMISSION, Submission)


def read_content(path: Path, model: type[_Model]) -> _Model:
    """Read a YAML file of a submission as `model`; messages name the file alone, never where it lies."""
    return parsed(model, read_yaml(path, path.name), path.name)


def parsed(model: type[_Model], content: Any, what: str) -> _Model:
    """Return `content` as `model`; raise `UserError` that names every problem."""
    if problems := "; ".join(unprintable(content)):
        raise UserError(f"{what}: {problems}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, p['loc'])) or 'content'}: {p['msg'].lower()}" for p in error.errors()
        )
        raise UserError(f"{what}: {problems}") from None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


__all__ = [
    "SUBMISSION",
    "Content",
    "Line",
    "Metadata",
    "Sha256",
    "Submission",
    "parsed",
    "read_content",
    "read_submission",
    "sha256",
]
