"""What is rendered from a board: `README.md` with rankings, failures, how the numbers are made and how to
make them again; `board.csv`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from harness.results.aggregate import aggregate
from harness.results.costs import NOT_COMPARABLE
from harness.results.placing import POWER
from harness.results.ranking import Ranking
from harness.results.tables import (
    Table,
    aggregate_table,
    csv_text,
    escaped,
    failures_table,
    figures_table,
    markdown,
    ranking_notes,
    ranking_table,
    words,
)
from leaderboards.publishing.board import CSV, README, SOURCE, Board, BoardProtocol, entry_folder

_HOW = f"""\
- **Figures** are recomputed from the predictions in `entries/*/predictions` and the truth that the scenario deals, not copied from a run.
- **± is a 95 % interval** over seeds: mean ± t · s / √n, Student's t with n - 1 degrees of freedom. A seed changes everything random: the
  split, the order of classes, the initial weights, the batches. The interval speaks of new seeds on the same data, not of new data.
- **Versus best** is the mean difference from the best contender, paired by seed, with the interval of that one difference.
- **p** is the paired t-test against the best, Holm-corrected over all pairs of contenders that have every seed.
- **Letters**: two contenders share a letter exactly when this corrected test (5 %) does not tell them apart.
- **Places** are the range that it leaves open: "2-5" of 7 contenders says that one is better and two are worse. The bounds are not placed.
- **The smallest true difference** is what the corrected test finds with probability {POWER:.0%}, given the spread seen here.
- **Seconds** are the mean wall time of a whole cell (learning, predicting, all stages) in its worker; **peak MiB** is the largest memory of
  its process. \
"""
_ONE_MACHINE = "They compare cells of one machine, see below.\n"
_ONE_RUN = f"""\
They are of the cells that ran with most others, in one run on one machine; a strategy
  without any, or a difference between cells of several runs, is "{NOT_COMPARABLE}".
"""
_TIMES = """\
- **Times** that may not be reached within the budget have no mean: "300 (4 of 5)" is the Kaplan-Meier median over all cells that are done,
  of which 4 of 5 reached it; "not reached" is said where fewer than half did.
"""
_TOGETHER = """\
- **Cells that learned together** (`together` in `entry.yaml` says how many) share the seconds of their pack equally; the peak is that of
  the whole pack.
"""


_MOST_METRICS = 7
"""Metrics beside each other in one table; further ones get tables of their own below."""


def rendered(board: Board) -> dict[str, str]:
    """Return the text of every rendered file by name; equal boards give equal texts."""
    return {README: page(board), CSV: csv_text(board.rankings())}


def page(board: Board) -> str:
    """Return the whole page as Markdown."""
    header, rankings = board.header, board.rankings()
    parts = [
        f"# {header.suite.title or header.name}\n",
        f"{_count(len(board.entries), 'strategy', 'strategies')} on {_count(len(header.protocols), 'scenario')} under "
        f"{_count(header.suite.seeds, 'seed')}.\n",
        f"Board `{header.name}`, hash `{header.hash}`: only figures under this hash may be compared.\n",
        *([_chosen(board)] if header.suite.chosen else []),
        *[_scenario(protocol, ranking) for protocol, ranking in zip(header.protocols, rankings, strict=True)],
        *(_aggregate(rankings) if len(rankings) > 1 else []),
        *_contributions(board),
        "## Cells without a figure\n",
        _failures(rankings),
        "## How the numbers are made\n",
        _how(board),
        "### Measured on\n",
        _environments(board),
        *_accepted(board),
        "## Run it again\n",
        _again(board, rankings),
    ]
    return "\n".join(parts)


def _chosen(board: Board) -> str:
    """Say which configurations a search chose, and how."""
    return _bullets(
        f"`{label}`: {how.words}; space `{how.space}`." for label, how in board.header.suite.chosen.items()
    )


def _how(board: Board) -> str:
    has_times = any(metric.censored for protocol in board.header.protocols for metric in protocol.metrics)
    has_packs = any(cell.together > 1 for entry in board.entries for cell in entry.cells)
    has_sessions = any(cell.session for entry in board.entries for cell in entry.cells)
    return (
        _HOW
        + (_ONE_RUN if has_sessions else _ONE_MACHINE)
        + (_TIMES if has_times else "")
        + (_TOGETHER if has_packs else "")
    )


def _scenario(protocol: BoardProtocol, ranking: Ranking) -> str:
    data = ", ".join(f"{name} (`{digest[:12]}`)" for name, digest in protocol.content.get("data", {}).items())
    names = [metric.name for metric in protocol.metrics]
    meanings = [f"{words(metric.name)}: {metric.meaning}" for metric in protocol.metrics if metric.meaning]
    return "\n".join(
        [
            f"## `{protocol.label}`\n",
            (
                f"Protocol `{protocol.hash}`. Data: {data or 'none'}. Ranked by "
                f"{words(protocol.metrics[0].name)}.{division(protocol)}\n"
            ),
            markdown(ranking_table(ranking, metrics=names[:_MOST_METRICS])),
            *[
                markdown(figures_table(ranking, metrics=names[at : at + _MOST_METRICS]))
                for at in range(_MOST_METRICS, len(names), _MOST_METRICS)
            ],
            *([f"{'; '.join(meanings)}.\n"] if meanings else []),
            _bullets(ranking_notes(ranking)),
        ]
    )


def division(protocol: BoardProtocol) -> str:
    """Return the sentence on the weights that the network starts from, which set a protocol apart from all
    others; empty without any.
    """
    weights = protocol.content.get("weights")
    if not weights:
        return ""
    trained = escaped(weights["pretrained_on"] or "data that are not said")
    return (
        f" Division: weights `{weights['sha256'][:12]}` pretrained on {trained}, overlap with novel "
        f"classes: {weights['overlap']}."
    )


def _aggregate(rankings: Sequence[Ranking]) -> list[str]:
    found = aggregate(rankings)
    text = (
        "Each scenario's first metric is scaled seed by seed between its bounds: 0 is the lower bound, "
        "1 the upper bound.\n"
    )
    return ["## Over all scenarios\n", text, markdown(aggregate_table(found)), _bullets(found.notes)]


def _contributions(board: Board) -> list[str]:
    """Say what the parts contribute, where the board is an ablation."""
    from harness.studies.ablation import effects_table, metrics_table, notes
    from harness.studies.ablation.text import reference_line
    from leaderboards.publishing.ablation_on_board import board_report

    found = board_report(board)
    if found is None:
        return []
    lines = [
        f"## What the parts of `{found.ablation.strategy}` contribute\n",
        f"{found.ablation.design}: each line is a difference paired by seed, with its 95 % interval.\n",
    ]
    for part in found.parts:
        lines += [*([f"### `{part.label}`\n"] if len(found.parts) > 1 else []), markdown(effects_table(part))]
        lines += (
            [markdown(metrics_table(part, list(part.effects)[:_MOST_METRICS]))]
            if len(part.effects) > 1
            else []
        )
        lines += [f"{reference_line(found, part)}.\n"]
    return [*lines, _bullets(notes(found))]


def _failures(rankings: Sequence[Ranking]) -> str:
    table = failures_table(rankings)
    return markdown(table) if table.rows else "None: every cell has a figure.\n"


def _environments(board: Board) -> str:
    lines = []
    for entry in board.entries:
        for environment in entry.environments:
            said = {
                name.replace("_", " "): value for name, value in environment.items() if name != "libraries"
            }
            lines.append(
                ", ".join(
                    escaped(f"{name} {value}")
                    for name, value in {**said, **environment.get("libraries", {})}.items()
                )
            )
    return _bullets(dict.fromkeys(lines))


def _accepted(board: Board) -> list[str]:
    """Say which submissions the board took in, and who made them."""
    rows = []
    for version in board.accepted.current.values():
        if said := board.submissions.get(version.label):
            name = f"{said.name}, revision {version.revision}"
            texts = [", ".join(said.authors), said.method, said.reference, said.licence]
            rows.append([name, version.label, *texts, version.day.isoformat(), version.digest[:12]])
    header = ["submission", "strategy", "authors", "method", "reference", "licence", "accepted", "digest"]
    return ["## Accepted submissions\n", markdown(Table(header, rows))] if rows else []


def _again(board: Board, rankings: Sequence[Ranking]) -> str:
    best = next((ranking for ranking in rankings if ranking.best), None)
    folder = f"leaderboards/boards/{board.header.name}"
    lines = []
    copies = [
        shlex.join(
            [
                "cp",
                f"{folder}/{(entry_folder(entry.label) / SOURCE).as_posix()}",
                entry.strategy.rpartition(":")[0],
            ]
        )
        for entry in board.entries
        if ".py:" in entry.strategy
    ]
    if copies:
        lines += ["Strategies that were run from a file keep its text here. First put it where it was:\n"]
        lines += ["\n".join(["```", *copies, "```\n"])]
    lines += ["The whole board:\n", f"```\nowb run {folder}/protocol.yaml\n```\n"]
    if best and best.best:
        one = (
            f"owb run {shlex.quote(best.best)} --scenario {shlex.quote(best.scenario)} --seeds 1 --no-bounds"
        )
        lines += ["One cell (seed 0 of the best contender):\n", f"```\n{one}\n```\n"]
    return "\n".join(lines)


def _bullets(lines: Iterable[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"


__all__ = ["page", "rendered"]
