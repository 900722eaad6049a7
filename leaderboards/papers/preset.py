"""A published table, or the rows of it that share a protocol, as a suite with the figures that were
published.

One YAML file each, in this folder, is called `paper/NAME` on the command line. Its `suite` is an ordinary
one, which `owb run` takes too. Figures are under the names of our metrics, in the unit they were published
in. `certainty` says how a figure came here:

    paper        read in the paper                        readme, page   in the authors' README, or on their
    project's page derived      computed from figures of the paper       note           quoted in a third
    party's reading note of the paper secondary    quoted in a table of another paper       recalled
    from memory, and checked nowhere
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import UserError, unknown
from harness.places import below_data, data_folder
from harness.protocol.cells import Suite
from harness.protocol.smoke import smoke_of
from harness.protocol.yaml_files import read_yaml
from harness.selection import single

PREFIX = "paper/"
FOLDER = Path(__file__).parent

Certainty = Literal["paper", "derived", "readme", "page", "note", "secondary", "recalled"]
Text = Annotated[str, Field(min_length=1)]


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Tolerance(_Content):
    """How far off a mean over seeds may be, in percentage points, and why that far."""

    points: float = Field(gt=0)
    why: Text


class Ran(_Content):
    """What a whole run of the preset came to: means over seeds in per cent, by metric, and who ran it on
    what.
    """

    figures: dict[str, float] = Field(min_length=1)
    seeds: int = Field(ge=1)
    by: Text


class Row(_Content):
    """Published figures of one strategy on one scenario of the suite, both by their place in it.

    figures: metric of ours -> per cent.  spread: the published standard deviation, where there is one.
    tolerance: points for those that need others than the table's.  ours: None where nobody has run it.
    """

    scenario: int = Field(default=0, ge=0)
    strategy: int = Field(default=0, ge=0)
    case: str = ""
    cell: Text
    certainty: Certainty
    figures: dict[str, float] = Field(min_length=1)
    spread: dict[str, float] = {}
    tolerance: dict[str, float] = {}
    ours: Ran | None = None


class Weights(_Content):
    """A file of pretrained weights that the user brings; `drawn` is the network without them."""

    file: Text
    of: Text
    drawn: Text
    publisher: Text

    @property
    def path(self) -> Path | None:
        """Where it lies, None where it does not."""
        above = data_folder()
        path = above and above / "weights" / self.file
        return path if path and path.is_file() else None


class StandIn(_Content):
    """What a smoke run changes. backbone, strategies: in the place of a network whose weights are not there,
    and of strategies made for it.

    scenario: parameters that the scenarios are told besides, such as what to do where a set is smaller than
    the published one.
    """

    backbone: Text = "cnn[width=8]"
    strategies: tuple[str, ...] = ()
    scenario: dict[str, Any] = {}


class Paper(_Content):
    """What a preset holds.

    runs: how many runs the published figures are of.  followed: where paper and released code differ, and
    which is followed.
    differs: what is not as published.
    """

    title: Text
    source: Text
    data: Text
    runs: Text
    suite: Suite
    published: tuple[Row, ...] = Field(min_length=1)
    tolerance: Tolerance
    followed: tuple[Text, ...]
    differs: tuple[Text, ...]
    weights: Weights | None = None
    smoke: StandIn = StandIn()

    @model_validator(mode="after")
    def _places_exist(self) -> Self:
        for row in self.published:
            if row.scenario >= len(self.suite.scenarios) or row.strategy >= len(self.suite.strategies):
                raise ValueError(
                    f"{row.cell} is of scenario {row.scenario} and strategy {row.strategy}, which the suite has not"
                )
            ours = {*row.ours.figures} if row.ours else set()
            if stray := ({*row.spread} | {*row.tolerance} | ours) - {*row.figures}:
                raise ValueError(f"{row.cell} has no figure {min(stray)}")
        return self

    @property
    def missing(self) -> Weights | None:
        """The weights, where they are needed and not on this disk."""
        return self.weights if self.weights and self.weights.path is None else None


def names() -> tuple[str, ...]:
    """Return the names of all presets, sorted."""
    return tuple(sorted(PREFIX + path.stem for path in FOLDER.glob("*.yaml")))


def preset(name: str) -> Paper:
    """Return the preset called `paper/NAME`.

    Raises:
        UserError: no such preset, or a file that is not what a preset should be.
    """
    if name not in names():
        raise unknown("preset", name, names(), "owb run --preset list")
    return read(FOLDER / f"{name.removeprefix(PREFIX)}.yaml")


def read(path: Path) -> Paper:
    """Read a preset's file.

    Raises:
        UserError: not YAML, or a key or value that a preset does not have.
    """
    try:
        return Paper.model_validate(read_yaml(path, f"preset {path}"))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].lower()}" for problem in error.errors()
        )
        raise UserError(f"preset {path}: {problems}") from None


def tried(paper: Paper, *, small: bool) -> Suite:
    """Return the suite of a smoke run: one seed, a few items and two steps a stage; with `small`, on
    stand-ins for large networks.
    """
    scenarios = tuple(_with(text, paper.smoke.scenario) for text in paper.suite.scenarios)
    strategies = (paper.smoke.strategies if small else ()) or paper.suite.strategies
    suite = paper.suite.model_copy(
        update={"title": paper.title, "scenarios": scenarios, "strategies": strategies}
    )
    return smoke_of(suite, backbone=paper.smoke.backbone if small else "")


def without_weights(paper: Paper) -> Suite:
    """Return the suite with networks as drawn, whose cells cost what those with weights do and have other
    keys.
    """
    drawn = {"backbone": paper.weights.drawn} if paper.weights else {}
    return paper.suite.model_copy(
        update={"scenarios": tuple(_with(text, drawn) for text in paper.suite.scenarios)}
    )


def is_here(data: str) -> bool:
    """Return whether the data set of a preset lies on this disk, without reading it."""
    from harness.plugins import find
    from scenarios.datasets.by_name import ANOMALY_SOURCES

    if data in ANOMALY_SOURCES:
        return below_data(ANOMALY_SOURCES[data].folder).is_dir()
    return find("dataset", data).cls().whereabouts().folder is not None


def _with(text: str, changes: Mapping[str, Any]) -> str:
    """Return the selection `text` with further parameters."""
    return single(text).changed(**changes).as_written
