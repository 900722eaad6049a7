r"""Rankings as LaTeX tables in the booktabs style, one per protocol; every text of a board is escaped, so
that none becomes a command.

>>> escaped(r"a_b & \input{x}")
'a\\_b \\& \\textbackslash{}input\\{x\\}'
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from harness.results.printable import hides
from harness.results.ranking import Ranking
from harness.results.tables import Table, ranking_table

MOST_METRICS = 4
"""Metrics that fit beside each other on a page."""

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}


NEEDS = "% Needs \\usepackage[T1]{fontenc} and \\usepackage{booktabs}.\n\n"
"""What a document with such tables loads; T1 fonts for quotes."""


def latex(rankings: Sequence[Ranking]) -> str:
    """Return a table per ranking; the best contender and those not told apart from it are set in bold."""
    return NEEDS + "\n".join(_of_ranking(ranking) for ranking in rankings)


def latex_table(caption: str, table: Table, *, left: int) -> str:
    """Return a table of which the first `left` columns hold text, the others numbers."""
    return _floating(caption, table.header, [_line(cells) for cells in table.rows], left=left)


def _floating(
    caption: str, header: Sequence[str], lines: Sequence[str], *, left: int, label: str = ""
) -> str:
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(caption)}}}",
            *([rf"\label{{{label}}}"] if label else []),
            rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(header) - left)}}}",
            r"\toprule",
            _line(header),
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            "\\end{table}\n",
        ]
    )


def escaped(text: str) -> str:
    """Return `text` on one line with every special letter of LaTeX as itself; letters that do not print are
    left out.
    """
    line = "".join(letter for letter in " ".join(text.split()) if not hides(letter))
    return "".join(_ESCAPES.get(letter, letter) for letter in line)


def _of_ranking(ranking: Ranking) -> str:
    table = ranking_table(ranking, metrics=[metric.name for metric in ranking.metrics[:MOST_METRICS]])
    caption = (
        f"{ranking.scenario}, {len(ranking.seeds)} seeds, protocol {ranking.protocol_hash[:12]}; 95 % intervals "
        "over seeds. Two contenders share a letter exactly when the paired test, Holm-corrected over all pairs, "
        "does not tell them apart; bold: not told apart from the best."
    )
    label = f"tab:{ranking.protocol_hash[:12] if ranking.protocol_hash.isalnum() else 'board'}"
    return _floating(caption, table.header, _body(table, ranking.leaders), left=3, label=label)


def _body(table: Table, leading: Collection[str]) -> list[str]:
    """Return the rows, a rule between contenders and bounds."""
    lines: list[str] = []
    ruled = False
    for cells in table.rows:
        if cells[0].endswith("bound") and lines and not ruled:
            lines.append(r"\midrule")
            ruled = True
        lines.append(_line(cells, bold=cells[2] in leading))
    return lines


def _line(cells: Sequence[str], *, bold: bool = False) -> str:
    """Return a line of a table; `bold` sets the third cell so."""
    texts = [escaped(cell) for cell in cells]
    if bold:
        texts[2] = rf"\textbf{{{texts[2]}}}"
    return " & ".join(texts) + r" \\"


__all__ = ["MOST_METRICS", "NEEDS", "escaped", "latex", "latex_table"]
