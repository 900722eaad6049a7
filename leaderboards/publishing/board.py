"""A board folder as typed content: what was compared (`protocol.yaml`) and what came of it
(`entries/*/entry.yaml`).

    NAME/protocol.yaml                                   suite, protocols, hashes; `owb run` reads the suite
    in it NAME/entries/STRATEGY/entry.yaml                     one strategy: configuration, code digest,
    environment, one row per cell NAME/entries/STRATEGY/predictions/SCENARIO--seed-K.npz
    NAME/entries/STRATEGY/strategy.py                    its source, where it was run from a file
    NAME/entries/STRATEGY/submission.yaml                who handed it in, where it came as a submission
    NAME/accepted.yaml                                   the submissions that were accepted, and when
    NAME/README.md, NAME/board.csv                       rendered from the above, never edited

Folder names are made from labels (`slug`). Everything is read as data: YAML without tags, arrays without
pickle.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_serializer,
    model_serializer,
)

from harness.contracts import Metric, Scenario, Status
from harness.errors import UserError
from harness.protocol import fingerprint
from harness.protocol.cells import Protocol, Suite
from harness.protocol.yaml_files import read_yaml
from harness.results.printable import unprintable
from harness.results.ranking import Ranking, rank
from harness.store.record import Record
from leaderboards.publishing.accepted import Accepted, read_accepted
from leaderboards.publishing.metadata import SUBMISSION, Submission, read_submission

PROTOCOL, ENTRY, README, CSV, SOURCE = "protocol.yaml", "entry.yaml", "README.md", "board.csv", "strategy.py"
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_LONGEST_SLUG = 80
LONGEST_REASON = 300
_Model = TypeVar("_Model", bound=BaseModel)

Counted = Annotated[int, Field(ge=0)]
Cost = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(max_length=1000)]


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BoardProtocol(_Content):
    """One protocol of the board; `content` is what its hash is taken over."""

    label: str
    hash: str
    metrics: tuple[Metric, ...]
    lower_bound: str
    upper_bound: str
    content: dict[str, Any]

    @field_serializer("metrics")
    def _serialised(self, metrics: tuple[Metric, ...]) -> list[dict[str, Any]]:
        """Leave out what a metric is not, so that boards without censored metrics keep their hash."""
        return [
            {name: value for name, value in asdict(metric).items() if name != "censored" or value}
            for metric in metrics
        ]

    @classmethod
    def of(cls, protocol: Protocol) -> Self:
        """Return what a board says of `protocol`."""
        scenario = protocol.scenario
        bounds = {"lower_bound": scenario.lower_bound, "upper_bound": scenario.upper_bound}
        return cls(
            label=protocol.label,
            hash=protocol.hash,
            metrics=scenario.metrics,
            content=protocol.content,
            **bounds,
        )

    def scenario(self) -> Scenario:
        """Return the scenario with the configuration on the board.

        Raises:
            UserError: not installed.
        """
        from harness.plugins import find

        found: Scenario = find("scenario", self.content["scenario"]).cls(**self.content["config"])
        return found


class Header(_Content):
    """What is compared: the content of `protocol.yaml`."""

    version: Literal[1] = 1
    name: str
    hash: str
    suite: Suite
    protocols: tuple[BoardProtocol, ...]


class BoardCell(_Content):
    """One cell: how it ended, and what was recomputed from its predictions.

    environment: counts the entry's environments.  together: how many cells learned at once; `seconds` is then
    an equal share.
    session: the run and machine that the cost was measured in; empty where it is not known.
    """

    scenario: Name
    seed: Counted
    status: Status
    reason: Annotated[str, Field(max_length=LONGEST_REASON)] = ""
    key: Annotated[str, Field(max_length=64)]
    digest: Annotated[str, Field(max_length=64)] = ""
    metrics: dict[Name, float] = {}
    seconds: Cost | None = None
    peak_mib: Cost | None = None
    environment: Counted
    together: Annotated[int, Field(ge=1)] = 1
    session: Annotated[str, Field(max_length=64)] = ""

    @model_serializer(mode="wrap")
    def _serialised(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out that a cell learned alone, as nearly all do, and a session that is not known."""
        usual = {"together": 1, "session": ""}
        return {name: value for name, value in handler(self).items() if value != usual.get(name)}


class Entry(_Content):
    """One strategy: the content of `entry.yaml`. `code` is the digest of what it ran."""

    label: Name
    strategy: Name
    params: dict[Name, Any]
    code: Annotated[str, Field(max_length=64)]
    environments: tuple[dict[str, Any], ...]
    cells: tuple[BoardCell, ...]

    @property
    def done(self) -> list[BoardCell]:
        """The cells that have predictions."""
        return [cell for cell in self.cells if cell.status is Status.DONE]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A whole board. Made by `publish` or `read_board`.

    accepted: the submissions that it took in.  submissions: what each of them says, by the label of its entry.
    """

    header: Header
    entries: tuple[Entry, ...]
    accepted: Accepted = field(default_factory=Accepted)
    submissions: Mapping[str, Submission] = field(default_factory=dict)

    def records(self, protocol: BoardProtocol) -> list[Record]:
        """Return the cells of a protocol, entry by entry."""
        return [
            _record(protocol, entry, cell)
            for entry in self.entries
            for cell in entry.cells
            if cell.scenario == protocol.label
        ]

    def rankings(self) -> list[Ranking]:
        """Return one ranking per protocol, in the order of the suite."""
        found = []
        for protocol in self.header.protocols:
            if records := self.records(protocol):
                found.append(
                    rank(
                        records,
                        metrics=protocol.metrics,
                        lower_bound=protocol.lower_bound,
                        upper_bound=protocol.upper_bound,
                    )
                )
        return found


def read_board(folder: Path) -> Board:
    """Read a board folder.

    Raises:
        UserError: a file that is missing or does not hold what it should; `check_board` lists all problems
        instead.
    """
    header = read_header(folder)
    entries = tuple(read_entry(path) for path in entry_files(folder))
    return Board(
        header=header,
        entries=entries,
        accepted=read_accepted(folder),
        submissions=read_submissions(folder, entries),
    )


def read_header(folder: Path) -> Header:
    """Read `protocol.yaml` of a board folder."""
    return _read(folder / PROTOCOL, Header)


def read_entry(path: Path) -> Entry:
    """Read an `entry.yaml`."""
    return _read(path, Entry)


def read_submissions(folder: Path, entries: Iterable[Entry]) -> dict[str, Submission]:
    """Return what the submissions among the entries of a board folder say, by label."""
    labels = [entry.label for entry in entries if (folder / entry_folder(entry.label) / SUBMISSION).exists()]
    return {label: read_submission(folder / entry_folder(label)) for label in labels}


def entry_files(folder: Path) -> list[Path]:
    """Return the `entry.yaml` of every entry, by folder name."""
    return sorted((folder / "entries").glob(f"*/{ENTRY}"))


def board_hash(suite: Suite, protocols: Iterable[BoardProtocol]) -> str:
    """Return the digest of what makes figures comparable: protocols, metrics, bounds, seeds and limits.

    The strategies are left out, so that an entry that joins does not make a new board.
    """
    rules = [
        protocol.model_dump(mode="json", include={"hash", "metrics", "lower_bound", "upper_bound"})
        for protocol in protocols
    ]
    limits = suite.model_dump(mode="json", include={"seeds", "timeout_s", "memory_mib"})
    return fingerprint.of_value({"protocols": rules, **limits})


def cell_key(protocol: BoardProtocol, entry: Entry, cell: BoardCell) -> str:
    """Return the key that `harness.protocol.cells.Cell` gives this cell under the libraries that the entry
    names.
    """
    return fingerprint.of_value(
        {
            "protocol": protocol.hash,
            "strategy": entry.strategy.rpartition("/")[2],
            "params": entry.params,
            "seed": cell.seed,
            "code": entry.code,
            "libraries": entry.environments[cell.environment].get("libraries", {}),
        }
    )


def predictions_file(entry: Entry, cell: BoardCell) -> Path:
    """Return where a cell's predictions lie, relative to the board folder."""
    return entry_folder(entry.label) / "predictions" / f"{slug(cell.scenario)}--seed-{cell.seed}.npz"


def entry_folder(label: str) -> Path:
    """Return the folder of a strategy, relative to the board folder."""
    return Path("entries") / slug(label)


def slug(label: str) -> str:
    """Return a folder name for `label`: small letters, digits, dot and hyphen; different for different labels
    on every system.

    A label that is no folder name as it stands gets six digits of its digest.

    >>> slug("fine-tune"), slug("replay[memory=50]")
    ('fine-tune', 'replay-memory-50-995081')
    """
    plain = re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-.")[:_LONGEST_SLUG].strip("-.")
    if plain == label and not _RESERVED.fullmatch(plain):
        return plain
    return f"{plain}-{hashlib.sha256(label.encode()).hexdigest()[:6]}".lstrip("-")


def yaml_text(content: BaseModel) -> str:
    """Return `content` as YAML, fields in the order of the model, short leaves on one line."""
    return yaml.safe_dump(
        content.model_dump(mode="json"),
        sort_keys=False,
        allow_unicode=True,
        width=140,
        default_flow_style=None,
    )


def _read(path: Path, model: type[_Model]) -> _Model:
    where = "/".join(path.parts[-3:] if path.name == ENTRY else path.parts[-2:])
    content = read_yaml(path, where)
    if problem := next(unprintable(content), ""):
        raise UserError(f"{where}: {problem}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, p['loc'])) or 'content'}: {p['msg'].lower()}" for p in error.errors()[:5]
        )
        raise UserError(f"{where}: {problems}") from None


def _record(protocol: BoardProtocol, entry: Entry, cell: BoardCell) -> Record:
    return Record(
        key=cell.key,
        run_id="",
        protocol_hash=protocol.hash,
        scenario=cell.scenario,
        strategy=entry.label,
        seed=cell.seed,
        status=cell.status,
        reason=cell.reason,
        metrics=cell.metrics,
        digest=cell.digest,
        seconds=math.nan if cell.seconds is None else cell.seconds,
        peak_mib=math.nan if cell.peak_mib is None else cell.peak_mib,
        together=cell.together,
        session=cell.session,
        environment=fingerprint.of_value(entry.environments[cell.environment]),
    )


__all__ = [
    "LONGEST_REASON",
    "Board",
    "BoardCell",
    "BoardProtocol",
    "Entry",
    "Header",
    "board_hash",
    "cell_key",
    "entry_files",
    "entry_folder",
    "predictions_file",
    "read_board",
    "read_entry",
    "read_header",
    "read_submissions",
    "slug",
    "yaml_text",
]
