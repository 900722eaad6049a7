"""What a page says, from either source: a board folder, whose figures anybody can recompute, or the records
of an experiment.

A `Report` holds rankings as `harness.results.ranking` makes them, the protocol cards, one line per cell and
the curves; nothing in it is markup.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.contracts import Scenario, Status, StoredPrediction
from harness.errors import UserError
from harness.protocol.cells import Suite
from harness.results.ranking import Ranking, rank
from harness.store.predictions import read_answers
from leaderboards.publishing.board import Board, BoardProtocol, predictions_file, read_board
from leaderboards.publishing.readme import page
from leaderboards.site.cards import ProtocolCard, card_of_protocol, card_of_scenario
from leaderboards.site.curves import Curves, Sitting, curves_of
from leaderboards.site.feed import feed

if TYPE_CHECKING:
    from harness.store.mlflow_store import Store
    from harness.store.record import Record

MOST_SCORED = 1000
"""Cells of an experiment up to which curves are recomputed when nobody says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellLine:
    """One cell: how it ended. figure: of the primary metric, NaN where there is none.  seconds, peak_mib: NaN
    where unknown.
    """

    seed: int
    status: Status
    figure: float
    seconds: float
    peak_mib: float
    key: str
    reason: str
    together: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One protocol: its ranking, card and curves. cells: per strategy, by seed.  remark: why there are no
    curves, else empty.
    """

    ranking: Ranking
    card: ProtocolCard
    cells: Mapping[str, Sequence[CellLine]]
    curves: Curves
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything a page says.

    digest: the board's hash, empty for an experiment.  configurations: per strategy its parameters.  suite:
    what was run, for limits.
    command: runs everything again.  markdown: the page as Markdown, None where the rankings alone make it.
    feed: of the places that accepted submissions moved, empty where there were none.
    """

    name: str
    title: str
    digest: str
    sections: Sequence[Section]
    configurations: Mapping[str, Mapping[str, Any]]
    environments: Sequence[Mapping[str, Any]]
    suite: Suite | None
    command: str
    markdown: str | None = None
    feed: str = ""

    @property
    def rankings(self) -> list[Ranking]:
        """The rankings of all sections."""
        return [section.ranking for section in self.sections]

    @property
    def strategies(self) -> list[str]:
        """Every strategy once, in the order in which rankings name them."""
        return list(dict.fromkeys(row.strategy for ranking in self.rankings for row in ranking.rows))

    @property
    def lines(self) -> list[CellLine]:
        """Every cell."""
        return [line for section in self.sections for lines in section.cells.values() for line in lines]


def report_of_board(folder: Path, *, curves: bool = True) -> Report:
    """Read a board folder; with `curves`, score its predictions once more for what happened on the way.

    Raises:
        UserError: a file that is missing or does not hold what it should.
    """
    board = read_board(folder)
    header = board.header
    sections = [
        _board_section(board, protocol, ranking, folder, curves)
        for protocol, ranking in zip(header.protocols, _ranked(board), strict=True)
    ]
    environments = [environment for entry in board.entries for environment in entry.environments]
    return Report(
        name=header.name,
        title=header.suite.title or header.name,
        digest=header.hash,
        sections=sections,
        configurations={entry.label: entry.params for entry in board.entries},
        environments=_distinct(environments),
        suite=header.suite,
        command=f"owb run leaderboards/boards/{header.name}/protocol.yaml",
        markdown=page(board),
        feed=feed(board) if board.accepted.versions else "",
    )


def report_of_records(
    records: Sequence[Record],
    *,
    name: str,
    title: str = "",
    store: Store | None = None,
    curves: bool | None = None,
) -> Report:
    """Gather the records of an experiment, oldest first; what hangs on stored predictions needs the `store`
    they are in.

    Args:
        records: of one or several protocols; of several for one strategy and seed the last one counts.
        name: of the page's folder.
        title: what the page is called; `name` by default.
        store: where the predictions are.
        curves: whether they are scored once more; by default up to 1,000 cells.

    Raises:
        UserError: no records, or a scenario that is not installed.
    """
    from harness.selection import configured

    if not records:
        raise UserError(f"experiment {name!r} has no records; see: owb show")
    by_protocol: dict[str, dict[tuple[str, int], Record]] = {}
    for record in records:
        by_protocol.setdefault(record.protocol_hash, {})[record.strategy, record.seed] = record
    newest = [record for own in by_protocol.values() for record in own.values()]
    wanted = len(newest) <= MOST_SCORED if curves is None else curves
    left_out = (
        f"Curves are left out: {len(newest):,} cells, and above {MOST_SCORED:,} they are drawn only "
        "when asked for (--curves)."
    )
    sections = []
    for digest, own in by_protocol.items():
        scenario: Scenario = configured("scenario", next(reversed(own.values())).scenario)
        same = [record for record in records if record.protocol_hash == digest]
        ranking = rank(
            same,
            metrics=scenario.metrics,
            lower_bound=scenario.lower_bound,
            upper_bound=scenario.upper_bound,
            not_known=scenario.not_known,
        )
        found, remark = (
            _record_curves(own.values(), scenario, store)
            if wanted and store
            else (Curves(), left_out if store else "")
        )
        cells: dict[str, list[CellLine]] = {}
        for record in sorted(own.values(), key=lambda record: record.seed):
            cells.setdefault(record.strategy, []).append(_line(record, ranking.primary.name))
        card = card_of_scenario(ranking, scenario)
        sections.append(Section(ranking=ranking, card=card, cells=cells, curves=found, remark=remark))
    return Report(
        name=name,
        title=title or name,
        digest="",
        sections=sections,
        configurations={record.strategy: _parameters(record) for record in newest},
        environments=_environment(newest, store),
        suite=None,
        command="",
    )


def _ranked(board: Board) -> list[Ranking]:
    found = board.rankings()
    if len(found) != len(board.header.protocols):
        raise UserError(
            f"board {board.header.name!r} has protocols without a cell; see: owb board check {board.header.name}"
        )
    return found


def _board_section(
    board: Board, protocol: BoardProtocol, ranking: Ranking, folder: Path, wanted: bool
) -> Section:
    cells: dict[str, list[CellLine]] = {}
    sittings = []
    for entry in board.entries:
        own = sorted(
            (cell for cell in entry.cells if cell.scenario == protocol.label), key=lambda cell: cell.seed
        )
        for cell in own:
            line = CellLine(
                seed=cell.seed,
                status=cell.status,
                figure=cell.metrics.get(ranking.primary.name, math.nan),
                seconds=math.nan if cell.seconds is None else cell.seconds,
                peak_mib=math.nan if cell.peak_mib is None else cell.peak_mib,
                key=cell.key,
                reason=cell.reason,
                together=cell.together,
            )
            cells.setdefault(entry.label, []).append(line)
            if cell.status is Status.DONE:
                sittings.append(
                    Sitting(entry.label, cell.seed, _reader(folder / predictions_file(entry, cell)))
                )
    curves, remark = Curves(), ""
    if wanted:
        try:
            curves, remark = curves_of(protocol.scenario(), sittings)
        except UserError as error:
            remark = f"Curves are left out: {error}."
    return Section(
        ranking=ranking, card=card_of_protocol(protocol), cells=cells, curves=curves, remark=remark
    )


def _reader(path: Path) -> Callable[[], list[StoredPrediction]]:
    return lambda: read_answers(path)


def _record_curves(records: Iterable[Record], scenario: Scenario, store: Store) -> tuple[Curves, str]:
    done = [record for record in records if record.status in (Status.DONE, Status.CACHED)]
    return curves_of(
        scenario, [Sitting(record.strategy, record.seed, _stored(store, record)) for record in done]
    )


def _stored(store: Store, record: Record) -> Callable[[], list[StoredPrediction]]:
    return lambda: store.answers(record)


def _line(record: Record, primary: str) -> CellLine:
    figure = (
        record.metrics.get(primary, math.nan) if record.status in (Status.DONE, Status.CACHED) else math.nan
    )
    return CellLine(
        seed=record.seed,
        status=record.status,
        figure=figure,
        seconds=record.seconds,
        peak_mib=record.peak_mib,
        key=record.key,
        reason=record.reason,
        together=record.together,
    )


def _parameters(record: Record) -> dict[str, str]:
    """A record keeps seed and scenario beside the strategy's own parameters."""
    return {
        name: value
        for name, value in record.params.items()
        if name != "seed" and not name.startswith("scenario.")
    }


def _environment(records: Sequence[Record], store: Store | None) -> list[Mapping[str, Any]]:
    """Return the environment of the first record: to read the files of all would take longer than the page."""
    if store is None:
        return []
    try:
        content = json.loads(store.file(records[0], "cell.json").read_text(encoding="utf-8"))
    except (UserError, OSError, ValueError):
        return []
    return [content.get("environment", {})]


def _distinct(environments: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return list(
        {json.dumps(environment, sort_keys=True): environment for environment in environments}.values()
    )


__all__ = ["MOST_SCORED", "CellLine", "Report", "Section", "report_of_board", "report_of_records"]
